"""The cost of tracing the package's own pipelines is measured on the right maps, and its rows stand beside the other pipelines'."""

from copy import deepcopy
from functools import cache

import pytest
import torch

from benchmarks.measuring import rows, table
from benchmarks.parity.stableviton import SMALL
from benchmarks.pipeline import try_on
from benchmarks.report import page, targets

pytestmark = pytest.mark.usefixtures("on_the_cpu")
CPU = torch.device("cpu")


@cache
def stableviton(device):
    return try_on.stableviton(device, SMALL)


@cache
def small_world(device):
    return try_on.small_world(device, 2)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(try_on, "SECTIONS", {"stableviton": try_on.Section(stableviton, 2, 2),
                                             "small-world": try_on.Section(small_world, 1, 1)})  # fmt: skip

    def main(*words):
        out = tmp_path / "rows.jsonl"
        code = try_on.main(["--device", "cpu", "--threads", str(torch.get_num_threads()), "--out", str(out), *words])
        return code, rows.read(out)

    return main


def test_rows_stand_beside_the_other_pipelines(run, tmp_path, capsys):
    code, found = run()
    assert code == 0
    assert [row["section"] for row in found] == ["stableviton", "small-world"]
    wanted = {"case": "all_levels", "runner": "i2am", "maps": ["r2g", "g2r", "specific"], "guided": False, "dtype": "float32", "red": False}
    for row in found:
        assert {name: row[name] for name in wanted} == wanted
        assert {"ms", "untraced_ms", "peak_mb", "untraced_peak_mb", "extra_mb", "environment"} <= set(row)
        assert set(row["error_of"]) == set(row["allowed"]) == {"r2g", "g2r", "specific", "levels", "output"}
        assert max(row["allowed"].values()) < 1e-3
    what = [[row[name] for name in ("layers", "tokens", "latent", "batch", "steps", "groups", "pairs")] for row in found]
    assert what == [[25, 128, [16, 8], 1, 2, 2, 2], [5, 769, [32, 24], 2, 1, 1, 1]]
    warps = 8 * 3 * (128 + 32 + 8)  # heads, warp blocks of a grid, patches of the three grids; the UNet's 16: three, two and the rest
    assert found[0]["sums_mb"] == round(4 * (3 * warps + 8 * (5 * 128 + 5 * 32 + 5 * 8 + 2)) / 1e6, 3)

    capsys.readouterr()
    table.main([str(tmp_path / "rows.jsonl")])
    shown = capsys.readouterr().out
    assert "| stableviton | all_levels, not guided | r2g, g2r, specific of 25 |" in shown
    assert "| small-world | all_levels, 2 images, not guided | r2g, g2r, specific of 5 |" in shown
    assert targets.overheads(found) == targets.traced_memory(found) == []  # those are of SD1.5
    figure = page.draw_pipelines(found, False)
    assert [[bar.get_height() for bar in axis.patches] for axis in figure.axes] == [[row["overhead_percent"]["p50"] for row in found]]
    page.plots().close(figure)


def warp(result):
    return next(sums for sums in result.maps.sums if sums.g2r is not None)


WRONG = {
    "r2g": lambda result: result.maps.sums[3].r2g.mul_(1.01),
    "g2r": lambda result: warp(result).g2r[0, 0, 0].fill_(torch.nan),
    "specific": lambda result: warp(result).specific.copy_(warp(result).specific.roll(1, -1)),
    "levels": lambda result: result.levels[-1].mul_(1.01),
    "output": lambda result: result.output.mul_(1.01),
}


@pytest.fixture(scope="module")
def right(on_the_cpu):
    """One step of StableVITON, watched, painted and traced once for all that is made wrong of it."""
    model = stableviton(CPU)
    return model.watched(), model.paint(1), model.traced(1)


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_numbers_get_no_times(run, right, monkeypatch, kind):
    given, painted, traced = right

    def wrong(self, steps):
        result = deepcopy(traced)
        WRONG[kind](result)
        return result

    monkeypatch.setattr(try_on.Model, "watched", lambda self: given)
    monkeypatch.setattr(try_on.Model, "paint", lambda self, steps: painted)
    monkeypatch.setattr(try_on.Model, "traced", wrong)
    monkeypatch.setattr(try_on, "peak_bytes", lambda run, device: len([run()]))  # its profiler takes longer than the rest
    code, (row,) = run("--only", "stableviton")
    assert code == 1
    assert row["red"]
    assert [name for name, error in row["error_of"].items() if not error <= row["allowed"][name]] == [kind]
    assert "ms" not in row
    assert "| not reported | red |" in table.pipelines([row])


def test_another_patch_is_another_map(monkeypatch):
    model = stableviton(CPU)
    given, maps = model.watched(), model.traced(1).maps
    true, _ = try_on.definition(maps, given, torch.float64)
    monkeypatch.setattr(try_on, "PATCH", (0.6, 0.5))
    other, _ = try_on.definition(maps, given, torch.float64)
    size = model.latent
    found, wrong = (try_on.apart(maps, try_on.levels(maps, size), one, size) for one in (true, other))
    assert found["specific"] < 1e-4 < 1e-2 < wrong["specific"]
    assert found["r2g"] == wrong["r2g"]


def test_bad_words_are_named():
    with pytest.raises(ValueError, match="--pairs must be 1 or more, got 0"):
        try_on.main(["--pairs", "0"])
