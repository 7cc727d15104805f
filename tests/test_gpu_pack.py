"""The GPU pack in miniature, as a command: every section runs, rows parse, and a wrong result silences its speed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_checks, gpu_models, gpu_pack, rows

ROOT = Path(__file__).parents[1]


def pack(folder, *words, interpreter=True):
    settings = {**os.environ, "TRITON_INTERPRET": "1" if interpreter else "0"}
    command = [sys.executable, "-m", "benchmarks.gpu_pack", "--quick", "--device", "cpu", "--out", str(folder), *words]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)
    return done, rows.read(folder / "rows.jsonl")


def test_every_section_runs(tmp_path):
    done, found = pack(tmp_path, "--tune")
    red = [row for row in found if row.get("red") or "error" in row]
    assert done.returncode == 0, (red, done.stderr)
    sections = [row["section"] for row in found]
    assert sections[0] == "environment"
    assert sections[-1] == "end"
    assert set(sections) == {"environment", "correctness", "determinism", "compile", "graph", "tune", "route", "timings", "end"}
    assert found[-1]["left_out"] == []
    checked = {row["runner"] for row in found if row["section"] == "correctness"}
    assert checked == {"triton", "triton_own", "triton_library", "streaming", "reference"}
    timed = {row["runner"] for row in found if row["section"] == "timings" and "ms" in row}
    assert timed == {"sdpa", "triton", "streaming", "eager", "four_flash"}
    assert all("ms" in row for row in found if row["section"] == "tune")
    assert {row["sweep"] for row in found if row["section"] == "tune"} == {"forward", "keys", "queries", "one_tile"}
    assert "correctness: 15 rows, 0 red" in done.stdout


@pytest.mark.parametrize("section", gpu_models.SECTIONS)
def test_every_section_of_models_runs(section, tmp_path):
    settings = {**os.environ, "TRITON_INTERPRET": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu_pack", "--quick", "--device", "cpu", "--section", section, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [name for name, *_ in gpu_models.SECTIONS[section]]
    assert names == [name for name, *_ in gpu_models.QUICK[section]]
    for name in names:
        found = rows.read(tmp_path / f"{name}.jsonl")
        assert found, name
        assert not any(row.get("red") for row in found)


def test_a_section_that_has_no_time_or_crashes_is_named(tmp_path, capsys):
    endings = iter(["no time", "exit code 1: broken"])
    assert gpu_models.run("pipelines", tmp_path, "cpu", 1.0, True, lambda words, end: next(endings)) == 1
    said = capsys.readouterr().out
    assert "pipelines pipelines: 0 rows" in said
    assert "no time" in said
    assert "exit code 1: broken" in said


def test_a_wrong_result_is_red_and_has_no_speed(tmp_path):
    """Without the interpreter: Triton says so and is skipped, streaming is spoiled."""
    done, found = pack(tmp_path, "--fault", "streaming", interpreter=False)
    assert done.returncode == 1
    assert all(row["red"] for row in found if row["section"] == "correctness" and row["runner"] == "streaming")
    assert all("skipped" in row for row in found if row["section"] == "correctness" and row["runner"].startswith("triton"))
    spoiled = [row for row in found if row["section"] == "timings" and row["runner"] == "streaming"]
    assert spoiled
    assert all(row["red"] and "check" in row["why"] and "ms" not in row for row in spoiled)
    assert any("ms" in row for row in found if row["section"] == "timings" and row["runner"] == "eager")
    assert "RED correctness" in done.stdout


def test_without_time_everything_is_left_out_by_name(tmp_path):
    done, found = pack(tmp_path, "--seconds", "0")
    assert done.returncode == 0
    left = found[-1]["left_out"]
    assert "checks general-float32, after 0 rows" in left
    assert "warp_192 batch 8 bfloat16 all" in left


def test_a_crashed_group_is_red_for_all_of_our_backends(tmp_path):
    import torch

    found = gpu_pack.Pack(tmp_path, torch.device("cpu"), 60.0, True, "", None)
    gpu_pack.finished(found, "general-bfloat16", "exit code -11: ")
    assert {"triton", "triton_own", "triton_library", "streaming"} <= set(found.known_red("bfloat16"))
    assert found.known_red("float16") == []


def test_an_item_that_crashes_is_a_row(tmp_path):
    import torch

    found = gpu_pack.Pack(tmp_path, torch.device("cpu"), 60.0, True, "", None)

    def work():
        yield {"a": 1}
        raise RuntimeError("broken")

    found.item("an item", 1, work, "tune")
    assert [row.get("error") for row in rows.read(tmp_path / "rows.jsonl")] == [None, "RuntimeError: broken"]


def test_the_cases_cover_the_list():
    cases = [case for family in gpu_checks.FAMILIES.values() for case in family]
    assert {8, 40, 64, 80, 128, 160, 256} <= {case.size for case in cases}
    assert {1, 3, 17} <= {case.weights for case in cases}
    assert {"logit", "columns", "row_offsets", "column_offsets"} <= {case.logits for case in cases}
    assert len({case.name for case in cases}) == len(cases)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cpu"], "--device must be cuda, or cpu with --quick"),
        (["--device", "cpu", "--quick", "--fault", "nobody"], "--fault must be of"),
    ],
)
def test_bad_words_are_named(words, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        gpu_pack.main(["--out", str(tmp_path), *words])


def test_a_folder_with_rows_is_not_written_into(tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"without rows.jsonl"):
        gpu_pack.main(["--out", str(tmp_path), "--quick", "--device", "cpu"])
