"""The converter: every tensor of the published checkpoint's structure has a place, and nothing is dropped or executed in silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import Malicious, shapes
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.parity.stableviton import FULL, SMALL, Sizes, weights
from i2am.models.stableviton import StableVITONPipeline, convert
from i2am.models.stableviton.convert import fill, read_tensors
from i2am.models.stableviton.names import LEFT_OUT, left_out, renamed

pytestmark = pytest.mark.usefixtures("on_the_cpu")

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
QKV = "cond_stage_model.mapper.resblocks.1.attn.c_qkv.weight"


@cache
def checkpoint() -> dict[str, Tensor]:
    return weights(shapes("small"))


def hollow(sizes: Sizes = SMALL) -> dict[str, Any]:
    """Parts without weights."""
    with torch.device("meta"):
        return sizes.parts()


@cache
def refusing() -> dict[str, Any]:
    """Parts that no test fills."""
    return hollow()


@pytest.mark.parametrize(("width", "sizes"), [("small", SMALL), ("full", FULL)])
def test_every_tensor_of_the_original_has_a_place(width: str, sizes: Sizes) -> None:
    """At the release's widths nothing is computed: names and shapes, on the meta device."""
    models = hollow(sizes)
    with torch.device("meta"):
        fill(models, {name: torch.empty(shape) for name, shape in shapes(width).items()})
    places = [place for name in shapes(width) if not left_out(name) for place in renamed(name)[1]]
    assert len(places) == sum(len(model.state_dict()) for model in models.values())
    assert len(shapes(width)) > 1500


def test_what_is_left_out_is_what_it_says() -> None:
    """Each row of the table is met by the original, but for the positions that only an old transformers keeps."""
    met = {why: [name for name in shapes("full") if re.fullmatch(pattern, name)] for why, pattern in LEFT_OUT.items()}
    dead = met["computed by the release, read by nothing"]
    assert {name.split(".")[1] for name in dead} == {"input_blocks", "middle_block"}
    assert {name.split(".")[2] for name in dead if "input" in name} == {"9", "10", "11"}
    assert len(met["the noise schedule, which the scheduler computes"]) == 13
    assert len(met["a layer that the release never calls"]) == 2
    assert left_out("cond_stage_model.transformer.vision_model.embeddings.position_ids")


def test_tensors_land_where_they_are_used() -> None:
    models, state = hollow(), checkpoint()
    fill(models, state)
    query = models["image_encoder"].mapper[1].attn1
    assert torch.equal(torch.cat([query.to_q.weight, query.to_k.weight, query.to_v.weight]), state[QKV])
    assert torch.equal(models["unet"].conv_in.weight, state[FIRST])
    warp = models["unet"].warp_flow_blks[4].transformer_blocks[0].attn2.to_k.weight
    assert torch.equal(warp, state["model.diffusion_model.warp_flow_blks.4.transformer_blocks.0.attn2.to_k.weight"])
    finest = models["vae"].decoder.up_blocks[3].resnets[0].conv1.weight
    assert torch.equal(finest, state["first_stage_model.decoder.up.0.block.0.conv1.weight"])


def without(name: str) -> dict[str, Tensor]:
    return {key: one for key, one in checkpoint().items() if key != name}


WRONG: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "unexpected": (lambda: checkpoint() | {"model_ema.decay": torch.zeros(1), "first_stage_model.loss.weight": torch.zeros(1)},
                   r"2 unexpected: model_ema\.decay, first_stage_model\.loss\.weight\.$"),
    "missing": (lambda: without(FIRST), r"1 missing: unet\.conv_in\.weight\.$"),
    "missing three": (lambda: without(QKV), r"3 missing: .*mapper\.1\.attn1\.to_q\.weight, .*to_k\.weight, .*to_v\.weight\.$"),
    "shape": (lambda: checkpoint() | {FIRST: torch.zeros(32, 9, 3, 3)},
              r"1 of another shape: .*input_blocks\.0\.0\.weight \[32, 9, 3, 3\] \(for unet\.conv_in\.weight \[32, 13, 3, 3\]\)\.$"),
    "kernel": (lambda: checkpoint() | {"first_stage_model.encoder.mid.attn_1.q.weight": torch.zeros(128, 128, 3, 3)},
               r"1 of another shape: .*attn_1\.q\.weight"),
    "another model": (lambda: {FIRST: checkpoint()[FIRST], "text_model.bias": torch.zeros(1)}, r"1 unexpected: .*; \d{4} missing: "),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_every_wrong_tensor_is_named(wrong: str) -> None:
    state, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"^i2am: .*{message}"):
        fill(refusing(), state())


@pytest.mark.parametrize("kind", ["ckpt", "old ckpt", "safetensors", "bare"])
def test_checkpoints_of_every_kind_are_read(kind: str, tmp_path: Path) -> None:
    file, state = tmp_path / f"VITONHD.{kind.split()[-1]}", {FIRST: checkpoint()[FIRST], "betas": torch.rand(3)}
    if kind == "safetensors":
        save_file(state, file)
    else:
        torch.save(state if kind == "bare" else {"state_dict": state}, file, _use_new_zipfile_serialization=kind != "old ckpt")
    found = read_tensors(file)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], one) for name, one in state.items())


def test_a_folder_that_from_pretrained_reads(tmp_path: Path) -> None:
    torch.save({"state_dict": checkpoint()}, tmp_path / "VITONHD.ckpt")
    models = hollow()
    out = convert(tmp_path / "VITONHD.ckpt", tmp_path / "out", models=models)
    pipe = StableVITONPipeline.from_pretrained(out)
    for part, model in models.items():
        found = getattr(pipe, part).state_dict()
        assert all(torch.equal(found[name], one) for name, one in model.state_dict().items())
    assert not pipe.image_encoder.clip.embeddings.position_ids.is_meta
    assert not list(out.rglob("*.bin"))
    assert pipe.scheduler.config.skip_prk_steps


def test_a_checkpoint_that_would_run_something_is_refused(tmp_path: Path) -> None:
    file, trace = tmp_path / "VITONHD.ckpt", tmp_path / "was-run"
    torch.save({"state_dict": {}, "callbacks": Malicious(trace)}, file)
    with pytest.raises(ValueError, match=r"^i2am: .*VITONHD\.ckpt cannot be read as tensors alone"):
        convert(file, tmp_path / "out", models=refusing())
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    junk = (b"no tensors here", b"", b"{}\n", b"PK\x03\x04", b"readme.txt\n", bytes(range(256)))
    for name, content in ((name, content) for name in ("a.ckpt", "a.safetensors") for content in junk):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"^i2am: .* cannot be read as tensors alone") as error:
            read_tensors(tmp_path / name)
        assert "weights_only" not in str(error.value)  # torch recommends to execute the file
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"^i2am: the checkpoint must be one of StableVITON's release, got none of its tensors, but a\."):
        convert(tmp_path / "other.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match=r"^i2am: the checkpoint must be tensors by name"):
        read_tensors(tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match=r"^i2am: the checkpoint must be a file"):
        convert(tmp_path / "nothing.ckpt", tmp_path / "out")
    with pytest.raises(ValueError, match=r"^i2am: the output folder must be new or empty"):
        convert(tmp_path / "a.ckpt", tmp_path)


def test_another_noise_schedule_is_refused(tmp_path: Path) -> None:
    save_file({"alphas_cumprod": torch.linspace(1, 0, 1000)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"^i2am: alphas_cumprod must be the release's noise schedule"):
        convert(tmp_path / "a.safetensors", tmp_path / "out", models=refusing())
