"""Sizes that change under torch.compile: the door takes symbols, and costs no graph that scaled_dot_product_attention does not cost."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F
from cases import Case, make
from counting import Counting

from i2am_kernels import bi_attention

HEADS = 3  # unlike any other size, which torch would take for the same symbol
SHAPES = [(2, 9, 7), (2, 12, 7), (4, 20, 11), (4, 6, 13), (6, 12, 7)]  # batch, generated and reference tokens
WHOLE = {"words": 2, "columns": 2, "weighted": True}


def mask(batch: int, generated: int, reference: int) -> torch.Tensor:
    some = torch.rand(batch, HEADS, generated, reference) > 0.3
    some[..., 0] = True
    return some


OPTIONS = {
    "maps": lambda *sizes: {},
    "everything": lambda *sizes: WHOLE,
    "words alone": lambda *sizes: {"maps": (), "words": 2},
    "columns alone": lambda *sizes: {"maps": (), "columns": 2},
    "several weightings": lambda *sizes: {"weightings": 3},
    "no buffers": lambda *sizes: {"maps": ()},
    "scale": lambda *sizes: {"scale": 0.3},
    "ranges": lambda b, g, r: {**WHOLE, "rows": (b // 2, b), "generated": (1, g - 1), "reference": (2, r - 1)},
    "bool [R]": lambda *sizes: {"attn_mask": mask(*sizes)[0, 0, 0]},
    "bool [G, R]": lambda *sizes: {"attn_mask": mask(*sizes)[0, 0]},
    "bool [B, 1, 1, R]": lambda *sizes: {"attn_mask": mask(*sizes)[:, :1, :1]},
    "bool [B, 1, G, 1]": lambda *sizes: {"attn_mask": mask(*sizes)[:, :1, :, :1]},
    "bool expanded": lambda *sizes: {"attn_mask": mask(*sizes)[:, :1, :1].expand(sizes[0], HEADS, *sizes[1:])},
    "added [1, H, G, R]": lambda *sizes: {"attn_mask": mask(*sizes)[:1].float().log()},
    "added [B, H, G, R]": lambda *sizes: {"attn_mask": mask(*sizes).float()},
}


def ours(case: Case, buffers: dict[str, torch.Tensor]) -> torch.Tensor:
    return bi_attention(case.query * 1.5, case.key, case.value, **buffers, **case.options).transpose(1, 2).flatten(2) + 1


def theirs(case: Case, buffers: dict[str, torch.Tensor]) -> torch.Tensor:
    """The same function without maps, over tensors of the same sizes."""
    for buffer in buffers.values():
        buffer.add_(1)
    mask = case.options.get("attn_mask")
    mask = mask[None] if mask is not None and mask.ndim == 1 else mask
    out = F.scaled_dot_product_attention(case.query * 1.5, case.key, case.value, attn_mask=mask, scale=case.options.get("scale"))
    return out.transpose(1, 2).flatten(2) + 1


def compiled(function, backend: str = "eager", **how) -> tuple:
    torch._dynamo.reset()
    counting = Counting(backend)
    return torch.compile(function, fullgraph=True, backend=counting, **how), counting


def drawn(kind: str, sizes: tuple[int, int, int]) -> Case:
    batch, *tokens = sizes
    return make(batch=batch, heads=HEADS, tokens=tuple(tokens), size=8, **OPTIONS[kind](*sizes))


def held(function, case: Case) -> None:
    """The compiled function's output and maps are the eager one's."""
    one, two = case.buffers(), case.buffers()
    torch.testing.assert_close(function(case, one), ours(case, two))
    for name, buffer in one.items():
        assert buffer.ne(0).any()
        torch.testing.assert_close(buffer, two[name])


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_option_at_several_sizes(kind):
    counts = []
    for reference in (True, False):
        function, counting = compiled(theirs if reference else ours)
        for sizes in SHAPES:
            case = drawn(kind, sizes)
            if reference:
                function(case, case.buffers())
            else:
                held(function, case)
        counts.append(len(counting.graphs))
    assert counts[1] <= counts[0] < len(SHAPES)


@pytest.mark.parametrize("how", [{"dynamic": True}, {"backend": "aot_eager"}], ids=str)
@pytest.mark.parametrize("kind", ["everything", "ranges"])
def test_sizes_that_are_symbols_from_the_first_call_on(kind, how):
    function, counting = compiled(ours, **how)
    for sizes in SHAPES:
        held(function, drawn(kind, sizes))
    assert len(counting.graphs) <= 4  # 1, tokens, rows; and one row with maps, which torch always takes for itself


def test_dimensions_that_are_marked_dynamic():
    """torch refuses to compile where a marked size was looked at."""
    function, counting = compiled(ours)
    for sizes in SHAPES:
        case = drawn("maps", sizes)
        buffers = case.buffers()
        for tensor in (case.query, case.key, case.value, *buffers.values()):
            torch._dynamo.mark_dynamic(tensor, 0)
            torch._dynamo.mark_dynamic(tensor, 2)
        function(case, buffers)
    assert len(counting.graphs) == 1


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="inductor wants a C++ compiler on a CPU")
def test_inductor_at_several_sizes():
    function, _ = compiled(ours, "inductor", dynamic=True)
    for sizes in SHAPES[:3]:
        held(function, drawn("everything", sizes))


def test_views_and_ranges_given_from_outside():
    """As a model hands them over: tokens before heads in memory, slots of larger buffers, ranges as arguments."""

    def layer(hidden, context, slots, rows, generated):
        query, key = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (hidden, context))
        return bi_attention(query, key, key, r2g=slots["r2g"][1], g2r=slots["g2r"][1], rows=rows, generated=generated)

    function, counting = compiled(layer)
    for batch, generated, reference in [(4, 9, 7), (4, 12, 7), (8, 20, 11), (6, 14, 13), (12, 7, 9)]:
        tokens = torch.randn(batch, generated, HEADS * 8), torch.randn(batch, reference, HEADS * 8)
        shapes = {"r2g": (2, batch // 2, HEADS, generated - 3), "g2r": (2, batch // 2, HEADS, reference)}
        one, two = ({name: torch.zeros(shape) for name, shape in shapes.items()} for _ in range(2))
        ranges = (batch // 2, batch), (2, generated - 1)
        torch.testing.assert_close(function(*tokens, one, *ranges), layer(*tokens, two, *ranges))
        for name, slots in one.items():
            torch.testing.assert_close(slots, two[name])
    assert len(counting.graphs) <= 3


WRONG = {
    "r2g": (lambda case, buffers: buffers.update(r2g=torch.zeros(2, HEADS, 8)), "r2g must be float32 [B', H, G'] = (2, 3, 12) on"),
    "value": (lambda case, buffers: object.__setattr__(case, "value", case.value[:, :, 1:]), "value must be [2, 3, 7, Dv]"),
    "mask": (lambda case, buffers: case.options.update(attn_mask=torch.ones(12, 5)), "[B, H, G, R] = (2, 3, 12, 7), got (12, 5)"),
    "range": (lambda case, buffers: case.options.update(generated=(3, 13)), "stop <= 12 (query tokens), got (3, 13)"),
    "token_weight": (lambda case, buffers: case.options.update(token_weight=torch.ones(2, 7, 4)), "[B', R', n] = (2, 7, 2) for all"),
    "strides": (lambda case, buffers: buffers.update(r2g=torch.zeros(2, HEADS, 1).expand(2, HEADS, 12)), "got strides (3, 1, 0)"),
}


@pytest.mark.parametrize("whole", [True, False], ids=["fullgraph", "graph breaks"])
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_with_numbers(kind, whole):
    """Where a graph may break, by the ValueError itself; else torch says that one was seen: the newer its version, the more of it."""
    change, message = WRONG[kind]
    torch._dynamo.reset()
    function = torch.compile(ours, fullgraph=whole, backend="eager", dynamic=True)
    case = make(batch=2, heads=HEADS, tokens=(12, 7), size=8, words=2)
    buffers = case.buffers()
    change(case, buffers)
    with pytest.raises(torch._dynamo.exc.Unsupported if whole else ValueError) as refused:
        function(case, buffers)
    said = str(refused.value)
    assert message in said or (whole and "bserved exception" in said), said
