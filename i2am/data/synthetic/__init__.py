"""A procedural try-on world whose garment-to-person correspondence is known exactly.

`write_vitonhd` writes pairs as a VITON-HD tree, with the truth beside them; `draw` gives them as tensors.

Begin with: `pairs.py`; `shapes.py` and `textures.py` are what it draws, `numbers.py` why pair 7 is always pair 7.
"""

from i2am.data.synthetic.disk import read_truth, write_vitonhd
from i2am.data.synthetic.pairs import Pairs, draw, numbers, unit

__all__ = ["Pairs", "draw", "numbers", "read_truth", "unit", "write_vitonhd"]
