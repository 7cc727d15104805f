"""Score a try-on model on a whole data set: batched, resumable, on as many processes as there are.

from i2am.evaluation import TryOn, evaluate
"""

from i2am.evaluation.models import TryOn, resolve
from i2am.evaluation.options import Options
from i2am.evaluation.run import evaluate

__all__ = ["Options", "TryOn", "evaluate", "resolve"]
