"""Is the reference itself what the method says? Against numbers done by hand, and against loops over single scores in numpy."""

import math

import numpy as np
import pytest
import torch
from cases import make, truth

from i2am_kernels import bi_attention, bi_attention_reference


def by_loops(case):
    """The method, one score at a time: S, its row softmax P, its column softmax C over the canvas, and the weighted sums."""
    query, key, value = (t.double().cpu().numpy() for t in (case.query, case.key, case.value))
    batch, heads, generated, size = query.shape
    reference = key.shape[2]
    options = {
        name: t.double().cpu().numpy() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for name, t in case.options.items()
    }
    scale = options.get("scale") or 1 / math.sqrt(size)
    mask = options.get("attn_mask")
    if mask is not None:
        mask = np.broadcast_to(np.asarray(mask), (batch, heads, generated, reference))
    b0, b1 = options.get("rows") or (0, batch)
    g0, g1 = options.get("generated") or (0, generated)
    r0, r1 = options.get("reference") or (0, reference)
    out = np.zeros((batch, heads, generated, value.shape[3]))
    maps = {name: buffer.double().cpu().numpy().copy() for name, buffer in case.buffers().items()}
    for b in range(batch):
        for h in range(heads):
            raised = np.zeros((generated, reference))  # exp S
            for i in range(generated):
                for j in range(reference):
                    score = scale * sum(query[b, h, i, d] * key[b, h, j, d] for d in range(size))
                    if mask is not None:
                        score = (score if mask[b, h, i, j] else -math.inf) if mask.dtype == bool else score + mask[b, h, i, j]
                    raised[i, j] = math.exp(score)
            for i in range(generated):
                row = raised[i].sum()
                for j in range(reference):
                    p = raised[i, j] / row if row > 0 else 0.0
                    out[b, h, i] += p * value[b, h, j]
                    if not (b0 <= b < b1 and g0 <= i < g1 and r0 <= j < r1):
                        continue
                    column = raised[g0:g1, j].sum()
                    c = raised[i, j] / column if column > 0 else 0.0
                    wq, wk = options.get("generated_weight"), options.get("reference_weight")
                    if case.weightings is not None:
                        for n in range(case.weightings):
                            maps["g2r"][b - b0, h, n, j - r0] += wq[b - b0, n, i - g0] * p
                    else:
                        maps["g2r"][b - b0, h, j - r0] += (wq[b - b0, i - g0] if wq is not None else 1 / (g1 - g0)) * p
                    maps["r2g"][b - b0, h, i - g0] += (wk[b - b0, j - r0] if wk is not None else 1 / (r1 - r0)) * c
                    for n in range(case.words):
                        maps["token_maps"][b - b0, h, n, i - g0] += options["token_weight"][b - b0, j - r0, n] * p
                    for n in range(case.columns):
                        maps["column_maps"][b - b0, h, n, j - r0] += options["column_weight"][b - b0, n, i - g0] * c
    return out, maps


MASK = torch.ones(2, 1, 5, 4, dtype=torch.bool)
MASK[0, 0, 1] = False  # a whole row
MASK[1, :, :, 2] = False  # a whole column
ADDED = torch.linspace(-2, 2, 4).view(1, 1, 1, 4)
RANGES = {"rows": (1, 2), "generated": (1, 4), "reference": (1, 4)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.7},
        {"weighted": True, "words": 2},
        {"columns": 3},
        {"weightings": 3, "words": 2},
        {"attn_mask": MASK},
        {"attn_mask": ADDED},
        {**RANGES, "words": 3},
        {**RANGES, "attn_mask": MASK, "weighted": True, "words": 1, "columns": 2, "weightings": 2},
        {"dv": 5},
    ],
    ids=lambda options: "+".join(options) or "plain",
)
def test_reference_is_the_method_written_as_loops(options):
    case = make(batch=2, heads=2, tokens=(5, 4), size=3, **options)
    out, maps = by_loops(case)
    right = truth(case)
    np.testing.assert_allclose(right.out.cpu().numpy(), out, rtol=1e-12, atol=1e-14)
    for name, values in maps.items():
        np.testing.assert_allclose(right.maps[name].cpu().numpy(), values, rtol=1e-12, atol=1e-14, err_msg=name)


def test_numbers_done_by_hand(backend):
    """S = [[0, log 3], [0, 0]]: P = [[1/4, 3/4], [1/2, 1/2]], C = [[1/2, 3/4], [1/2, 1/4]]."""
    query = torch.tensor([[1.0, 0.0], [0.0, 0.0]])[None, None]
    key = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])[None, None]
    value = torch.tensor([[8.0, 0.0], [0.0, 8.0]])[None, None]
    r2g, g2r, token_maps = torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), torch.full((1, 1, 1, 2), 100.0)
    column_maps = torch.full((1, 1, 1, 2), 200.0)
    weights = {"token_weight": torch.tensor([[[0.0], [1.0]]]), "column_weight": torch.tensor([[[1.0, 3.0]]])}
    out = bi_attention(query, key, value, r2g, g2r, token_maps, column_maps, **weights, scale=1.0, backend=backend)
    torch.testing.assert_close(out[0, 0], torch.tensor([[2.0, 6.0], [4.0, 4.0]]))
    torch.testing.assert_close(g2r[0, 0], torch.tensor([(1 / 4 + 1 / 2) / 2, (3 / 4 + 1 / 2) / 2]))
    torch.testing.assert_close(r2g[0, 0], torch.tensor([(1 / 2 + 3 / 4) / 2, (1 / 2 + 1 / 4) / 2]))
    torch.testing.assert_close(token_maps[0, 0, 0], torch.tensor([100.75, 100.5]))
    torch.testing.assert_close(column_maps[0, 0, 0], torch.tensor([202.0, 201.5]))


def test_default_scale_is_that_of_scaled_dot_product_attention():
    case = make(size=5)
    right = torch.nn.functional.scaled_dot_product_attention(case.query.double(), case.key.double(), case.value.double())
    torch.testing.assert_close(truth(case).out, right, rtol=1e-12, atol=1e-14)


def test_reference_adds_in_the_precision_of_its_inputs():
    """float64 in, float64 kept: with float32 in between, a third could not come out to sixteen digits."""
    query = torch.zeros(1, 1, 3, 2, dtype=torch.float64)
    r2g = torch.zeros(1, 1, 3, dtype=torch.float64)
    out = bi_attention_reference(query, query[:, :, :1], query[:, :, :1] + 1, r2g=r2g)
    assert (r2g - 1 / 3).abs().max() < 1e-15
    assert out.dtype == torch.float64
