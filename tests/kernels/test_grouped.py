"""Grouped-query attention: several query heads read one key head, as if it had been repeated by hand, and it is not repeated."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from cases import FUSED, ROUTES, Case, Result, by_hand, compare, largest, longest, make, plain, run, transposed
from gradients import asked
from gradients import check as check_gradients
from gradients import gradients as gradients_of
from tolerance import alike, unit
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measuring.measure import peak_bytes
from i2am_kernels import bi_attention, bi_attention_maps, bi_attention_reference, groups, relevance
from i2am_kernels.check import checked

ALL = {"weightings": 3, "words": 2, "columns": 2, "weighted": True}
SIZES = (63, 40)  # as in test_heads: two tiles or blocks of one side at least, the last of them partial
HEADS = [(4, 2), (3, 1), (6, 2)]  # query heads, key heads: shares of members, one for all, one a key head


def few(heads: int = 4, keys: int = 2, batch: int = 1, **options) -> Case:
    """A case whose keys and values have fewer heads."""
    case = make(batch=batch, heads=heads, **{"tokens": SIZES, **options})
    return replace(case, key=case.key[:, :keys].contiguous(), value=case.value[:, :keys].contiguous(),
                   options={**case.options, "enable_gqa": True})  # fmt: skip


def check(case: Case, route: str) -> Result:
    """The grouped call against the definition, in float64, on repeated keys."""
    got = run(case, route)
    compare(by_hand(case), got, route)
    return got


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("heads", "keys"), HEADS)
def test_a_query_head_reads_the_key_head_of_its_group(route, heads, keys):
    check(few(heads, keys, **ALL), route)


@pytest.mark.parametrize("route", FUSED)
@pytest.mark.parametrize(
    "options",
    [
        {"batch": 2, "rows": (1, 2), "generated": (5, 60), "reference": (3, 38), **ALL},
        {"per_head": True, **ALL},  # weights are those of query heads
        {"size": 40, "dv": 24},
        {"dtype": torch.bfloat16},
        {"amplitude": 40.0, "columns": 2},  # columns that underflow are visited again
        {"tokens": (40, 1)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_on_every_route(route, options):
    check(few(4, 2, **options), route)


@pytest.mark.parametrize("route", FUSED)
@pytest.mark.parametrize("kind", ["of keys", "of heads", "added"])
def test_masks_are_those_of_query_heads(route, kind):
    """A row, and a column, that sees nothing."""
    seen = torch.rand(1, 4, *SIZES, generator=torch.Generator().manual_seed(1)) > 0.4
    seen[:, 1, 5], seen[:, 2, :, 7] = False, False
    added = torch.randn(1, 4, *SIZES).masked_fill(~seen, -torch.inf)
    mask = {"of keys": torch.arange(SIZES[1]) % 5 > 0, "of heads": seen, "added": added}[kind]
    got = check(few(4, 2, columns=2, attn_mask=mask), route)
    if kind != "of keys":
        assert (got.out[:, 1, 5] == 0).all(), "nothing is seen there"


@pytest.mark.parametrize("route", FUSED)
@pytest.mark.parametrize("keys", [1, 2])
def test_strided_keys(route, keys):
    """Heads inside tokens, as a projection leaves them, and a key head of its own in a longer tensor."""
    case = few(4, keys, columns=2)
    wide = torch.cat([case.value, case.key], 1)  # keys and values of one projection
    views = replace(case, query=transposed(case.query), key=wide[:, keys:], value=wide[:, :keys])
    one, two = check(case, route), check(views, route)
    for name in case.maps:
        alike(one.maps[name], two.maps[name], max(SIZES), 10)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("keys", [1, 2])
def test_the_mass_of_every_query_head_is_whole(route, keys):
    """Unit weights: sum G2R = G and sum R2G = R of each query head, not of a group together."""
    case = few(4, keys)
    ones = {"generated_weight": torch.ones(1, SIZES[0]), "reference_weight": torch.ones(1, SIZES[1])}
    maps = run(replace(case, options={**case.options, **ones}), route).maps
    for name, total in (("g2r", SIZES[0]), ("r2g", SIZES[1])):
        assert maps[name].shape[:2] == (1, 4)
        torch.testing.assert_close(maps[name].sum(-1), torch.full((1, 4), float(total)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("route", FUSED)
def test_repeated_keys_give_the_same(route):
    """To the bit where a program is a query head's and the forward the same; streaming goes through other heads together."""
    case = few(4, 2, **ALL)
    one, two = run(case, route), run(by_hand(case), route)
    for name in case.maps:
        if route == "triton own forward":
            assert torch.equal(one.maps[name], two.maps[name]), name
        else:
            alike(one.maps[name], two.maps[name], max(SIZES), 10)


