"""DAAM's studies on any model: words segmented, syntax, entanglement.

Imports: evaluation, models, score, data, attach, families, maps, show, language, common.
Begin with: `run.py`, which paints a list of prompts with word maps; `words.py` is the first of the studies.
"""

from i2am.common.extras import need

need("a study", "accelerate", "PIL", "matplotlib", "tqdm", "scipy", "diffusers", "transformers")  # before anything is painted

__all__ = ["adjectives", "options", "painted", "pairs", "run", "segment", "syntax", "words"]
