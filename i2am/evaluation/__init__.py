"""Score a try-on model on a whole data set: batched, resumable, on as many processes as there are.

from i2am.evaluation import TryOn, evaluate
"""

from i2am.needed import need

need("an evaluation", "accelerate", "PIL", "matplotlib", "tqdm", "scipy")  # its report is made when everything is painted

from i2am.evaluation.models import TryOn, resolve  # noqa: E402
from i2am.evaluation.options import Options  # noqa: E402
from i2am.evaluation.run import evaluate  # noqa: E402

__all__ = ["Options", "TryOn", "evaluate", "resolve"]
