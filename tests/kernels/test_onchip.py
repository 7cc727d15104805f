"""Both maps from one visit to the scores: that the sweep is what runs, at the sizes of a GPU; which calls it takes; how large a cluster is.

Every test of the operator goes through it too, as a route of tests/helpers/cases.py; here it runs from its own source on a CPU.
"""

import re
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from cases import ROUTES, Route, check, cores, going, make, on_chip, onchip_where_it_can, transposed

from i2am_kernels import bi_attention, onchip, op, tiles, triton_backend
from i2am_kernels.check import checked
from i2am_kernels.onchip import LARGEST, ROWS, TOGETHER, cluster_of

ROUTE = "triton onchip"
SHARED_BYTES = 227 << 10


def call_of(tokens=(64, 64), size=64, dtype=torch.float16, batch=1, heads=2, grouped=False, **options):
    query, key = (torch.randn(batch, heads, count, size).to(dtype) for count in tokens)
    maps = {"r2g": torch.zeros(batch, heads, tokens[0]), "g2r": torch.zeros(batch, heads, tokens[1]), **options.pop("maps", {})}
    given = {"token_maps": None, "column_maps": None, "generated_weight": None, "reference_weight": None, "token_weight": None,
             "column_weight": None, "attn_mask": None, "scale": None, "rows": None, "generated": None, "reference": None}  # fmt: skip
    return checked(query, key, key, maps["r2g"], maps["g2r"], **{**given, **options}, grouped=grouped)


@pytest.fixture
def sweeps(monkeypatch):
    """Which sweeps a call launches, in order."""
    launched = []
    for module, names in ((onchip, ("launch_onchip",)), (triton_backend, ("launch_keys", "launch_queries", "launch_one_tile"))):
        for name in names:

            def noted(*given, name=name, launch=getattr(module, name), **more):
                launched.append(name)
                return launch(*given, **more)

            monkeypatch.setattr(module, name, noted)
    return launched


@pytest.mark.parametrize(("words", "maps", "expected"), [
    (0, ("r2g", "g2r"), ["launch_onchip"]),
    (0, ("r2g",), ["launch_onchip"]),
    (3, ("r2g", "g2r"), ["launch_onchip", "launch_queries"]),
    (0, ("g2r",), ["launch_keys"]),
])  # fmt: skip
def test_one_visit_stands_for_both_sweeps(sweeps, words, maps, expected):
    check(make(tokens=(70, 40), words=words, maps=maps), ROUTE)
    assert sweeps == expected


@pytest.mark.parametrize(("generated", "size", "count"), [(4096, 64, 8), (3072, 40, 8), (4000, 128, 16), (768, 80, 4), (1000, 160, 8)])
def test_the_largest_clusters(sweeps, generated, size, count):
    """As many programs and tiles as on a GPU, a canvas that fills them or not, keys that do not fill the last block."""
    assert cluster_of(size, generated).programs == count
    check(make(heads=1, tokens=(generated, 70), size=size, weighted=True), ROUTE)
    assert sweeps == ["launch_onchip"]


@pytest.mark.parametrize("share_cores", [0, 4, 1000])
@pytest.mark.parametrize("nats", [0.0, 100.0])
def test_any_number_of_shares_gives_the_same_maps(share_cores, nats):
    """R2G goes into its buffer or into scratch, where all columns are found at once and where some are too faint for that."""
    case = make(batch=2, tokens=(130, 200), size=16)
    case.key[:, :, 7, 0], case.query[..., 0] = -nats, 4.0  # nats a score
    ROUTES["shares"] = Route("triton", (*on_chip(), cores(share_cores)), launch=onchip_where_it_can)
    try:
        check(case, "shares")
    finally:
        del ROUTES["shares"]


def test_half_precision_tokens_round_nothing_but_themselves():
    """P stays in float32 on chip: from half-precision tokens the maps are as exact as the library's L."""
    check(make(tokens=(200, 130), size=64, dtype=torch.bfloat16, amplitude=3.0), ROUTE)