@pytest.mark.parametrize("route", ["streaming", "triton own forward"])
def test_the_same_bits_twice(route):
    case = few(4, 2, **ALL)
    one, two = run(case, route), run(case, route)
    assert torch.equal(one.out, two.out)
    assert all(torch.equal(one.maps[name], two.maps[name]) for name in case.maps)


@pytest.mark.parametrize(("route", "keys"), [("streaming", 1), ("streaming", 2), ("triton own forward", 2)])
def test_keys_are_not_repeated_in_memory(route, keys):
    """Where they would be most of a call's memory."""
    case = few(8, keys, tokens=(16, 128), size=64)
    run(case, route)
    given = by_hand(case)
    assert peak_bytes(partial(run, case, route), torch.device("cpu")) < (given.key.nbytes + given.value.nbytes) / 2


@pytest.mark.parametrize("keys", [1, 4])
def test_shares_write_into_one_output(keys):
    """Where it is most of a call's memory."""
    case = few(8, keys, tokens=(512, 4), size=64)
    alone = few(8, 8, tokens=(512, 4), size=64)
    peaks = [peak_bytes(partial(run, one, "streaming"), torch.device("cpu")) for one in (case, alone)]
    assert peaks[0] < 1.1 * peaks[1]


@pytest.mark.parametrize("keys", [1, 2])
def test_without_maps_it_is_attention(keys):
    """With gradient, too; and S is not stored."""
    case = few(4, keys)
    leaves = [t.requires_grad_() for t in (case.query, case.key, case.value)]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out = bi_attention(*leaves, enable_gqa=True)
    given, learnt = by_hand(case), torch.randn_like(out)
    right = plain(given)
    torch.testing.assert_close(out, right)
    for got, wanted in zip(torch.autograd.grad(out, leaves, learnt), torch.autograd.grad(right, leaves, learnt)):
        torch.testing.assert_close(got, wanted)


def test_its_key_heads_must_divide_the_query_heads():
    case = few(4, 2)
    three = case.key[:, :1].expand(-1, 3, -1, -1)
    for function in (bi_attention, bi_attention_reference, bi_attention_maps):
        with pytest.raises(ValueError, match=r"key must be \[1, 4, R, 16\].*got \(1, 2, 40, 16\).*enable_gqa=True"):
            function(case.query, case.key, case.value)
        with pytest.raises(ValueError, match=r"Hk = 4 or a number that divides it.*got \(1, 3, 40, 16\)"):
            function(case.query, three, three, enable_gqa=True)
        with pytest.raises(ValueError, match=r"value must be \[1, 2, 40, Dv\] to match the key, got \(1, 4, 40, 16\)"):
            function(case.query, case.key, case.value.repeat_interleave(2, 1), enable_gqa=True)
        with pytest.raises(ValueError, match="divides it"):  # fewer query heads than key heads
            function(case.query[:, :1], case.key, case.value, enable_gqa=True)
    with pytest.raises(ValueError, match=r"enable_gqa=True"):
        relevance(case.query, case.key, case.value, case.query)


def test_buffers_of_key_heads_are_refused():
    case = few(4, 2)
    with pytest.raises(ValueError, match=r"r2g must be float32 \[B', H, G'\] = \(1, 4, 63\)"):
        bi_attention(case.query, case.key, case.value, r2g=torch.zeros(1, 2, 63), enable_gqa=True)


