"""Where attention is awkward: masks of every kind, rows and columns without keys, logits hundreds of nats apart,
scratch full of NaN, the same bits twice, and offsets beyond 32 bits."""

import math
from dataclasses import replace

import pytest
import torch
from cases import FUSED, ROUTES, STREAMING, check, compare, make, run, truth
from hazards import with_scores

from i2am_kernels import bi_attention, parts, streaming

B, H, G, R = 2, 2, 33, 40  # two tiles a side under the interpreter, the last of them partial
LOWEST = torch.finfo(torch.float32).min


def hidden_row(mask):
    mask[0, 0, 5] = False
    mask[1, 0, 30:] = False  # the end of a tile and all of the next
    return mask


def masks():
    generator = torch.Generator("cpu").manual_seed(1)
    some = (torch.rand(B, 1, G, R, generator=generator) > 0.5).to(torch.get_default_device())
    noise = torch.randn(B, H, G, R, generator=generator).to(torch.get_default_device())
    column = some.clone()
    column[1, :, :, 7] = False
    column[:, :, :, 32:] = False  # all of a tile
    nothing = some.clone()
    nothing[1] = False
    return {
        "bool [G, R]": some[0, 0],
        "bool [B, 1, 1, R]": some[:, :, :1],
        "bool [B, 1, G, 1]": hidden_row(some.clone())[..., :1],
        "bool [R]": some[0, 0, 0],
        "bool expanded": some[:, :, :1].expand(B, H, G, R),
        "added [1, H, G, R]": noise[:1],
        "added [B, H, G, R] transposed": noise.mT.contiguous().mT,
        "added finfo.min": torch.where(some, 0.0, LOWEST),
        "added -inf": torch.where(some, noise, -math.inf),
        "added -10000": torch.where(some, noise, -10000.0),
        "added float16": noise.half(),
        "added float64": noise.double(),
        "rows hidden": hidden_row(some.clone()),
        "rows hidden by -inf": torch.where(hidden_row(some.clone()), noise, -math.inf),
        "rows hidden by finfo.min": torch.where(hidden_row(some.clone()), noise, LOWEST),
        "rows at -10000": torch.where(hidden_row(some.clone()), 0.0, -10000.0),
        "columns hidden": column,
        "one batch row hidden": nothing,
        "one batch row hidden, bool [B, 1, 1, 1]": nothing[:, :, :1, :1],
    }


@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("route", ROUTES)
def test_masks(route, kind):
    check(make(batch=B, tokens=(G, R), words=2, columns=2, attn_mask=masks()[kind]), route)


@pytest.mark.parametrize("kind", ["rows hidden", "columns hidden", "one batch row hidden", "added finfo.min", "added -inf", "bool [G, R]"])
@pytest.mark.parametrize("route", ROUTES)
def test_masks_and_ranges(route, kind):
    """A range may leave a row without keys inside it that has keys outside; the mask is cut, not restarted."""
    ranges = {"rows": (1, 2), "generated": (3, 30), "reference": (5, 38)}
    check(make(batch=B, tokens=(G, R), columns=3, attn_mask=masks()[kind], **ranges), route)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bool [B, 1, 1, R]", "added -10000", "rows hidden", "rows hidden by finfo.min", "added [1, H, G, R]"])
@pytest.mark.parametrize("route", [*STREAMING, "triton library forward split"])
def test_half_precision_tokens_under_a_mask(route, dtype, kind):
    """The mask keeps its own precision: a float32 bias rounded to half on the way to L would not be the bias of S."""
    check(make(batch=B, tokens=(G, R), columns=2, dtype=dtype, attn_mask=masks()[kind]), route)


@pytest.mark.parametrize("options", [{"rows": (1, 2)}, {"dv": 24}], ids=["row without maps", "no library forward"])
@pytest.mark.parametrize("route", FUSED)
def test_output_of_half_precision_tokens_under_a_float32_mask(route, options):
    """Where the output comes from scaled_dot_product_attention, the bias goes there unrounded too."""
    bias = 30 * torch.randn(B, 1, G, R)
    check(make(batch=B, tokens=(G, R), dtype=torch.bfloat16, attn_mask=bias, **options), route)


