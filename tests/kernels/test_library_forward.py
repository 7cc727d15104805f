"""Whose forward sweep a call takes, and what is made of a library's L."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.operator import judge
from i2am_kernels import forward, tiles, triton_backend


def call_of(device="cpu", dtype=torch.float32, **more):
    query, key = torch.randn(2, 3, 33, 40, dtype=dtype), torch.randn(2, 3, 19, 40, dtype=dtype)
    buffers = {"r2g": torch.zeros(2, 3, 33), "g2r": torch.zeros(2, 3, 19)}
    given = {"query": query, "key": key, "value": key, **buffers, **more}
    return judge.call_of({name: t.to(device) if isinstance(t, torch.Tensor) else t for name, t in given.items()})


def test_cudnn_gives_l_a_number_a_row():
    """On the meta device, whose kernel has the shapes of the real one: [B, H, G, 1]."""
    out, lse = forward.cudnn(call_of("meta", torch.bfloat16))
    assert out.shape == (2, 3, 33, 40)
    assert lse.shape == (2, 3, 33)


def test_l_is_of_the_canvas_and_in_binary_orders():
    call = call_of(rows=(1, 2), generated=(4, 30), r2g=torch.zeros(1, 3, 26), g2r=torch.zeros(1, 3, 19))
    scores = call.query.double() @ call.key.double().mT * call.scale
    wanted = scores.logsumexp(-1)[1:2, :, 4:30] * forward.LOG2E
    torch.testing.assert_close(forward.forward(call, "flash")[1].double(), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(forward.forward(call, "cudnn")[1].double(), wanted, rtol=1e-6, atol=1e-6)  # no library here: chunks


def test_cudnn_is_for_nvidia_alone():
    call = call_of()
    assert forward.has_forward("flash", call)
    assert not forward.has_forward("cudnn", call)
    wide = torch.randn(2, 3, 19, 48)
    assert not forward.has_forward("flash", call_of(value=wide))


@pytest.mark.parametrize(
    ("wanted", "can", "taken"),
    [("own", {"flash", "cudnn"}, "own"), ("cudnn", {"flash", "cudnn"}, "cudnn"), ("cudnn", {"flash"}, "flash"), ("flash", set(), "own")],
)
def test_auto_takes_the_measured_forward_or_the_next_that_takes_the_call(wanted, can, taken, monkeypatch):
    monkeypatch.setattr(triton_backend, "capability", lambda device: (9, 0))
    monkeypatch.setattr(triton_backend, "has_forward", lambda name, call: name in can)
    monkeypatch.setitem(tiles.ROUTES, ((9, 0), 40), wanted)
    assert triton_backend.route_of(call_of()) == taken


def test_without_a_row_the_route_is_flash():
    assert tiles.route(64, None) == tiles.route(64, (8, 9)) == "flash"


@pytest.mark.parametrize(
    ("dtype", "size", "takes"), [("float32", 128, True), ("float32", 160, False), ("bfloat16", 256, True), ("bfloat16", 264, False)]
)
def test_head_sizes_that_do_not_fit_into_a_gpus_registers_go_to_streaming(dtype, size, takes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    heads = SimpleNamespace(device=torch.device("cuda"), dtype=getattr(torch, dtype), shape=(1, 1, 8, size))
    reason = triton_backend.missing(SimpleNamespace(query=heads, value=heads))
    assert (reason is None) == takes
    assert takes or 'backend="streaming"' in reason