@pytest.mark.parametrize("heads", [(8, 2), (8, 8), (8, 1), (6, 3)])
def test_shares_are_views_of_all_heads(heads):
    case = few(*heads)
    call = groups_call(case)
    seen = []
    for share in groups.shares(call):
        assert share.call.group == 1
        assert share.call.key.untyped_storage().data_ptr() == call.key.untyped_storage().data_ptr()
        assert share.call.r2g.untyped_storage().data_ptr() == call.r2g.untyped_storage().data_ptr()
        seen += range(heads[0])[share.heads]
    assert sorted(seen) == list(range(heads[0]))
    assert len(list(groups.shares(call))) == (1 if heads[0] == heads[1] else min(heads[1], heads[0] // heads[1]))


def groups_call(case: Case):
    options = {name: option for name, option in case.options.items() if name != "enable_gqa"}
    left_out = dict.fromkeys((*(f"{of}_weight" for of in ("generated", "reference", "token", "column")),
                              "token_maps", "column_maps", "attn_mask", "scale", "rows", "generated", "reference"))  # fmt: skip
    return checked(case.query, case.key, case.value, **{**left_out, **case.buffers(), **options}, grouped=True)


@pytest.mark.parametrize("backend", ["streaming", "triton"])
@pytest.mark.parametrize(("heads", "keys"), HEADS)
def test_gradients_of_a_key_head_are_the_sum_over_its_group(backend, heads, keys):
    """Against the definition's, which torch differentiates in float64; a mask and ranges beside it."""
    mask = torch.rand(1, heads, 35, 33, generator=torch.Generator().manual_seed(2)) > 0.3
    case = few(heads, keys, tokens=(35, 33), **ALL, generated=(2, 34), reference=(1, 30), attn_mask=mask)
    check_gradients(case, asked(case), 16 if keys == 2 else 0, backend)  # triton: in several shares, and in one


@pytest.mark.parametrize("backend", ["reference", "streaming", "triton"])
@pytest.mark.parametrize("name", ["output", "r2g", "g2r"])
def test_gradients_are_those_of_repeated_keys(backend, name):
    """What torch gives back through repeat_interleave, which is the sum over a group, from what no grouped code has made."""
    case = few(6, 2, tokens=(35, 33))
    case, up = replace(case, maps=("r2g", "g2r")), {name: asked(case)[name]}
    found, wanted = gradients_of(case, up, backend), through_repeats(case, up)
    for of in ("query", "key", *(["value"] if name == "output" else [])):
        assert found[of].shape == getattr(case, of).shape
        size = wanted[of].abs().amax((-2, -1), keepdim=True)
        assert ((found[of] - wanted[of]).abs() <= 8 * unit(longest(by_hand(case)), largest(by_hand(case))) * size).all()


def through_repeats(case: Case, up: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: getattr(case, name).double().requires_grad_() for name in ("query", "key", "value")}
    group = case.query.shape[1] // case.key.shape[1]
    key, value = (leaves[name].repeat_interleave(group, 1) for name in ("key", "value"))
    scores = leaves["query"] @ key.mT * case.query.shape[-1] ** -0.5
    maps = {"output": scores.softmax(-1) @ value, "r2g": scores.softmax(-2).mean(-1), "g2r": scores.softmax(-1).mean(-2)}
    torch.autograd.backward([maps[name] for name in up], [one.double() for one in up.values()])
    return {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize("backend", ["streaming", "triton"])
def test_gradients_have_the_same_bits_twice(backend):
    case = few(4, 2, tokens=(35, 33), **ALL)
    up = asked(case)
    one, two = (gradients_of(case, up, backend, 16 if backend == "triton" else None) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_finite_differences():
    """Of a key that three query heads read, in float64."""
    case = few(3, 1, tokens=(5, 4), size=3)
    leaves = [t.double().requires_grad_() for t in (case.query, case.key, case.value)]
    assert torch.autograd.gradcheck(lambda *given: bi_attention_maps(*given, enable_gqa=True)[:3], leaves)


@pytest.mark.parametrize("keys", [1, 2])
def test_relevance(keys):
    case = few(4, keys)
    d_output = torch.randn(1, 4, SIZES[0], 16)
    given = by_hand(case)
    m = (given.query.double() @ given.key.double().mT / 4).softmax(-1) * (d_output.double() @ given.value.double().mT).clamp(min=0)
    found = relevance(case.query, case.key, case.value, d_output, enable_gqa=True)
    alike(found.r2g.double(), m.mean(-1), sum(SIZES), 40)
    alike(found.g2r.double(), m.mean(-2), sum(SIZES), 40)


def test_in_a_graph():
    """One node of it, and the group no break."""
    case = few(4, 2)

    def call(query, key, value, r2g, g2r):
        return bi_attention(query, key, value, r2g=r2g, g2r=g2r, enable_gqa=True, backend="streaming")

    one, two = case.buffers(), case.buffers()
    torch._dynamo.reset()
    got = torch.compile(call, fullgraph=True, backend="eager")(case.query, case.key, case.value, **one)
    torch.testing.assert_close(got, call(case.query, case.key, case.value, **two))
    assert all(torch.equal(one[name], two[name]) for name in one)
