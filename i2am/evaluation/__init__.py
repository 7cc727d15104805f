"""Score a try-on model on a whole data set: batched, resumable, on as many processes as there are.

Imports: models, score, data, attach, maps, common.
Begin with: `run.py`, the evaluation from its first pair to its report; `tryon.py` is what a model of your own must be.
"""

from i2am.common.extras import need

need("an evaluation", "accelerate", "PIL", "matplotlib", "tqdm", "scipy")  # its report is made when everything is painted

from i2am.evaluation.model_names import resolve  # noqa: E402
from i2am.evaluation.options import Options  # noqa: E402
from i2am.evaluation.run import evaluate  # noqa: E402
from i2am.evaluation.tryon import TryOn  # noqa: E402

__all__ = [
    "Options",
    "TryOn",
    "batches",
    "built_in",
    "evaluate",
    "options",
    "painter",
    "processes",
    "provenance",
    "report",
    "report_charts",
    "report_parts",
    "rescore",
    "resolve",
    "run",
    "shards",
]
