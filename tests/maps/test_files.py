"""Files of maps: what was saved comes back bit for bit, and nothing else is taken for it."""

import json
import pickle
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from saved import run_of

import i2am
from i2am import AttributionMaps
from i2am.maps.layer_sums import SUMS


def equal(one: AttributionMaps, two: AttributionMaps) -> bool:
    """Field by field, tensors bit by bit; the tokenizer does not travel."""
    if any(getattr(one, f.name) != getattr(two, f.name) for f in fields(one) if f.name not in ("sums", "tokenizer")):
        return False
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for a, b in zip(one.sums, two.sums, strict=True) for f in fields(a)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return run_of_saved(tmp_path)[1]


def run_of_saved(folder: Path) -> tuple[AttributionMaps, Path]:
    run = run_of()
    return run, run.save(folder / "run.safetensors")


def rewritten(path: Path, edit: Any = None, tensors: dict[str, torch.Tensor] | None = None, text: str | None = None) -> Path:
    """The same file with another description or other tensors."""
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["i2am"])
    if edit is not None:
        edit(about)
    out = path.with_name("other.safetensors")
    save_file(load_file(path) if tensors is None else tensors, out, {"i2am": json.dumps(about) if text is None else text})
    return out


def test_what_was_saved_comes_back(tmp_path):
    run, path = run_of_saved(tmp_path)
    back = i2am.load(str(path))
    assert equal(run, back)
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    assert torch.equal(back.words(layers="down.0").maps, run.words(layers="down.0").maps)
    again = back.save(tmp_path / "again.safetensors")
    assert equal(i2am.load(again), run)
    assert equal(i2am.load(back[1].save(path)), run[1])  # over the old file
    assert equal(i2am.load(rewritten(again)), run)
    assert all(type(grid) is tuple for s in back.sums for grid in (s.generated_grid, s.reference_grid) if grid is not None)


def test_a_recorders_maps_come_back(tmp_path):
    """One image, group and head with regions: the tensors are views of one buffer."""
    recorder = i2am.Recorder(groups=1, specific="grid")
    query, key = torch.randn(1, 1, 6, 8), torch.randn(1, 1, 9, 8)
    recorder.attend("a", query, key, key, generated_grid=[3, 2], reference_grid=(2, 3), reference=(3, 9), words=(0, 2))
    recorder.step()
    run = recorder.maps
    back = i2am.load(run.save(tmp_path / "run.safetensors"))
    assert torch.equal(back.specific(3), run.specific(3))
    assert torch.equal(back.unified("r2g"), run.unified("r2g"))
    assert back.regions == run.regions


