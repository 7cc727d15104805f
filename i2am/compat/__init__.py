"""Other projects' interfaces over our maps: the paper's release (`i2am_release`) and DAAM (`daam`); change the import, keep the script.

Imports: attach, data, families, language, maps, common.
Begin with: `daam.py`, then `i2am_release.py`, whose runs `watch.py` follows without a sampler.
"""

__all__ = ["daam", "i2am_release"]
