"""The benchmark of studies on a small model, without DAAM: a stand-in with its face, and what becomes of wrong maps or none."""

import sys
from types import ModuleType

import matplotlib
import pytest
import torch

import i2am.compat.daam
from benchmarks.measuring import rows
from benchmarks.peers import studies
from benchmarks.report.studies import NONE, summary

pytestmark = pytest.mark.usefixtures("on_the_cpu")
CONFIG = {
    "block_out_channels": (32,), "layers_per_block": 1, "cross_attention_dim": 32, "attention_head_dim": 2,
    "down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",), "mid_block_type": None,
}  # fmt: skip
TINY = studies.Study(CONFIG, 1, 1, 2, (2, 8))


class Face(i2am.compat.daam.trace):
    """DAAM's face over ours, whose numbers are held against DAAM's elsewhere; its maps are of any size."""

    def canvas(self, maps):
        (size,) = {s.generated_grid for s in maps.sums}
        return size, size[0] * size[1]


@pytest.fixture(autouse=True)
def faces(monkeypatch):
    library = ModuleType("daam")
    library.trace = Face
    monkeypatch.setitem(sys.modules, "daam", library)
    monkeypatch.setattr(studies, "SIDE", 8)
    monkeypatch.setitem(matplotlib.rcParams, "figure.dpi", 10)  # drawing takes longer than painting does
    monkeypatch.setitem(studies.STUDIES, "small", TINY)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # the process is shared with other tests


def run(tmp_path, *words):
    out = tmp_path / "rows.jsonl"
    code = studies.main(["--only", "small", "--device", "cpu", "--out", str(out), *words])
    return code, rows.read(out)


def test_rows_and_the_table(tmp_path, capsys):
    code, found = run(tmp_path)
    assert code == 0
    assert [(row["runner"], row["batch"]) for row in found] == [
        ("pipeline", 1), ("pipeline", 2), ("daam", 1), ("daam, nothing drawn", 1), ("i2am", 1), ("i2am", 2)]  # fmt: skip
    for row in found:
        assert not row["red"]
        assert set(row["prompts_per_minute"]) == set(row["ratio"]) == {"p20", "p50", "p80"}
        assert set(row["error_of"]) == ({"images"} if row["runner"] == "pipeline" else {"images", "maps"})
        assert (row["prompts"], row["steps"], row["rounds"], row["latent"]) == (2, 1, 1, [8, 8])
        assert row["peak_mb"] > 0
    assert found[0]["ratio"]["p50"] == 1
    shown = summary([{**row, "peer_version": "9"} for row in found])
    assert shown.count("| small, 2 prompts of 1 steps |") == 6
    assert "| daam 9, a picture drawn of each word | 1 |" in shown
    assert "| daam 9, nothing drawn | 1 |" in shown
    assert summary([*found, *found]) == summary(found)
    assert "i2am                 batch 2" in capsys.readouterr().out
    assert summary([]) == NONE


def test_wrong_maps_get_no_times(tmp_path, monkeypatch):
    def wrong(model, batch, asked, out):
        found = right(model, batch, asked, out)
        for one in found.values():
            one.maps["cat"].mul_(1.01)
        return found

    right = studies.ours
    monkeypatch.setattr(studies, "ours", wrong)
    code, found = run(tmp_path, "--batches", "1", "--prompts", "1")
    assert code == 1
    assert [row["red"] for row in found] == [True] * 4
    assert not any({"prompts_per_minute", "ratio"} & set(row) for row in found)
    assert summary(found).count("| red, not reported |") == 4


def test_what_is_missing_is_infinitely_apart():
    map, image = torch.rand(4, 4), torch.rand(4, 4, 3)
    theirs = {"0000": studies.Found(image, {"cat": map, "dog": map})}
    assert studies.apart({"0000": studies.Found(image, {"cat": map, "dog": map})}, theirs) == {"images": 0, "maps": 0}
    assert studies.apart({"0000": studies.Found(image, {"cat": map})}, theirs) == {"images": torch.inf, "maps": torch.inf}
    assert studies.apart({"0000": studies.Found(image[:2], {})}, theirs) == {"images": torch.inf}
    assert studies.apart({"0000": studies.Found(1 - image, {"cat": map, "dog": map})}, theirs)["images"] > studies.ALIKE


def test_without_daam_there_is_a_row_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "daam", ModuleType("daam"))  # of another version: it has no trace
    code, (row,) = run(tmp_path)
    assert code == 0
    assert row["skipped"].startswith("AttributeError: module 'daam' has no attribute 'trace'")
    assert "- not run: daam" in summary([row])


def test_prompts_have_no_word_inside_another_and_no_prompt_twice():
    found = studies.listed(16)
    assert len({one.prompt for one in found}) == len({one.id for one in found}) == 16
    for one in found:
        words = one.prompt.split()
        assert len(set(words)) == 5
        assert not any(word != other and word in other for word in words for other in words)


def test_options_are_refused():
    with pytest.raises(ValueError, match="--batches must be 1 or more, got 0"):
        studies.main(["--batches", "0"])
