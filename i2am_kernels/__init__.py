"""Attention that adds up its own maps: output, reference-to-generated and generated-to-reference sums in one operator.

Imports: nothing of this project.
Begin with: `reference.py`, the definition; `op.py`, the public function; `streaming.py` (any device) and `sweeps/` (Triton).
"""

from i2am_kernels.differentiable import bi_attention_maps
from i2am_kernels.fields import field, moments
from i2am_kernels.op import bi_attention, bi_attention_reference
from i2am_kernels.relevance import relevance

__all__ = ["bi_attention", "bi_attention_maps", "bi_attention_reference", "field", "moments", "relevance"]
