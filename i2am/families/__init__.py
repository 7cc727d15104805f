"""Where each family of models keeps its reference: one rule a family, and what is known of every pipeline.

Imports: common, maps.
Begin with: `family.py`, what a family and a rule are; `registry.py`, all of them; `flux.py`, the shortest rules; `pipelines.py`, what is
known of the pipelines.
"""

__all__ = ["beside", "family", "known", "pipelines", "registry", "unet"]
