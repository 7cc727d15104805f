"""The benchmark of other tracers on a small model, without them: stand-ins with their faces, and what becomes of wrong or missing ones."""

import sys
from types import ModuleType, SimpleNamespace

import oracle
import pytest
import torch

import i2am.compat.daam
from benchmarks.measuring import rows
from benchmarks.peers import models, tracers
from benchmarks.report.peers import summary

pytestmark = pytest.mark.usefixtures("on_the_cpu")
CPU = torch.device("cpu")
TINY = models.Section({**models.NARROW, "block_out_channels": (32, 64), "cross_attention_dim": 32}, 2, 2, side=32)
FLUX = {**models.KLEIN, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "axes_dims_rope": (4,) * 4,
        "joint_attention_dim": 32, "timestep_guidance_channels": 16}  # fmt: skip
KLEIN = models.Section(FLUX, 2, 2, side=16, model=models.Klein)  # 64 positions behind 128 text tokens


class AttentionCapture:
    """attention-map-diffusers' face over the definition: P of each step and layer, the mean over heads, of stored attention."""

    def __init__(self, pipe, relations, timesteps="last"):
        assert relations == ["image->text"]
        assert timesteps in ("all", "last")
        self.last, self.name = timesteps == "last", "unet" if hasattr(pipe, "unet") else "transformer"
        keep = "attn2" if self.name == "unet" else ""
        self.recording = oracle.recorded(getattr(pipe, self.name), pipe.scheduler, lambda layer: layer.endswith(keep))

    def __enter__(self):
        self.calls = self.recording.__enter__()
        return self

    def __exit__(self, *error):
        self.recording.__exit__(*error)

    def compute(self):
        class Maps(list):
            def summary(self):
                return {"layers": len({record.layer_id for record in self})}

        found = Maps()
        for call in self.calls:
            text, generated = (call.key.shape[2], None) if self.name == "unet" else (models.TEXT, (models.TEXT, call.query.shape[2]))
            data = oracle.probabilities(call, generated, (0, text))[0].mean(1, keepdim=True).float()
            found.append(SimpleNamespace(layer_id=f"{self.name}.{call.layer}", step_index=call.step, data=data))
        return Maps(record for record in found if not self.last or record.step_index == found[-1].step_index)


@pytest.fixture(autouse=True)
def faces(monkeypatch):
    """What is imported by the peers' names; DAAM's face is our own, whose numbers are held against DAAM's elsewhere."""
    library = ModuleType("attention_map_diffusers")
    library.AttentionCapture = AttentionCapture
    monkeypatch.setitem(sys.modules, "daam", i2am.compat.daam)
    monkeypatch.setitem(sys.modules, "attention_map_diffusers", library)
    for name, section in {"small": TINY, "klein": KLEIN, "klein-last": KLEIN._replace(last=True)}.items():
        monkeypatch.setitem(models.SECTIONS, name, section)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # the process is shared with other tests


def run(tmp_path, name, *words, only="small"):
    out = tmp_path / "rows.jsonl"
    code = tracers.main([name, "--only", only, "--device", "cpu", "--out", str(out), *words])
    return code, rows.read(out)


@pytest.mark.parametrize(
    ("name", "section", "layers", "maps"),
    [("daam", "small", 6, 5), ("attention-map-diffusers", "small", 7, 14), ("attention-map-diffusers", "klein", 3, 6),
     ("attention-map-diffusers", "klein-last", 3, 3)],
)  # fmt: skip
def test_the_peers_maps_and_ours_agree(name, section, layers, maps):
    section = models.SECTIONS[section]
    model, peer = section.model(section, CPU), tracers.PEERS[name]
    theirs, ours = peer.theirs(model), peer.ours(model)
    assert (theirs.layers, ours.layers) == (layers, layers)
    assert len(ours.maps) == maps
    if section.last:
        assert {name.split()[1] for name in theirs.maps} == {str(section.steps - 1)}
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
    assert memory[3] < memory[2]  # every step's attention is stored there
    assert "small      daam" in capsys.readouterr().out
    shown = summary([{**row, "peer_version": "9", "asks_for": ["diffusers==0.1"], "stand_ins": ["spacy"]} for row in found])
    assert shown.count("| small, 2 steps |") == 4
    assert "| words of 6 layers | daam 9 |" in shown
    assert summary([*found, {**found[0], "extra_mb": 4321.0}]).count("| 4321.0 |") == 1  # the last of a repeated measurement
    assert summary([*found, *found]) == summary(found)
    assert "- daam 9 asks for diffusers==0.1; here it ran unchanged with the versions above, an empty module for spacy." in shown


def test_rows_of_flux(tmp_path):
    code, found = run(tmp_path, "attention-map-diffusers", "--rounds", "1", only="klein")
    assert code == 0
    assert [(row["section"], row["runner"], row["layers"], row["guided"], row["maps"]) for row in found] == [
        (section, runner, 3, False, maps)
        for section, maps in (("klein", "every token and step"), ("klein-last", "every token, last step"))
        for runner in ("attention-map-diffusers", "i2am")
    ]
    assert all("overhead_percent" in row and "extra_mb" in row and row["latent"] == [16, 16] for row in found)
    shown = summary(found)
    assert (shown.count("| klein, 2 steps | every token and step of 3 layers |"), shown.count("every token, last step of 3")) == (2, 2)


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


def test_daam_reads_unets_alone():
    with pytest.raises(ValueError, match="--only must be a section that daam reads, got klein"):
        tracers.main(["daam", "--only", "klein"])