def test_a_file_says_what_it_was_made_with(saved):
    with safe_open(saved, "pt") as file:
        about = json.loads(file.metadata()["i2am"])
    assert about["format"] == "i2am maps 1"
    assert about["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert set(about["axes"]) == set(SUMS)


def test_paths(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"path must be a \.safetensors file, got .*run\.pt\. Write run\.safetensors"):
        run_of().save(tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"path must be a name, got an empty one"):
        run_of().save("")
    with pytest.raises(ValueError, match=r"path must be a file of maps, got .*none\.safetensors, which is not there"):
        i2am.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"path must be a file of maps, got .* which is a folder without \.safetensors files"):
        i2am.load(tmp_path)
    for name in ("b", "a"):
        run_of().save(tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"which is a folder with 'a\.safetensors', 'b\.safetensors'\. Maps are written by"):
        i2am.load(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_of().save("here.safetensors") == Path("here.safetensors")
    assert i2am.load("here.safetensors").steps == 7


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["before", "midway", "rename"])
def test_a_failed_save_leaves_the_old_file(saved, monkeypatch, moment, error):
    before = saved.read_bytes()

    def fail(*args: Any, **kwargs: Any) -> None:
        if moment == "midway":
            Path(args[1]).write_bytes(b"half")
        raise error

    if moment == "rename":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(type(error)):
        replace(run_of(), steps=8).save(saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_folder_in_the_way_or_missing_leaves_no_litter(tmp_path):
    (tmp_path / "run.safetensors").mkdir()
    with pytest.raises((OSError, ValueError)):
        run_of().save(tmp_path / "run.safetensors")
    with pytest.raises((OSError, ValueError), match="folder"):
        run_of().save(tmp_path / "no folder" / "run.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]


def trap(*_: object) -> None:
    raise AssertionError("the file was unpickled")


class Bomb:
    def __reduce__(self) -> Any:
        return trap, ()


@pytest.mark.parametrize(
    "write", [lambda p: torch.save({"0.r2g": Bomb()}, p), lambda p: p.write_bytes(pickle.dumps(Bomb()))], ids=["torch", "pickle"]
)
def test_loading_runs_nothing(tmp_path, write):
    path = tmp_path / "run.safetensors"
    write(path)
    with pytest.raises(ValueError, match=r"run\.safetensors is damaged or no safetensors file .* Write it again with maps\.save"):
        i2am.load(path)
    source = Path(i2am.maps.files.__file__).read_text(encoding="utf-8")
    assert not re.search(r"pickle|torch\.load|\beval\b|\bexec\b", source)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_a_cut_file_is_damaged(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        i2am.load(saved)


def test_files_of_others_are_refused(saved, tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.ones(2, device="cpu")}, foreign)
    with pytest.raises(ValueError, match=r"a file with the description \"i2am maps 1\", got 'no description of maps'\. Read it with"):
        i2am.load(foreign)
    with pytest.raises(ValueError, match=r"got 'i2am maps 2'"):
        i2am.load(rewritten(saved, lambda about: about.update(format="i2am maps 2")))
    for text in ("{", "[]", "null", "", '"i2am maps 1"', "[" * 200_000):
        with pytest.raises(ValueError, match="no description of maps"):
            i2am.load(rewritten(saved, text=text))


LIES: dict[str, Any] = {
    "groups": lambda about: about.update(groups=3),
    "groups in words": lambda about: about.update(groups="2"),
    "steps before the start": lambda about: about.update(steps=-1),
    "endless steps": lambda about: about.update(steps=float("inf")),
    "empty layers": lambda about: about.update(layers=[]),
    "null layers": lambda about: about.update(layers=None),
    "a layer too many": lambda about: about["layers"].append(about["layers"][0]),
    "a layer too few": lambda about: about["layers"].pop(),
    "layers in a dict": lambda about: about.update(layers={"0": 1}),
    "canvas": lambda about: about["layers"][0].update(generated_grid=[5, 5]),
    "canvas of three sides": lambda about: about["layers"][0].update(generated_grid=[4, 3, 9]),
    "negative canvas": lambda about: about["layers"][0].update(generated_grid=[-4, -3]),
    "canvas of words alone": lambda about: about["layers"][3].update(generated_grid=[3, 3]),
    "reference": lambda about: about["layers"][0].update(reference_grid=[11, 1]),
    "special": lambda about: about["layers"][0].update(special=2),
    "negative special": lambda about: about["layers"][0].update(special=-1),
    "regions": lambda about: about.update(regions=["a", "b", "c"]),
    "empty regions": lambda about: about.update(regions=[]),
    "columns": lambda about: about.update(columns=[1, 2]),
    "prompts": lambda about: about["prompts"][0].update(tokens="abc"),
    "three prompts of two images": lambda about: about["prompts"].append(about["prompts"][0]),
    "about": lambda about: about.update(about=[1]),
    **{f"no {key}": lambda a, key=key: a.pop(key) for key in ("layers", "steps", "groups", "regions", "columns", "prompts", "about")},
    **{f"layer without {key}": lambda a, key=key: a["layers"][0].pop(key)
       for key in ("layer", "source", "generated_grid", "reference_grid", "special")},
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_description_that_lies_is_refused(saved, lie):
    with pytest.raises(ValueError, match=r"the description in .* does not fit its tensors \(.*Write it again with maps\.save"):
        i2am.load(rewritten(saved, LIES[lie]))


def cut(tensors: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


SWAPS: dict[str, Any] = {
    "half": lambda t: {**t, "0.r2g": t["0.r2g"].half()},
    "double": lambda t: {**t, "1.g2r": t["1.g2r"].double()},
    "whole numbers": lambda t: {**t, "1.g2r": t["1.g2r"].int()},
    "flat": lambda t: {**t, "0.r2g": t["0.r2g"].flatten(2)},
    "one image less": lambda t: {**t, "0.r2g": t["0.r2g"][:1]},
    "no images": lambda t: {name: tensor[:0] for name, tensor in t.items()},
    "one group less": lambda t: {**t, "0.words": t["0.words"][:, :1].contiguous()},
    "one head less": lambda t: {**t, "0.g2r": t["0.g2r"][:, :, :1].contiguous()},
    "one token less": lambda t: {**t, "0.specific": t["0.specific"][..., :-1].contiguous()},
    "one word less": lambda t: {**t, "0.words": t["0.words"][:, :, :, :2].contiguous()},
    "more": lambda t: {**t, "4.r2g": t["0.r2g"].clone()},
    "stranger": lambda t: {**t, "weight": t["0.r2g"].clone()},
    "other direction": lambda t: {**t, "0.R2G": t["0.r2g"].clone()},
    "a layer gone": lambda t: cut(t, "3.words"),
    "r2g gone": lambda t: cut(t, "0.r2g"),
    "g2r gone": lambda t: cut(t, "0.g2r", "0.specific"),
    "nothing but g2r": lambda t: cut(t, "0.r2g", "0.words"),
    "specific gone": lambda t: cut(t, "0.specific"),
    "all gone": lambda t: {},
}


@pytest.mark.parametrize("swap", SWAPS)
def test_tensors_that_do_not_fit_are_refused(saved, swap):
    """A map that is lost must not read as a model that never had it."""
    with pytest.raises(ValueError, match=r"the description in .* does not fit its tensors"):
        i2am.load(rewritten(saved, tensors=SWAPS[swap](load_file(saved))))
