"""Packages that only some of the work needs: what is absent is said before any of it is done."""

from __future__ import annotations

import importlib.util

EXTRAS = {  # module -> its package, and the extra that brings it
    "accelerate": ("accelerate", "diffusers"),
    "diffusers": ("diffusers", "diffusers"),
    "transformers": ("transformers", "diffusers"),
    "matplotlib": ("matplotlib", "pictures"),
    "PIL": ("Pillow", "pictures"),
    "tqdm": ("tqdm", "pictures"),
    "scipy": ("scipy", "metrics"),
    "torchmetrics": ("torchmetrics", "metrics"),
    "spacy": ("spaCy", "syntax"),
}


def need(what: str, *modules: str) -> None:
    """Say which of these are absent, and how they are installed; nothing is imported."""
    absent = [EXTRAS[module] for module in modules if importlib.util.find_spec(module) is None]
    if absent:
        names, extras = (list(dict.fromkeys(part)) for part in zip(*absent))
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        raise ImportError(f"i2am: {what} needs {listed}. pip install 'i2am[{','.join(extras)}]'")
