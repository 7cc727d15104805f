"""The same numbers at other places in memory: kernels of some libraries sum in another order where an address is not a multiple of 64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ALIGNED = 64  # bytes, of what torch makes on a CPU
OFFSETS = (4, 8, 24, 36)  # bytes beyond a multiple of it: 8 and 24 are where mapped files of weights lay here


def displaced(tensor: Tensor, offset: int) -> Tensor:
    """A copy with the same strides, `offset` bytes beyond a multiple of 64."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))  # elements from the first to the last
    bytes = tensor.element_size() * span
    raw = torch.empty(bytes + 2 * ALIGNED, dtype=torch.uint8, device="cpu")
    start = -raw.data_ptr() % ALIGNED + offset
    out = raw[start : start + bytes].view(tensor.dtype).copy_(tensor.as_strided((span,), (1,)))
    assert out.data_ptr() % ALIGNED == offset % ALIGNED
    return out.as_strided(tensor.shape, tensor.stride(), out.storage_offset())


def displace(module: nn.Module, offset: int) -> None:
    """Move every parameter and buffer of a module on the CPU, as a file that is mapped into memory does."""
    for one in (*module.parameters(), *module.buffers()):
        if one.device.type == "cpu" and one.numel():
            one.data = displaced(one.data, offset)
