"""A step's reference layers are those of the full-size models, all of them are timed and judged, and rows say what was run."""

from collections import Counter

import pytest
import torch

from benchmarks.measuring import rows
from benchmarks.operator import layer_set
from benchmarks.operator.shapes import Shape, arguments

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def layers():
    """Every family's, found once."""
    return {name: layer_set.layers_of(name) for name in layer_set.FAMILIES}


def sizes(found):
    return {(s.generated, s.reference, s.heads, s.size): count for s, count in found.items()}


def test_the_layers_are_those_of_the_full_models(layers):
    assert sizes(layers["stableviton"]) == {
        (3072, 1, 8, 40): 5, (768, 1, 8, 80): 5, (192, 1, 8, 160): 5, (48, 1, 8, 160): 1,
        (192, 192, 8, 160): 3, (768, 768, 8, 160): 1, (768, 768, 8, 80): 2, (3072, 3072, 8, 80): 1, (3072, 3072, 8, 40): 2,
    }  # fmt: skip
    for tokens in (257, 16):
        assert sizes(layers[f"sdxl_ip_{tokens}"]) == {(4096, tokens, 10, 64): 10, (1024, tokens, 20, 64): 60}
    ((joint, count),) = layers["flux_kontext"].items()
    assert (count, joint.generated, joint.reference, joint.heads, joint.size) == (57, 8704, 8704, 24, 128)
    assert (joint.canvas, joint.tokens) == ((512, 4608), (4608, 8704))


def run(tmp_path, monkeypatch, layers, *words):
    monkeypatch.setattr(layer_set, "layers_of", layers.get)
    out = tmp_path / "rows.jsonl"
    more = ["--quick", "--repeats", "2", "--threads", str(torch.get_num_threads()), "--device", "cpu", "--out", str(out)]
    return layer_set.main([*words, *more]), rows.read(out)


def test_rows_and_table(tmp_path, monkeypatch, layers):
    code, found = run(tmp_path, monkeypatch, layers)
    assert code == 0
    assert [(row["family"], row["runner"]) for row in found] == [(f, r) for f in layer_set.FAMILIES for r in layer_set.RUNNERS]
    for row in found:
        assert {"ms", "ratio", "repeats", "peak_mb", "sums_mb", "error_of", "rows", "environment"} <= set(row)
        assert row["quick"]
        assert sum(shape["layers"] for shape in row["shapes"]) == row["layers"]
    assert list(dict.fromkeys((row["family"], row["layers"]) for row in found)) == [
        ("stableviton", 25), ("sdxl_ip_257", 70), ("sdxl_ip_16", 70), ("flux_kontext", 57),
    ]  # fmt: skip
    table = layer_set.summary(found)
    assert table.count("\n| **") == 4
    assert "57 of 544 x 544 (2 x 128); float32, not guided; 1 timed, the time multiplied |" in table
    assert "10 of 256 x 257 (2 x 64), 60 of 64 x 257 (2 x 64); float32, guided, maps of the conditional half |" in table
    assert "not run" not in table


def tiny(count=3):
    return Counter({Shape(40, 24, 16, 2, ""): count})


def test_every_layer_has_its_own_sums(monkeypatch):
    """And one layer stands for its like only where the row says so."""
    seen = []
    ours = layer_set.RUNNERS["ours"]
    monkeypatch.setitem(layer_set.RUNNERS, "ours", lambda given: seen.append(given["r2g"]) or ours(given))
    rows_of = {name: list(layer_set.measure(name, tiny(), torch.float32, CPU, 1)) for name in ("sdxl_ip_16", "flux_kontext")}
    assert len({sums.data_ptr() for sums in seen}) == 3 + 1
    assert [row["timed_layers"] for name in rows_of for row in rows_of[name]] == [3, 3, 3, 1, 1, 1]
    batch_half = 3 * 2 * (40 + 24) * 4 / 1e6  # of two rows one has maps; Flux has one row
    assert {row["sums_mb"] for found in rows_of.values() for row in found} == {round(batch_half, 3)}


def test_the_time_of_one_layer_is_multiplied(monkeypatch):
    monkeypatch.setattr(layer_set, "interleaved", lambda runs, *_: {name: [10.0 * (1 + i)] * 3 for i, name in enumerate(runs)})
    found = {row["runner"]: row for row in layer_set.measure("flux_kontext", tiny(57), torch.float32, CPU)}
    assert [row["ms"]["p50"] for row in found.values()] == [570, 1140, 1710]
    assert [row["ratio"] for row in found.values()] == [1, 2, 3]
    found = {row["runner"]: row for row in layer_set.measure("sdxl_ip_16", tiny(), torch.float32, CPU)}
    assert found["ours"]["ms"]["p50"] == 20


def test_one_token_has_no_g2r():
    given = layer_set.buffers(arguments(Shape(40, 1, 16, 2, ""), 2, torch.float32, CPU, "half"))
    assert given["g2r"] is None
    found = list(layer_set.measure("stableviton", Counter({Shape(40, 1, 16, 2, ""): 2}), torch.float32, CPU, 1))
    assert set(found[1]["error_of"]) == {"output", "r2g"}


def test_wrong_maps_get_no_times(tmp_path, monkeypatch, layers):
    ours = layer_set.RUNNERS["ours"]

    def wrong(given):
        out = ours(given)
        if given["query"].shape[2] == 64:  # of the two shapes the last
            given["g2r"].mul_(1.01)
        return out

    monkeypatch.setitem(layer_set.RUNNERS, "ours", wrong)
    code, found = run(tmp_path, monkeypatch, layers, "--families", "sdxl_ip_16")
    sdpa, row, eager = found
    assert code == 1
    assert row["red"]
    assert not {"ms", "ratio", "peak_mb"} & set(row)
    assert "RED" in layer_set.line(row)
    assert "| red | " in layer_set.summary(found)
    assert "ms" in sdpa
    assert "ms" in eager


def test_eager_that_would_not_fit_is_not_run(monkeypatch):
    monkeypatch.setattr(layer_set, "EAGER_BYTES", 1e4)
    sdpa, ours, eager = layer_set.measure("sdxl_ip_16", tiny(), torch.float32, CPU, 1)
    assert "ms" in sdpa
    assert "ms" in ours
    assert "eager stores" in eager["skipped"]
    assert "ms" not in eager
    where = {"device": "A processor", "capability": None, "threads": 2, "torch": "2", "triton": None, "python": "3"}
    where |= {"commit": "0" * 40, "dirty": False}
    table = layer_set.summary([{**row, "environment": where} for row in (sdpa, ours, eager)])
    assert table.endswith(f"- not run: eager (sdxl_ip_16): {eager['skipped']}")


def test_bad_words_are_named():
    with pytest.raises(ValueError, match="--repeats must be 1 or more, got 0"):
        layer_set.main(["--repeats", "0"])
    with pytest.raises(SystemExit):
        layer_set.main(["--families", "none"])