@pytest.mark.parametrize("route", ROUTES)
def test_hidden_rows_and_columns_have_no_maps(route):
    mask = torch.ones(B, 1, G, R, dtype=torch.bool)
    mask[0, 0, 5] = mask[1, :, :, 7] = False
    got = run(make(batch=B, tokens=(G, R), words=2, columns=2, attn_mask=mask), route)
    assert got.out.isfinite().all()
    assert got.maps["r2g"][0, :, 5].eq(0).all()
    assert got.maps["token_maps"][0, :, :, 5].eq(0).all()
    assert got.maps["g2r"][1, :, 7].eq(0).all()
    assert got.maps["column_maps"][1, :, :, 7].eq(0).all()
    assert got.maps["column_maps"][0].gt(0).all()
    assert got.maps["g2r"][0].gt(0).all()


def logits():
    """The table of hazards: what each row of it does to a shared exponent or an unguarded column sum."""
    base = torch.randn(G, R, generator=torch.Generator("cpu").manual_seed(2)).to(torch.get_default_device())
    made = {}
    for nats in (70, 85, 100, 300):
        made[f"column {nats} nats under the rest"] = base.clone()
        made[f"column {nats} nats under the rest"][:, 3] -= nats
    for nats in (100, 200):
        made[f"one logit +{nats}"] = base.clone()
        made[f"one logit +{nats}"][7, 9] += nats
    made["row offsets"] = base + 150 * torch.linspace(-1, 1, G)[:, None]
    made["column offsets"] = base + 150 * torch.linspace(-1, 1, R)
    made["row and column offsets"] = made["row offsets"] + 150 * torch.linspace(-1, 1, R)
    made["+-400"] = 400 * base.sign()
    made["up to 400, peaked"] = 100 * base
    for nats in (50, 60, 75, 200):  # in one row, in every other; the scores of the others are ordinary
        made[f"first key of a row -{nats}"] = base.clone()
        made[f"first key of a row -{nats}"][1, 0] -= nats
        made[f"first key of odd rows -{nats}"] = base.clone()
        made[f"first key of odd rows -{nats}"][1::2, 0] -= nats
    made["constant"] = torch.full((G, R), 3.0)
    made["constant -400"] = torch.full((G, R), -400.0)
    made["one key takes all"] = torch.where(torch.arange(R) == 35, 90.0, base)
    made["one query takes all"] = torch.where(torch.arange(G)[:, None] == 32, 90.0, base)
    made["zero"] = torch.zeros(G, R)
    return made


@pytest.mark.parametrize("kind", logits())
@pytest.mark.parametrize("route", ROUTES)
def test_adversarial_logits(route, kind):
    check(with_scores(logits()[kind], words=2, columns=2), route)


@pytest.mark.parametrize("kind", ["column 100 nats under the rest", "column offsets", "one logit +200"])
@pytest.mark.parametrize("route", ROUTES)
def test_adversarial_logits_by_mask(route, kind):
    """The same through an additive mask with hidden keys among it, so that the guard must tell far from hidden."""
    bias = logits()[kind].clone()
    bias[:, 11] = -math.inf
    bias[12] = -math.inf
    case = make(heads=1, tokens=(G, R), words=2, columns=2, attn_mask=bias)
    check(replace(case, query=case.query * 0.1), route)


@pytest.mark.parametrize("route", FUSED)
def test_column_a_guard_must_not_miss_in_the_last_tile(route):
    """The faint column lies in the tail and its own best query in the last, partial tile of queries."""
    scores = logits()["constant"].clone()
    scores[:, -1] = -300
    scores[-1, -1] = -200
    case = with_scores(scores, columns=1)
    got = check(case, route)
    assert got.maps["r2g"][0, 0, -1] > 1 / R - 1e-6  # all of that column
    assert (got.maps["column_maps"][0, 0, 0, -1] - case.options["column_weight"][0, 0, -1]).abs() < 1e-6


