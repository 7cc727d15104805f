"""The benchmarks measure what they say: rows survive, medians are medians, memory is memory, baselines do the same job."""

import json
import subprocess

import pytest
import torch

from benchmarks.measuring import measure, rows, table
from benchmarks.operator import baselines, judge, one_call, shapes
from benchmarks.report import grouped

CPU = torch.device("cpu")
SMALL = shapes.Shape(63, 130, 40, 3, "odd lengths, ranges inside both", (5, 60), (7, 111))
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def call_and_truth(shape=SMALL, dtype=torch.float32, which="half", batch=2):
    call = judge.call_of(shapes.arguments(shape, batch, dtype, CPU, which))
    return call, judge.answer(call, torch.float64)


@pytest.mark.parametrize("which", ["all", "half"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["eager", "four_flash"])
def test_baselines_agree_with_the_truth(name, dtype, which):
    call, true = call_and_truth(dtype=dtype, which=which)
    found = judge.errors(judge.picked(call, baselines.BASELINES[name](call)), true)
    assert set(found) == {"output", "r2g", "g2r"}
    limits = judge.allowed(call, true, precise=name == "four_flash")  # its bias keeps float32's digits in any dtype
    assert not judge.red(found, limits), (found, limits)


def test_sdpa_is_the_floor():
    call, true = call_and_truth()
    found = judge.errors({"output": judge.picked(call, baselines.sdpa(call))["output"]}, true)
    assert not judge.red(found, judge.allowed(call, true))
    assert not call.r2g.any()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_composition_without_its_compiler():
    call, true = call_and_truth()
    found = judge.errors(judge.picked(call, baselines.compose(call, baselines.flex_with_lse)), true)
    assert not judge.red(found, judge.allowed(call, true)), found


def test_colreduce_directions_with_a_stand_in(monkeypatch):
    """The same two calls over an eager column reduction."""
    import sys
    import types

    def column_mean(query, key, reduction, scale):
        assert reduction == "mean"
        return (query @ key.mT * scale).softmax(-1).mean(-2)

    call, true = call_and_truth()
    monkeypatch.setitem(sys.modules, "flash_colreduce", types.SimpleNamespace(flash_colreduce=column_mean, __spec__=object()))
    with pytest.raises(baselines.Unsupported, match="CUDA only"):
        baselines.colreduce(call)
    monkeypatch.setattr(baselines, "needs_cuda", lambda call, message: None)
    found = judge.errors(judge.picked(call, baselines.colreduce(call)), true)
    assert not judge.red(found, judge.allowed(call, true)), found


def test_the_wide_head_that_carries_a_bias_on_cuda():
    """What CUDA's flash attention is given, through plain arithmetic: three terms hold the bias to float32's digits."""
    query, key, bias = torch.randn(1, 2, 9, 40), torch.randn(1, 2, 11, 40), torch.randn(1, 2, 11) * 50
    for dtype in (torch.float16, torch.bfloat16):
        wide_query, wide_key, _ = baselines.with_bias(query.to(dtype), key.to(dtype), bias, 40**-0.5)
        assert wide_query.shape[-1] == wide_key.shape[-1] == 48
        got = wide_query.double() @ wide_key.double().mT * 40**-0.5
        wanted = query.to(dtype).double() @ key.to(dtype).double().mT * 40**-0.5 + bias[:, :, None].double()
        torch.testing.assert_close(got, wanted, atol=3e-5, rtol=0)


def test_baselines_say_what_they_cannot_do():
    given = shapes.arguments(SMALL, 1, torch.float32, CPU)
    call = judge.call_of({**given, "reference_weight": torch.ones(1, 104)})
    with pytest.raises(baselines.Unsupported, match="reference_weight"):
        baselines.four_flash(call)
    with pytest.raises(baselines.Unsupported, match="CUDA"):
        baselines.flex(judge.call_of(given))


@pytest.mark.parametrize("fault", ["swap", "scale", "last key", "nan", "row"])
def test_truth_sees_planted_faults(fault):
    call, true = call_and_truth(which="all")
    got = judge.answer(call, torch.float32)
    limits = judge.allowed(call, true)
    assert not judge.red(judge.errors(got, true), limits)
    if fault == "swap":
        got["r2g"] = got["r2g"].flip(-1)
    elif fault == "scale":
        got["g2r"] *= 1.001
    elif fault == "last key":
        got["g2r"][..., -1] = 0
    elif fault == "nan":
        got["output"][0, 0, 0] = torch.nan
    else:
        got["r2g"] = got["r2g"].roll(1, 0)
    assert judge.red(judge.errors(got, true), limits)


def test_peak_memory_of_known_allocations():
    def call():
        first = torch.empty(1 << 20, dtype=torch.uint8)
        second = torch.empty(3 << 20, dtype=torch.uint8)
        del first
        return second, torch.empty(1 << 19, dtype=torch.uint8)

    assert measure.peak_bytes(call, CPU) == 4 << 20
    large = torch.empty(8 << 20, dtype=torch.uint8)
    assert measure.peak_bytes(lambda: large[:5].clone(), CPU) == 5  # what was there before does not count
    call = shapes.arguments(SMALL, 2, torch.float32, CPU)
    first, again = (measure.peak_bytes(lambda: one_call.ours("streaming", call), CPU) for _ in range(2))
    scores = 4 * SMALL.heads * SMALL.generated * SMALL.reference
    assert first == again > scores  # what a call keeps for the next is its own, each time


def test_interleaved_takes_turns():
    order = []
    times = measure.interleaved({name: lambda name=name: order.append(name) for name in "ABC"}, 4, CPU)
    assert "".join(order) == "ABC" * 5  # one round of warm-up
    assert {name: len(taken) for name, taken in times.items()} == dict.fromkeys("ABC", 4)
    assert len(measure.interleaved({"A": lambda: None}, 50, CPU, seconds=0)["A"]) == 3
    with pytest.raises(ValueError, match="repeats must be 1 or more, got 0"):
        measure.interleaved({}, 0, CPU)


def test_percentiles():
    assert rows.percentiles([5.0, 1.0, 4.0, 2.0, 3.0]) == {"p20": 1.8, "p50": 3.0, "p80": 4.2}
    with pytest.raises(ValueError, match="at least one value"):
        rows.percentiles([])


def test_rows_survive_a_cut(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    writer = rows.Writer(path, {"device": "here"})
    writer.write({"a": 1})
    assert rows.read(path) == [{"a": 1, "environment": {"device": "here"}}]  # on disk before the file is closed
    with path.open("a") as file:
        file.write('{"a": 2, "envi')
    assert len(rows.read(path)) == 1
    with path.open("a") as file:
        file.write("\n" + json.dumps({"a": 3}) + "\n")
    with pytest.raises(ValueError, match=r"rows.jsonl:2"):
        rows.read(path)


def test_the_environment_names_everything():
    place = rows.environment(CPU)
    assert all(place[name] for name in ("device", "cpu", "threads", "torch", "python", "date"))
    assert rows.slug("NVIDIA H200") == "nvidia-h200"


def test_rows_do_not_make_later_rows_dirty(tmp_path, monkeypatch):
    """`make bench` writes rows while it goes on measuring; what is measured stays what was committed."""
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for path in ("benchmarks/results/a.jsonl", "benchmarks/measuring/rows.py", "README.md", "tests/README.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    for more in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*words, *more], cwd=tmp_path, check=True)
    monkeypatch.setattr(rows, "__file__", str(tmp_path / "benchmarks" / "rows.py"))

    def dirty():
        return rows.environment(torch.device("cpu"))["dirty"]

    for path in ("benchmarks/results/a.jsonl", "benchmarks/results/new.png", "README.md"):
        (tmp_path / path).write_text("changed")
        assert dirty() is False, path
    for path in ("tests/README.md", "benchmarks/new.py"):
        (tmp_path / path).write_text("changed")
        assert dirty() is True, path
        subprocess.run([*words, "add", "-A"], cwd=tmp_path, check=True)
        subprocess.run([*words, "commit", "-qm", path], cwd=tmp_path, check=True)


def test_operators_writes_rows_and_table_shows_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(shapes.SHAPES, "tiny", shapes.Shape(33, 19, 40, 1, "for this test"))
    out = tmp_path / "rows.jsonl"
    words = ["--shapes", "tiny", "--runners", "streaming", "eager", "flex", "--repeats", "3", "--device", "cpu", "--out", str(out)]
    assert one_call.main(words) == 0
    found = rows.read(out)
    assert [(row["runner"], row["rows"]) for row in found] == [
        (n, w) for w in ("all", "half") for n in ("sdpa", "streaming", "eager", "flex")
    ]
    for row in found:
        assert "skipped" in row if row["runner"] == "flex" else {"ms", "ratio", "peak_mb", "error_of", "allowed"} <= set(row)
    capsys.readouterr()
    assert table.main([str(out)]) == 0
    shown = capsys.readouterr().out
    assert "| tiny | 33, 19, 40, 1 | 2, half | float32 | streaming |" in shown
    assert "not run: flex (tiny): compiled FlexAttention" in shown


def test_key_heads_are_shared_or_repeated_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(shapes.SHAPES, "tiny", shapes.Shape(33, 190, 40, 4, "for this test"))
    out = tmp_path / "rows.jsonl"
    words = ["--shapes", "tiny", "--key-heads", "2", "--rows", "all", "--repeats", "3", "--device", "cpu", "--out", str(out)]
    assert one_call.main([*words, "--runners", "streaming", "streaming_repeated", "eager"]) == 0
    found = {row["runner"]: row for row in rows.read(out)}
    assert {row["key_heads"] for row in found.values()} == {2}
    assert found["eager"]["skipped"] == "eager takes as many key heads as query heads"
    assert not any(found[name]["red"] for name in ("sdpa", "streaming", "streaming_repeated"))
    keys = 2 * 4 * 190 * 40 * 4  # bytes of a batch's, written out for every query head
    assert found["streaming_repeated"]["peak_mb"] - found["streaming"]["peak_mb"] > 1.5 * keys / 1e6
    shown = grouped.summary(list(found.values()))
    assert "| 33 x 190, 40, 4 : 2 |" in shown
    assert "Nothing" in grouped.summary([])
    with pytest.raises(ValueError, match="--key-heads must divide the heads of every shape, got 3 for tiny"):
        one_call.main(["--shapes", "tiny", "--key-heads", "3", "--out", str(out)])


def test_a_red_runner_gets_no_times(tmp_path, monkeypatch, capsys):
    def wrong(given):
        out = one_call.ours("streaming", given)
        given["r2g"].mul_(1.01)
        return out

    monkeypatch.setitem(shapes.SHAPES, "tiny", shapes.Shape(33, 19, 40, 1, "for this test"))
    monkeypatch.setitem(one_call.RUNNERS, "streaming", wrong)
    out = tmp_path / "rows.jsonl"
    words = ["--shapes", "tiny", "--runners", "streaming", "--rows", "all", "--repeats", "3", "--device", "cpu", "--out", str(out)]
    assert one_call.main(words) == 1
    sdpa, streaming = rows.read(out)
    assert "ms" in sdpa
    assert streaming["red"]
    assert not {"ms", "ratio", "peak_mb"} & set(streaming)
    table.main([str(out)])
    assert "| red | not reported |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shapes", "none"], "--shapes must be of warp_3072.*got none"),
        (["--runners", "mine"], "--runners must be of sdpa"),
        (["--dtype", "int8"], "--dtype must be of float32"),
        (["--rows", "third"], "--rows must be of all, half, both, got third"),
        (["--repeats", "0"], "--repeats must be 1 or more, got 0"),
        (["--batch", "1", "--rows", "half", "--shapes", "warp_192"], "needs a batch of 2"),
    ],
)
def test_bad_words_are_named(words, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        one_call.main([*words, "--device", "cpu", "--out", str(tmp_path / "rows.jsonl")])


def test_the_shapes_have_reasons():
    assert all(shape.why for shape in shapes.SHAPES.values())
    joint = judge.call_of(shapes.arguments(shapes.SHAPES["joint"]._replace(heads=1), 1, torch.float32, CPU))
    assert joint.canvas == (1, 1, 4096, 4096)
