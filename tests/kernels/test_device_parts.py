"""Streaming on a device that is no CPU, as far as it shows without one: on meta tensors, how many operations a call launches."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.operator import judge
from benchmarks.operator.shapes import SHAPES, arguments
from i2am_kernels import parts
from i2am_kernels import streaming as streaming_backend
from i2am_kernels.streaming import streaming

VIEWS = (
    "view",
    "expand",
    "slice",
    "select",
    "transpose",
    "squeeze",
    "split",
    "empty",
    "permute",
    "detach",
    "alias",
    "unflatten",
    "aten.t.",
)


class Launched(TorchDispatchMode):
    """Operations that would be kernels on a device: all but those that look at memory otherwise."""

    count, largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not any(view in str(func) for view in VIEWS):
            self.count += 1
            self.largest = max(self.largest, out.numel() if isinstance(out, torch.Tensor) else 0)
        return out


def library(call):
    batch, heads, generated, _ = call.canvas
    return call.empty_output(), call.query.new_empty(batch, heads, generated, dtype=torch.float32)


@pytest.mark.parametrize(("name", "batch", "most"), [("warp_3072", 8, 700), ("words_77", 8, 350), ("warp_192", 8, 350), ("joint", 2, 1000)])
def test_a_call_launches_hundreds_of_operations_not_thousands(name, batch, most, monkeypatch):
    monkeypatch.setattr(streaming_backend, "forward", library)  # the meta device has none that returns L
    call = judge.call_of(arguments(SHAPES[name], batch, torch.bfloat16, torch.device("meta")))
    with Launched() as launched:
        streaming(call)
    assert 50 < launched.count <= most  # as many as ten times that where parts are a CPU's
    operands = max(tensor.numel() for tensor in (call.query, call.key)) * 3 // 2  # a row's are copied, with a column more
    assert launched.largest <= max(parts.DEVICE_BYTES // 4, operands)


def test_a_part_is_a_share_of_the_devices_memory(monkeypatch):
    class Device:
        total_memory = 8 << 30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Device)
    parts.device_bytes.cache_clear()
    assert parts.device_bytes(torch.device("cuda", 0)) == 128 << 20
    assert parts.device_bytes(torch.device("meta")) == parts.DEVICE_BYTES
    parts.device_bytes.cache_clear()
