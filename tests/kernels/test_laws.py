"""The laws of method and operator, on every backend: equalities that hold whatever the numbers are."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from cases import ROUTES, Case, make, plain, run
from tolerance import alike

from i2am_kernels import bi_attention

SIZES = (33, 40)  # two tiles or blocks of 32 a side on every general route, the last of them partial
LOGITS = 10  # of random tokens: no log-sum-exp is larger, in log2 units


def same(one, two, size=None):
    alike(one, two, max(SIZES), LOGITS, size)


def same_output(one, two):
    """Values are random numbers up to 4, which their means are not."""
    same(one, two, size=4.0)


def sums(sizes=(63, 40), **options):
    return make(batch=2, tokens=SIZES, **options)


@pytest.fixture(params=ROUTES)
def route(request):
    return request.param


def test_swapping_query_and_key_swaps_the_maps(route):
    case = make(tokens=SIZES)
    swapped = Case(case.key, case.query, case.query, case.options)
    one, two = run(case, route).maps, run(swapped, route).maps
    same(one["r2g"], two["g2r"])
    same(one["g2r"], two["r2g"])


def test_permuting_generated_tokens_permutes_r2g_alone(route):
    case = make(tokens=SIZES, words=2)
    order = torch.randperm(SIZES[0])
    one, two = run(case, route), run(replace(case, query=case.query[:, :, order]), route)
    same(one.maps["r2g"][..., order], two.maps["r2g"])
    same(one.maps["token_maps"][..., order], two.maps["token_maps"])
    same(one.maps["g2r"], two.maps["g2r"])
    same_output(one.out[:, :, order], two.out)


def test_permuting_reference_tokens_permutes_g2r_alone(route):
    case = make(tokens=SIZES)
    order = torch.randperm(SIZES[1])
    one, two = run(case, route), run(Case(case.query, case.key[:, :, order], case.value[:, :, order], case.options), route)
    same(one.maps["g2r"][..., order], two.maps["g2r"])
    same(one.maps["r2g"], two.maps["r2g"])
    same_output(one.out, two.out)


def test_permuting_either_side_permutes_column_maps(route):
    """With the generated tokens go their weights."""
    case = make(tokens=SIZES, columns=3)
    rows, columns = map(torch.randperm, SIZES)
    options = {"column_weight": case.options["column_weight"][..., rows]}
    turned = replace(
        case, query=case.query[:, :, rows], key=case.key[:, :, columns], value=case.value[:, :, columns], options=options
    )  # fmt: skip
    same(run(case, route).maps["column_maps"][..., columns], run(turned, route).maps["column_maps"])


def test_columns_are_token_maps_of_the_swapped_call(route):
    """C is the row softmax of the transposed scores, so its columns' sums are that call's word maps."""
    case = make(tokens=SIZES, columns=3)
    swapped = Case(case.key, case.query, case.query, {"token_weight": case.options["column_weight"].mT}, ("token_maps",), words=3)
    same(run(case, route).maps["column_maps"], run(swapped, route).maps["token_maps"])


def test_unit_columns_sum_to_one(route):
    case = make(tokens=SIZES, columns=1)
    case.options["column_weight"] = torch.ones(1, 1, SIZES[0])
    same(run(case, route).maps["column_maps"], torch.ones(1, 2, 1, SIZES[1]))


def test_unit_weights_sum_to_the_number_of_tokens(route):
    case = make(tokens=SIZES, generated_weight=torch.ones(1, SIZES[0]), reference_weight=torch.ones(1, SIZES[1]))
    maps = run(case, route).maps
    same(maps["g2r"].sum(-1), torch.full((1, 2), float(SIZES[0])))
    same(maps["r2g"].sum(-1), torch.full((1, 2), float(SIZES[1])))


def test_default_weights_are_even(route):
    case = make(tokens=SIZES)
    even = {"generated_weight": torch.full((1, SIZES[0]), 1 / SIZES[0]), "reference_weight": torch.full((1, SIZES[1]), 1 / SIZES[1])}
    one, two = run(case, route).maps, run(Case(case.query, case.key, case.value, even), route).maps
    same(one["r2g"], two["r2g"])
    same(one["g2r"], two["g2r"])
    same(one["r2g"].sum(-1), torch.ones(1, 2))


def test_one_reference_token_takes_everything(route):
    """R = 1: P is all ones, so G2R is 1, and R2G is the softmax over the canvas of one column."""
    case = make(tokens=(63, 1))
    got = run(case, route)
    same(got.maps["g2r"], torch.ones(1, 2, 1))
    same(got.maps["r2g"], (case.query @ case.key.mT / 4)[..., 0].softmax(-1))
    same_output(got.out, case.value.expand(1, 2, 63, 16))


def test_batch_rows_and_heads_may_be_split(route):
    case = make(batch=2, tokens=SIZES, words=2, columns=2, weighted=True)
    whole = run(case, route)
    for b in range(2):
        weights = {name: t[b : b + 1] for name, t in case.options.items()}
        for h in range(2):
            part = (slice(b, b + 1), slice(h, h + 1))
            one = run(replace(case, query=case.query[part], key=case.key[part], value=case.value[part], options=weights), route)
            same_output(one.out, whole.out[part])
            for name in case.maps:
                same(one.maps[name], whole.maps[name][part])


def test_calls_add_up_in_their_buffers(route):
    first, second = make(tokens=SIZES, words=2, columns=2), make(tokens=SIZES, words=2, columns=2)
    both = {name: buffer + 3 for name, buffer in first.buffers().items()}
    run(first, route, both)
    run(second, route, both)
    for name in first.maps:
        same(both[name], 3 + run(first, route).maps[name] + run(second, route).maps[name])


def test_scale_multiplies_the_scores(route):
    case = make(tokens=SIZES, scale=0.6)
    doubled = Case(case.query * 2, case.key, case.value, {"scale": 0.3})
    one, two = run(case, route), run(doubled, route)
    same_output(one.out, two.out)
    for name in case.maps:
        same(one.maps[name], two.maps[name])


def test_scaling_weights_scales_the_map(route):
    case = make(tokens=SIZES, words=2, columns=2, weighted=True)
    half = replace(case, options={name: t * 0.5 for name, t in case.options.items()})
    one, two = run(case, route).maps, run(half, route).maps
    for name in case.maps:
        same(one[name] * 0.5, two[name])


def test_one_hot_weights_read_single_rows_and_columns_of_p(route):
    """One-hot generated weights give rows of P, as column weights rows of C; identity token weights give all of P."""
    generated, reference = SIZES
    case = make(tokens=SIZES)
    p = (case.query @ case.key.mT / 4).softmax(-1)
    picked = torch.tensor([0, generated // 2, generated - 1])
    rows = Case(case.query, case.key, case.value, {"generated_weight": torch.eye(generated)[picked][None]}, ("g2r",), 3)
    same(run(rows, route).maps["g2r"], p[:, :, picked])
    columns = Case(case.query, case.key, case.value, {"token_weight": torch.eye(reference)[None]}, ("token_maps",), words=reference)
    same(run(columns, route).maps["token_maps"], p.mT)
    c = (case.query @ case.key.mT / 4).softmax(-2)
    rows = Case(case.query, case.key, case.value, {"column_weight": torch.eye(generated)[picked][None]}, ("column_maps",), columns=3)
    same(run(rows, route).maps["column_maps"], c[:, :, picked])


def test_rows_leave_the_others_out_of_the_maps(route):
    case = make(batch=2, tokens=SIZES, words=2, columns=2)
    half = {"rows": (1, 2), "token_weight": case.options["token_weight"][1:], "column_weight": case.options["column_weight"][1:]}
    whole, part = run(case, route), run(replace(case, options=half), route)
    same_output(part.out, whole.out)
    for name in case.maps:
        same(part.maps[name], whole.maps[name][1:])


def test_reference_range_is_a_slice_of_the_full_maps(route):
    """P and C of some keys are those columns of the full P and C; R2G averages over them alone."""
    start, stop = 3, SIZES[1] - 2
    case = make(tokens=SIZES, reference_weight=torch.zeros(1, SIZES[1]))
    case.options["reference_weight"][:, start:stop] = 1 / (stop - start)
    part = Case(case.query, case.key, case.value, {"reference": (start, stop)})
    whole, some = run(case, route), run(part, route)
    same(some.maps["g2r"], whole.maps["g2r"][..., start:stop])
    same(some.maps["r2g"], whole.maps["r2g"])


def test_generated_range_is_attention_of_those_queries(route):
    """The column softmax runs over the chosen generated tokens only, so the rest may as well not be there."""
    start, stop = 5, SIZES[0] - 4
    case = make(tokens=SIZES, words=2, columns=2)
    case.options["column_weight"] = case.options["column_weight"][..., start:stop]
    ranged = replace(case, options={**case.options, "generated": (start, stop)})
    alone = replace(case, query=case.query[:, :, start:stop])
    one, two = run(ranged, route), run(alone, route)
    assert one.out.shape[2] == SIZES[0]
    for name in case.maps:
        same(one.maps[name], two.maps[name])


def test_asking_for_one_map_or_all_gives_the_same_map(route):
    case = make(tokens=SIZES, words=2, columns=2)
    whole = run(case, route).maps
    weight_of = {"token_maps": "token_weight", "column_maps": "column_weight"}
    for name in case.maps:
        options = {key: t for key, t in case.options.items() if key == weight_of.get(name)}
        same(run(replace(case, options=options, maps=(name,)), route).maps[name], whole[name])


def test_output_is_that_of_scaled_dot_product_attention(route):
    case = make(tokens=SIZES, attn_mask=torch.randn(SIZES))
    same_output(run(case, route).out, plain(case))


def test_without_buffers_it_is_that_very_call(backend):
    case = make(attn_mask=torch.rand(63, 40) > 0.3)
    got = bi_attention(case.query, case.key, case.value, attn_mask=case.options["attn_mask"], scale=0.2, backend=backend)
    right = F.scaled_dot_product_attention(case.query, case.key, case.value, attn_mask=case.options["attn_mask"], scale=0.2)
    assert torch.equal(got, right)


def test_without_buffers_the_same_masks_are_taken():
    """scaled_dot_product_attention itself refuses a mask of one dimension."""
    case = make(attn_mask=torch.arange(40) < 30)
    same_output(bi_attention(case.query, case.key, case.value, **case.options), run(case, "streaming").out)