@pytest.mark.parametrize("splits", ["triton", "triton library forward split"])
def test_a_split_with_nothing_on_the_canvas(splits):
    """Queries are shared out over programs; a program may find none of the canvas, or nothing but hidden keys."""
    check(make(heads=1, tokens=(129, 40), columns=2, generated=(0, 3)), splits)
    mask = torch.ones(129, 40, dtype=torch.bool)
    mask[:64] = False
    check(make(heads=1, tokens=(129, 40), columns=2, attn_mask=mask), splits)


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("route", FUSED)
def test_nothing_unwritten_is_read(route, masked, monkeypatch):
    """Fresh memory is NaN here; an element nobody writes would show."""
    mask = {"attn_mask": torch.rand(G, R) > 0.4} if masked else {}
    ranges = {"rows": (1, 3), "generated": (2, 31), "reference": (3, 39)}
    case = make(batch=3, heads=1, tokens=(G, R), words=2, columns=2, weightings=2, **ranges, **mask)
    right = run(case, route)
    poisoned = []

    def poison(make_empty):
        def made(*args, **options):
            tensor = make_empty(*args, **options)
            poisoned.append(tensor.numel())
            return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

        return made

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "new_empty", poison(torch.Tensor.new_empty))
        patched.setattr(torch, "empty", poison(torch.empty))
        patched.setattr(torch, "empty_like", poison(torch.empty_like))
        patched.setattr(parts.KEPT, "memory", None)
        got = run(case, route)
    assert poisoned
    compare(case, got, route)
    assert torch.equal(got.out, right.out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("route", ROUTES)
def test_same_inputs_same_bits(route, dtype):
    case = make(batch=2, tokens=(G, R), words=2, columns=2, weightings=2, dtype=dtype, weighted=True)
    one, two = run(case, route), run(case, route)
    assert torch.equal(one.out, two.out)
    for name in case.maps:
        assert torch.equal(one.maps[name], two.maps[name]), name


@pytest.mark.parametrize("scale", [0.0, -0.5])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("route", ROUTES)
def test_scales_that_are_not_positive(route, scale, masked):
    """The largest product of a row is then not its largest score."""
    check(make(tokens=(G, R), scale=scale, words=2, columns=2, attn_mask=torch.rand(G, R) > 0.4 if masked else None), route)


@pytest.mark.parametrize("route", ROUTES)
def test_weights_of_zero(route):
    """Weights of zero give maps of zero, not NaN."""
    case = make(tokens=(G, R), generated_weight=torch.zeros(1, G), reference_weight=torch.zeros(1, R))
    for name, buffer in run(case, route).maps.items():
        assert buffer.eq(0).all(), name


FAR = 2**31 + 64


@pytest.mark.parametrize("route", ROUTES)
def test_offsets_beyond_32_bits(route):
    """Two batch rows further apart than 2^31 elements, in memory that is only reserved until it is touched."""
    small = make(batch=2, heads=1, tokens=(5, 7), dtype=torch.float16)
    storage = torch.empty(FAR + 64 * 16, dtype=torch.float16)
    key = storage.as_strided((2, 1, 7, 16), (FAR, 16, 16, 1))
    key.copy_(small.key)
    far = replace(small, key=key)
    got, right = run(far, route), run(small, route)
    assert torch.equal(got.out, right.out)
    for name in far.maps:
        assert torch.equal(got.maps[name], right.maps[name]), name


def test_truth_has_no_nan_where_nothing_is_left():
    right = truth(make(tokens=(5, 4), attn_mask=torch.zeros(5, 4, dtype=torch.bool)))
    assert right.out.eq(0).all()
    assert all(buffer.eq(0).all() for buffer in right.maps.values())


@pytest.mark.parametrize("backend", ["streaming", "triton"])
def test_maps_of_a_masked_call_add_to_what_was_there(backend):
    case = make(tokens=(5, 4), attn_mask=torch.zeros(5, 4, dtype=torch.bool))
    buffers = {name: buffer + 2 for name, buffer in case.buffers().items()}
    bi_attention(case.query, case.key, case.value, **buffers, **case.options, backend=backend)
    assert all(buffer.eq(2).all() for buffer in buffers.values())


@pytest.mark.parametrize("tokens", [(63, 40), (300, 16), (40, 300)])
@pytest.mark.parametrize("route", STREAMING)
def test_no_denormal_number_is_worked_on(route, tokens, monkeypatch):
    """They are ten times slower; heads of a batch differ, so that some parts are taken for harmless ones at first."""
    added = streaming.Maps.add

    def add(self, tile, start):
        assert not ((tile > 0) & (tile < torch.finfo(torch.float32).tiny)).any()
        added(self, tile, start)

    monkeypatch.setattr(streaming.Maps, "add", add)
    for amplitude in (1, 10, 30, 100):
        check(make(batch=2, heads=4, tokens=tokens, amplitude=amplitude, words=2), route)
