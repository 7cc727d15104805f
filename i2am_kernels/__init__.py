"""Attention that adds up its own maps: output, reference-to-generated and generated-to-reference sums in one operator."""

from i2am_kernels.op import bi_attention, bi_attention_reference

__all__ = ["bi_attention", "bi_attention_reference"]
