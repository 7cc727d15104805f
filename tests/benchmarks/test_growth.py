"""Growth is measured on runs that add up what they should; slopes are slopes, memory has the powers that the page claims."""

import pytest
import torch

from benchmarks.measuring import rows
from benchmarks.measuring.measure import peak_bytes
from benchmarks.operator import growth
from benchmarks.operator.growth import Point, run, slope
from benchmarks.operator.shapes import Shape, arguments

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_a_power_is_found():
    x = [1, 2, 4, 8]
    assert slope(x, [3 * n**1.7 for n in x]) == pytest.approx(1.7)
    assert slope(x, [5.0] * 4) == 0
    assert slope(x, [1, 2, 4, 16]) > slope(x[:3], [1, 2, 4])


def peak(runner, **sizes):
    point = Point(*(sizes.get(name, value) for name, value in {**growth.BASE._asdict(), "heads": 1}.items()))
    given = arguments(Shape(point.tokens, point.tokens, growth.SIZE, point.heads, ""), point.batch, torch.float32, CPU)
    return peak_bytes(lambda: run(runner, point, given), CPU)


def test_memory_is_linear_in_tokens_and_eager_s_quadratic():
    """Past the sizes where a head's whole score matrix fits the cache and a tile of it is a constant."""
    sizes = (2560, 5120)
    ours, eager = ([peak(runner, tokens=n) for n in sizes] for runner in ("ours", "eager"))
    assert slope(sizes, ours) < 1.05
    assert 1.9 < slope(sizes, eager) < 2.1
    assert eager[1] > 10 * ours[1]


def test_memory_is_flat_in_steps_and_holds_each_layer_s_sums():
    for runner in ("ours", "eager"):
        assert peak(runner, tokens=512, steps=3) == peak(runner, tokens=512)
        more = peak(runner, tokens=512, layers=3) - peak(runner, tokens=512)
        assert more == 2 * (512 + 512) * 4  # two layers more, both maps, float32
    assert slope((8, 16), [peak("ours", batch=n, tokens=512) for n in (8, 16)]) < 1.05


@pytest.mark.parametrize("fault", ["one step", "one layer", "maps"])
def test_wrong_sums_get_no_times(monkeypatch, fault):
    ours, done = growth.RUNNERS["ours"], []

    def wrong(given):
        done.append(0)
        lost = (len(done) % 4) == 1 and fault != "maps"  # of two steps with two layers
        out = ours({**given, "r2g": torch.zeros_like(given["r2g"])} if lost and fault == "one step" else given)
        if (lost and fault == "one layer") or fault == "maps":
            given["g2r"].mul_(1.01)
        return out

    monkeypatch.setitem(growth.RUNNERS, "ours", wrong)
    sdpa, row, eager = growth.measure("steps", Point(40, 1, 2, 2, 2), CPU, repeats=1)
    assert row["red"]
    assert not {"ms", "ratio", "peak_mb"} & set(row)
    assert "RED" in growth.line(row)
    assert not sdpa["red"]
    assert set(sdpa["error_of"]) == {"output"}
    assert set(eager["error_of"]) == {"output", "r2g", "g2r"}
    assert eager["ratio"] > 0


def test_rows_slopes_plot_and_table(tmp_path, capsys):
    out = tmp_path / "growth.jsonl"
    words = ["--quick", "--sweeps", "tokens", "steps", "--repeats", "2", "--threads", str(torch.get_num_threads()), "--device", "cpu"]
    assert growth.main([*words, "--out", str(out)]) == 0
    found = rows.read(out)
    points, fits = [row for row in found if "sweep" in row], [row for row in found if "fit" in row]
    assert [(row["sweep"], row[row["sweep"]], row["runner"]) for row in points] == [
        (sweep, value, runner) for sweep in ("tokens", "steps") for value in growth.QUICK[sweep] for runner in growth.RUNNERS
    ]
    assert all({"ms", "ratio", "peak_mb", "error_of", "allowed", "environment"} <= set(row) for row in points)
    assert [(row["fit"], row["runner"]) for row in fits] == [(sweep, runner) for sweep in ("tokens", "steps") for runner in growth.RUNNERS]
    assert {row["runner"]: row["memory_slope"] for row in fits if row["fit"] == "steps"} == dict.fromkeys(growth.RUNNERS, 0)
    assert "tokens  64 to 256  eager" in capsys.readouterr().out
    from PIL import Image

    picture = Image.open(out.with_suffix(".png")).convert("RGB")
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert len(picture.getcolors(1 << 16)) > 100
    table = growth.summary(found).splitlines()
    assert len(table) == 2 + 2 + 6
    assert "what does not grow: batch 1, heads 4, layers 1, steps 1, tokens 64, head size 64" in table[0]
    assert table[-1].startswith("| steps, 1 to 2 | eager, both maps |")


def test_a_red_point_is_left_out_of_the_slope(tmp_path):
    def row(runner, n, red=False):
        numbers = {} if red else {"ms": {"p50": float(n)}, "peak_mb": float(n * n), "ratio": 1.0}
        return {"sweep": "batch", **growth.BASE._asdict(), "batch": n, "runner": runner, "red": red, "error_of": {"r2g": 1.0}, **numbers}

    found = [row("ours", 1), row("ours", 2, red=True), row("ours", 4), row("eager", 1), row("eager", 2, red=True)]
    (fit,) = growth.slopes(found)
    assert (fit["runner"], fit["points"], fit["time_slope"], fit["memory_slope"]) == ("ours", 2, 1, 2)
    where = {"device": "A processor", "capability": None, "threads": 2, "torch": "2", "triton": None, "python": "3"}
    where |= {"commit": "0" * 40, "dirty": False}
    assert "ours, both maps, some red" in growth.summary([{**one, "environment": where} for one in (*found, fit)])
    growth.plot([*found, fit], tmp_path / "plot.png")


def test_bad_words_are_named():
    with pytest.raises(ValueError, match="--repeats must be 1 or more, got 0"):
        growth.main(["--repeats", "0"])
    with pytest.raises(SystemExit):
        growth.main(["--sweeps", "none"])
