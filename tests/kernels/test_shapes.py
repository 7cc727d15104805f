"""Every route against the truth over shapes, strides, dtypes and counts of maps; each shape has its reason beside it."""

from dataclasses import replace

import pytest
import torch
from cases import FUSED, ROUTES, STREAMING, TRITON, check, make, run, transposed

from i2am_kernels import bi_attention

TOKENS = {
    "one each": (1, 1),  # every softmax is over one number
    "one query": (1, 111),  # C is all ones
    "one key": (111, 1),  # P is all ones
    "odd": (63, 111),  # tails on both sides
    "whole tiles": (64, 96),  # no tail on either side: other branches of the sweeps
    "wide": (9, 257),  # one more than a tile of keys, a tail of one key
    "tall": (129, 9),  # many queries, few keys: the queries are split
}


@pytest.mark.parametrize("tokens", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize("route", ROUTES)
def test_token_counts(route, tokens):
    check(make(heads=1, tokens=tokens, words=3), route)
    check(make(heads=1, tokens=tokens, words=3, columns=3), route)


@pytest.mark.parametrize("size", [8, 20, 40, 64, 80, 160, 256])
@pytest.mark.parametrize("route", ["streaming", "streaming blocks", "triton", "triton own forward", "triton library forward split"])
def test_head_sizes(route, size):
    """8 is under a tile's smallest side, 20 no multiple of 8, 40, 80 and 160 fall into two parts, 256 is the largest."""
    check(make(heads=1, tokens=(33, 40), size=size, columns=2), route)


@pytest.mark.parametrize(("size", "dv"), [(16, 24), (40, 16), (16, 160)])
@pytest.mark.parametrize("route", FUSED)
def test_values_of_another_size(route, size, dv):
    """The library forward does not take these: L comes in chunks, or from our own sweep."""
    check(make(heads=1, tokens=(33, 40), size=size, dv=dv), route)


def test_streaming_wants_no_head_size_limit():
    check(make(heads=1, tokens=(33, 300), size=300), "streaming")


@pytest.mark.parametrize("route", STREAMING)
def test_a_layer_of_a_real_model(route):
    """768 x 3072 at head size 40: the mid layer of a 512 x 384 model beside a garment at full size; many blocks and parts."""
    check(make(heads=3, tokens=(768, 3072), size=40), route)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tokens", [(63, 111), (9, 257)], ids=["one tile", "general"])
@pytest.mark.parametrize("route", FUSED)
def test_half_precision(route, dtype, tokens):
    check(make(heads=1, tokens=tokens, size=40, dtype=dtype, words=2), route)
    check(make(heads=1, tokens=tokens, size=40, dtype=dtype, words=2, columns=2), route)


@pytest.mark.parametrize("weightings", [1, 3, 17, 70])
@pytest.mark.parametrize("route", ROUTES)
def test_several_weightings(route, weightings):
    """One; fewer than a tile's smallest side; one more than it; more than one visit serves (64)."""
    check(make(tokens=(33, 40), weightings=weightings), route)


@pytest.mark.parametrize("words", [1, 5, 130])
@pytest.mark.parametrize("route", ROUTES)
def test_several_token_maps(route, words):
    """One word; few; more than fit beside one tile (128) and than one visit serves (64)."""
    check(make(tokens=(33, 40), words=words, weighted=True), route)


@pytest.mark.parametrize("columns", [1, 6, 20, 33])
@pytest.mark.parametrize("route", ROUTES)
def test_several_column_maps(route, columns):
    """One; a field's six; more than one visit serves (16), and more than two, each beside one weighting of the first alone."""
    check(make(tokens=(33, 40), columns=columns, weighted=True), route)
    check(make(tokens=(129, 9), columns=columns, weightings=3), route)


@pytest.mark.parametrize("route", ROUTES)
def test_everything_at_once(route):
    case = make(
        batch=3, tokens=(45, 90), size=20, dv=12, weightings=2, words=4, columns=5, weighted=True, scale=0.3,
        rows=(1, 3), generated=(7, 41), reference=(33, 88), attn_mask=torch.rand(3, 1, 45, 90) > 0.4,
    )  # fmt: skip
    check(case, route)


@pytest.mark.parametrize(
    "ranges",
    [
        {"rows": (0, 1)},
        {"rows": (2, 3)},
        {"generated": (0, 1)},
        {"generated": (0, 32)},
        {"generated": (32, 33)},
        {"reference": (0, 1)},
        {"reference": (0, 32)},
        {"reference": (39, 40)},
        {"rows": (1, 2), "generated": (31, 33), "reference": (31, 33)},
    ],
    ids=str,
)
@pytest.mark.parametrize("route", ROUTES)
def test_ranges(route, ranges):
    """First and last tokens alone, a whole tile, and two tokens that straddle a tile's edge."""
    check(make(batch=3, heads=1, tokens=(33, 40), words=2, columns=2, **ranges), route)


def laid_out(name, tensor):
    """The same numbers behind other strides."""
    if name == "transposed":  # [B, tokens, H, D], as a projection leaves them
        return transposed(tensor)
    if name == "sliced":  # every other head of a wider tensor, one row in
        wide = torch.full((tensor.shape[0] + 1, 2 * tensor.shape[1], *tensor.shape[2:]), torch.nan)
        wide[1:, ::2] = tensor
        return wide[1:, ::2]
    if name == "scattered":  # the last dimension is not contiguous
        return tensor.transpose(2, 3).contiguous().transpose(2, 3)
    return tensor[:1, :1].expand_as(tensor)  # expanded: all rows and heads are one


@pytest.mark.parametrize("layout", ["transposed", "sliced", "scattered", "expanded"])
@pytest.mark.parametrize("route", ROUTES)
def test_strides(route, layout):
    case = make(batch=2, tokens=(33, 40), words=2, columns=3, weighted=True)
    views = {name: laid_out(layout, getattr(case, name)) for name in ("query", "key", "value")}
    assert layout == "transposed" or not views["key"].is_contiguous()
    options = {name: t.mT.contiguous().mT if layout == "scattered" else t for name, t in case.options.items()}
    check(replace(case, options=options, **views), route)


@pytest.mark.parametrize("route", ROUTES)
def test_expanded_weights(route):
    """One set of weights for all rows, as the message about their length advises."""
    case = make(batch=2, tokens=(33, 40), words=2, columns=2, weighted=True)
    check(replace(case, options={name: t[:1].expand_as(t) for name, t in case.options.items()}), route)


@pytest.mark.parametrize("route", ROUTES)
def test_buffers_may_be_views_and_neighbours_stay(route):
    """Slots of larger tensors, the tokens of one buffer strided too; everything else keeps its NaN."""
    case = make(batch=2, tokens=(33, 40), words=3, columns=3, weightings=2)
    large, views = {}, {}
    for name, buffer in case.buffers().items():
        large[name] = torch.full((*buffer.shape[:-1], 3, 2, buffer.shape[-1] + 2), torch.nan)
        views[name] = large[name][..., 1, 1, 1:-1]
    large["r2g"] = torch.full((2, 2, 33, 5), torch.nan)
    views["r2g"] = large["r2g"][..., 3]
    for view in views.values():
        view.zero_()
    run(case, route, views)
    right = run(case, route).maps
    for name, view in views.items():
        assert torch.equal(view, right[name]), name
        view.fill_(torch.nan)
        assert large[name].isnan().all(), f"{name}: a neighbour was written"


@pytest.mark.parametrize("route", TRITON + STREAMING)
def test_inputs_stay_as_they_are(route):
    case = make(tokens=(33, 40), words=2, columns=2, weighted=True, attn_mask=torch.randn(33, 40))
    before = {name: t.clone() for name, t in [*vars(case).items(), *case.options.items()] if isinstance(t, torch.Tensor)}
    run(case, route)
    for name, t in before.items():
        assert torch.equal(t, case.options.get(name, getattr(case, name, None))), name


@pytest.mark.parametrize("r2g", [False, True], ids=["", "r2g"])
@pytest.mark.parametrize("g2r", [False, True], ids=["", "g2r"])
@pytest.mark.parametrize("words", [0, 3], ids=["", "token_maps"])
@pytest.mark.parametrize("columns", [0, 3], ids=["", "column_maps"])
@pytest.mark.parametrize("route", ROUTES)
def test_any_choice_of_maps(route, r2g, g2r, words, columns):
    maps = tuple(name for name, wanted in (("r2g", r2g), ("g2r", g2r)) if wanted)
    check(make(tokens=(33, 40), maps=maps, words=words, columns=columns), route)


def test_auto_takes_the_call():
    case = make(tokens=(33, 40), words=2)
    one, buffers = run(case, "streaming"), case.buffers()
    got = bi_attention(case.query, case.key, case.value, **buffers, **case.options)
    torch.testing.assert_close(got, one.out)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, one.maps[name])
