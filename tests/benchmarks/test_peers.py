"""The benchmark of other tracers on a small model, without them: stand-ins with their faces, and what becomes of wrong or missing ones."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

import i2am.compat.daam
from benchmarks.measuring import rows
from benchmarks.peers import tracers
from benchmarks.report.peers import summary

pytestmark = pytest.mark.usefixtures("on_the_cpu")
CPU = torch.device("cpu")
TINY = tracers.Section({**tracers.NARROW, "block_out_channels": (32, 64), "cross_attention_dim": 32}, 2, 2, side=32)


class AttentionCapture:
    """attention-map-diffusers' face over the definition: P of each step and layer, the mean over heads, stored."""

    def __init__(self, pipe, relations, timesteps):
        assert (relations, timesteps) == (["image->text"], "all")
        self.unet, self.found, self.handles = pipe.unet, [], []

    def hook(self, name):
        def before(module, args, kwargs):
            states = (args[0], kwargs["encoder_hidden_states"])
            query, key = (to(x).unflatten(-1, (module.heads, -1)).transpose(1, 2) for to, x in zip((module.to_q, module.to_k), states))
            probabilities = (query @ key.mT * module.scale).softmax(-1).mean(1, keepdim=True)
            step = sum(record.layer_id == name for record in self.found)
            self.found.append(SimpleNamespace(layer_id=name, step_index=step, data=probabilities))

        return before

    def __enter__(self):
        layers = [(name, module) for name, module in self.unet.named_modules() if name.endswith("attn2")]
        self.handles = [module.register_forward_pre_hook(self.hook(f"unet.{name}"), with_kwargs=True) for name, module in layers]
        return self

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()

    def compute(self):
        class Maps(list):
            def summary(self):
                return {"layers": len({record.layer_id for record in self})}

        return Maps(self.found)


@pytest.fixture(autouse=True)
def faces(monkeypatch):
    """What is imported by the peers' names; DAAM's face is our own, whose numbers are held against DAAM's elsewhere."""
    library = ModuleType("attention_map_diffusers")
    library.AttentionCapture = AttentionCapture
    monkeypatch.setitem(sys.modules, "daam", i2am.compat.daam)
    monkeypatch.setitem(sys.modules, "attention_map_diffusers", library)
    monkeypatch.setitem(tracers.SECTIONS, "small", TINY)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # the process is shared with other tests


def run(tmp_path, name, *words):
    out = tmp_path / "rows.jsonl"
    code = tracers.main([name, "--only", "small", "--device", "cpu", "--out", str(out), *words])
    return code, rows.read(out)


@pytest.mark.parametrize(("name", "layers"), [("daam", 6), ("attention-map-diffusers", 7)])
def test_the_peers_maps_and_ours_agree(name, layers):
    model, peer = tracers.Model(TINY, CPU), tracers.PEERS[name]
    theirs, ours = peer.theirs(model), peer.ours(model)
    assert (theirs.layers, ours.layers) == (layers, layers)
    assert len(ours.maps) == (len(tracers.WORDS) if name == "daam" else TINY.steps * layers)
    assert tracers.apart(ours, theirs) < tracers.AGREE
    names = list(ours.maps)
    swapped = ours._replace(maps={**ours.maps, names[0]: ours.maps[names[0]].flip(-1)})  # another map would not pass
    assert tracers.apart(swapped, theirs) > 100 * tracers.AGREE
    assert tracers.difference(ours.latents, model.denoise()) < tracers.AGREE
    lacking = ours._replace(maps={other: ours.maps[other] for other in names[1:]})
    assert tracers.apart(lacking, theirs) == tracers.apart(theirs, lacking) == torch.inf


def test_rows_and_the_table(tmp_path, capsys):
    assert run(tmp_path, "daam", "--rounds", "1")[0] == 0
    code, found = run(tmp_path, "attention-map-diffusers")
    assert code == 0
    assert [(row["case"], row["runner"], row["rounds"]) for row in found] == [
        ("daam", "daam", 1), ("daam", "i2am", 1), ("attention-map-diffusers", "attention-map-diffusers", 2),
        ("attention-map-diffusers", "i2am", 2)]  # fmt: skip
    wanted = {"section", "maps", "peer_version", "asks_for", "stand_ins", "steps", "latent", "layers", "error_of", "red", "ms",
              "untraced_ms", "overhead_percent", "untraced_peak_mb", "extra_mb"}  # fmt: skip
    for row in found:
        assert wanted <= set(row)
        assert set(row["overhead_percent"]) == set(row["ms"]) == {"p20", "p50", "p80"}
        assert not row["red"]
        assert {"diffusers", "transformers"} <= set(row["environment"])
    memory = [row["extra_mb"] for row in found]
    assert memory[3] < memory[2]  # every step's P is stored there
    assert "small     daam" in capsys.readouterr().out
    shown = summary([{**row, "peer_version": "9", "asks_for": ["diffusers==0.1"], "stand_ins": ["spacy"]} for row in found])
    assert shown.count("| small, 2 steps |") == 4
    assert "| words of 6 layers | daam 9 |" in shown
    assert summary([*found, {**found[0], "extra_mb": 4321.0}]).count("| 4321.0 |") == 1  # the last of a repeated measurement
    assert summary([*found, *found]) == summary(found)
    assert "- daam 9 asks for diffusers==0.1; here it ran unchanged with the versions above, an empty module for spacy." in shown


def test_wrong_maps_get_no_times(tmp_path, monkeypatch):
    def wrong(model):
        found = tracers.as_daam(model)
        found.maps["cat"].mul_(1.01)
        return found

    monkeypatch.setitem(tracers.PEERS, "daam", tracers.PEERS["daam"]._replace(theirs=wrong))
    code, found = run(tmp_path, "daam")
    assert code == 1
    assert [row["red"] for row in found] == [True, True]
    assert not any({"ms", "overhead_percent"} & set(row) for row in found)
    assert summary(found).count("| red, not reported |") == 2


@pytest.mark.parametrize("where", ["import", "run"])
def test_a_peer_that_cannot_be_run_is_a_row(tmp_path, monkeypatch, where):
    broken = ModuleType("daam")  # of another version: it has no trace
    monkeypatch.setitem(sys.modules, "daam", None if where == "import" else broken)
    code, (row,) = run(tmp_path, "daam")
    assert code == 0
    assert row["skipped"].startswith("ModuleNotFoundError: " if where == "import" else "AttributeError: module 'daam' has no attribute 'tr")
    assert "ms" not in row
    assert f"- not run: daam (small): {row['skipped']}" in summary([row])
    assert "| small" not in summary([row])


def test_our_own_errors_are_not_the_peers(monkeypatch):
    def fails(model):
        raise RuntimeError("ours")

    monkeypatch.setitem(tracers.PEERS, "daam", tracers.PEERS["daam"]._replace(ours=fails))
    with pytest.raises(RuntimeError, match="ours"):
        list(tracers.measure("small", "daam", TINY, CPU))


def test_spacy_is_missed_only_while_daam_is_imported(tmp_path, monkeypatch):
    (tmp_path / "daam.py").write_text("import spacy.tokens\n\nclass Parsed:\n    token: spacy.tokens.Token\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "daam")
    monkeypatch.setattr(tracers, "has", lambda module: False)
    assert tracers.without_spacy().__file__ == str(tmp_path / "daam.py")
    assert "spacy" not in sys.modules
    assert tracers.about("small", "daam", TINY)["stand_ins"] == ["spacy"]


def test_options_are_refused():
    with pytest.raises(ValueError, match="--rounds must be 1 or more, got 0"):
        tracers.main(["daam", "--rounds", "0"])