@pytest.mark.parametrize("size", [8, 40, 64, 72, 80, 96, 128, 160])
def test_a_cluster_holds_every_query_and_fits_a_gpu(size):
    first, second = tiles.head_parts(size)
    largest = onchip.largest_cluster(size)
    for generated in (1, 63, 64, 65, 192, 768, 1036, 2304, 3072, largest.queries):
        cluster = cluster_of(size, generated)
        assert cluster.queries >= generated, "every query has a place"
        assert cluster.tiles <= largest.tiles
        assert cluster.programs <= largest.programs
        assert cluster.programs & (cluster.programs - 1) == 0, "clusters are powers of two"
        assert cluster.queries - generated < ROWS * cluster.programs, "no tile is empty in every program"
        tokens = ROWS * cluster.tiles + 2 * cluster.keys
        assert TOGETHER * (2 * tokens * (first + second) + (9 << 10)) <= SHARED_BYTES, "two programs a multiprocessor"


REFUSED = {
    "float32": ({"dtype": torch.float32}, "float32 tokens"),
    "wide heads": ({"size": 192}, "a head size of 192: it goes up to 160"),
    "a large canvas": ({"tokens": (4097, 8)}, "a canvas of 4097 queries: 4096 fit a cluster"),
    "several weightings": ({"maps": {"g2r": torch.zeros(1, 2, 3, 64)}, "generated_weight": torch.ones(1, 3, 64)}, "several weightings"),
    "sums of columns": ({"column_maps": torch.zeros(1, 2, 3, 64), "column_weight": torch.ones(1, 3, 64)}, "column_maps"),
    "a mask of each query": ({"attn_mask": torch.ones(64, 64, dtype=torch.bool)}, "differs from query to query"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_take(name):
    """Said at the door where it was asked for by name; "auto" would go another way."""
    given, words = REFUSED[name]
    with patch.object(onchip, "runs_on", return_value=True):
        assert words in onchip.missing(call_of(**given))
        with pytest.raises(ValueError, match=re.escape(words)):
            op.choose("onchip", call_of(**given))


def test_tokens_that_lie_across_sixteen_bytes():
    call = call_of()
    for tokens in (transposed(torch.randn(1, 3, 64, 20).half())[..., :16], torch.randn(1, 2, 64, 65).half()[..., 1:]):
        with patch.object(onchip, "runs_on", return_value=True):
            assert onchip.missing(call) is None
            assert "multiples of 16 bytes" in onchip.missing(replace(call, query=tokens, key=tokens, value=tokens))


def test_devices_and_versions_that_have_no_clusters(monkeypatch):
    call = call_of()
    assert "no Hopper GPU" in onchip.missing(call)
    with pytest.raises(ValueError, match='backend must be "onchip" only where'):
        bi_attention(call.query, call.key, call.value, r2g=call.r2g, backend="onchip")
    monkeypatch.setattr(onchip, "onchip_sweep", None)
    assert "Triton 3.9 or newer is not installed" in onchip.missing(call)


def test_auto_takes_it_only_where_a_gpu_has_shown_that_it_is_faster(sweeps, monkeypatch):
    """Nowhere yet."""
    assert not tiles.ONCHIP
    case = make(heads=1, tokens=(30, 270), size=64)  # more keys than one tile
    with going(ROUTE):
        run = lambda: triton_backend.launch(checked_case(case))  # noqa: E731
        run()
        assert sweeps == ["launch_keys", "launch_queries"]
        monkeypatch.setattr(tiles, "ONCHIP", frozenset({((9, 0), 64)}))
        monkeypatch.setattr(onchip, "wanted", lambda call, capability, wanted=onchip.wanted: wanted(call, (9, 0)))
        run()
        assert sweeps[2:] == ["launch_onchip"]


def checked_case(case):
    buffers = case.buffers()
    return checked(case.query, case.key, case.value, buffers["r2g"], buffers["g2r"], None, None, None, None, None, None, None, None,
                   None, None, None)  # fmt: skip


def test_largest_clusters_are_said_to_hold_4096_queries_or_3072():
    assert {size: cluster.queries for size, cluster in LARGEST.items()} == {64: 4096, 128: 4096, 160: 3072}
