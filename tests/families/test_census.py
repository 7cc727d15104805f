"""The census: every pipeline that takes a picture has an entry, the page is what the entries say, and what they say happens."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from typing import Any

import attentions
import census as built
import diffusers
import joint
import oracle
import pipelines
import pytest
import torch
from families import Family, before_keys, hold
from parts import as_pil, pictures

import i2am
from benchmarks.report import census
from i2am.cli.main import main
from i2am.families import known as names
from i2am.families.pipelines import KNOWN, PICTURES, pictures_of
from i2am.families.registry import FAMILIES
from i2am.families.transformer_pipelines import TRANSFORMERS
from i2am.families.unet_pipelines import UNETS

PAGE = census.PAGE.read_text(encoding="utf-8")
NEWEST = f"diffusers {importlib.metadata.version('diffusers')} has" in PAGE
newest = pytest.mark.skipif(not NEWEST, reason="the census is the newest diffusers'")
# what looks like a picture by its name and is none, or comes beside one
NO_PICTURES = re.compile(
    r"mask|_per_|num_|embed|guidance|strength|scale|length|crf|fps|_std|sigma|tile|noise|size|use_|timestep|grid_thw|keep|token|indexes|"
    r"^frames$|_frames$|render_|text_images|audio|factor|features|^is_|negative_|camera|prev_segment|masked_|fake_|last_image_latents|"
    r"control_video_latents|micro|controlnet_|control_mode|pooled|latent_image|_ids$|frame_rate"
)


@newest
def test_every_pipeline_that_takes_a_picture_has_an_entry() -> None:
    found = census.pipelines()
    assert len(found) > 250
    taking = {name for name, parameters in found.items() if census.pictures(parameters)}
    assert taking - set(KNOWN) == set(), "add them to i2am/families/pipelines.py"
    assert set(KNOWN) - set(found) == set(), "no such pipeline"
    for name, parameters in found.items():
        missed = [one for one in parameters if re.search("image|video|frame|reference|pose|condition", one) and not NO_PICTURES.search(one)
                  and one not in PICTURES]  # fmt: skip
        assert not missed or name in KNOWN, (name, missed)


def test_entries_are_of_one_kind_and_say_something() -> None:
    grouped = [name for _, group in (*UNETS, *TRANSFORMERS) for name in group]
    assert len(grouped) == len(set(grouped)), "an entry in two groups"
    assert all(KNOWN[name] is known for known, group in (*UNETS, *TRANSFORMERS) for name in group), "said twice"
    for name, known in KNOWN.items():
        assert known.kind in names.VERDICTS
        assert known.how[-1] not in ".;:", name
        assert known.write.startswith(("trace(", "i2am."))
    with pytest.raises(AssertionError, match="Twice"):
        names.by_name(((names.Known("none", "x"), ("Twice",)), (names.Known("works", "y"), ("Twice",))))


@newest
def test_the_page_is_what_the_entries_say() -> None:
    assert census.page() == PAGE, "run `python -m benchmarks.report.census`"


ADAPTED: dict[str, Family] = {
    "image-to-image": Family(lambda: built.like_sd15("StableDiffusionImg2ImgPipeline"), number=1),
    "inpainting": Family(lambda: built.like_sd15("StableDiffusionInpaintPipeline"), number=1),
    "ControlNet": Family(lambda: built.controlled("StableDiffusionControlNetPipeline"), number=1),
    "ControlNet, image-to-image": Family(lambda: built.controlled("StableDiffusionControlNetImg2ImgPipeline"), number=1),
    "image variation": Family(built.image_variation),
    "Kandinsky 2.2, image-to-image": Family(
        lambda: built.kandinsky22("KandinskyV22Img2ImgPipeline"), layers=".*", reference=before_keys
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ADAPTED)
def test_what_works_is_right(name: str) -> None:
    """The line of the entry, on a guided run, against the stored attention."""
    hold(ADAPTED[name], 1, 1, True)
    entry = KNOWN[type(ADAPTED[name].build().pipe).__name__]
    assert (entry.kind in ("works", "adapter"), entry.write) == (True, "trace(pipe)")


def test_lines_that_state_their_guidance_are_right() -> None:
    hold(Family(lambda: built.like_sd15("StableDiffusionSAGPipeline"), {"guidance": "cond|degraded"}, number=1), 1, 1, False)
    assert KNOWN["StableDiffusionSAGPipeline"].write == 'trace(pipe, guidance="cond|degraded")'
    assert KNOWN["StableDiffusionPipelineSafe"].write == 'trace(pipe, guidance="uncond-cond-safety")'
    seen = as_pil(pictures(1, (32, 32), seed=4))[0]
    case = built.like_sd15("StableDiffusionPipelineSafe", encoder=True, ip_adapter_image=seen)

    def maps(guidance: str, guided: bool) -> torch.Tensor:
        with i2am.trace(case.pipe, groups=1, guidance=guidance) as run:
            case(steps=1, guided=guided)
        return run.maps.unified("r2g")

    plain = maps("none", False)
    assert (maps("uncond-cond-safety", True) - plain).abs().max() <= 1e-5 * plain.max()
    assert (maps("uncond-other-cond", True) - plain).abs().max() > 1e-2 * plain.max()


WITHOUT: dict[str, Callable[[], Any]] = {
    "image-to-image": lambda: built.like_sd15("StableDiffusionImg2ImgPipeline", adapted=False),
    "ControlNet": lambda: built.controlled("StableDiffusionControlNetPipeline", adapted=False),
    "T2I-Adapter": built.sketched,
    "InstructPix2Pix": pipelines.instruct_pix2pix,
    "upscaler": pipelines.upscaler,
    "Marigold": built.marigold,
}


@pytest.mark.parametrize("name", WITHOUT)
def test_where_there_is_no_reference_none_is_found(name: str) -> None:
    """The reason is the entry's; and the calls that ran hold keys of the prompt and of the layer's own pixels, and no others."""
    case = WITHOUT[name]()
    entry = KNOWN[type(case.pipe).__name__]
    assert entry.kind in ("none", "adapter")
    with (
        pytest.raises(ValueError, match=f"no reference tokens exist in {type(case.pipe).__name__}: .*{re.escape(entry.how)}"),
        i2am.trace(case.pipe),
    ):
        pass
    calls: list[oracle.Call]
    with oracle.recorded(case.denoiser, case.pipe.scheduler) as calls:
        call = case.kwargs(batch=1, steps=1, size=case.sizes[1])
        case.pipe(**{key: value for key, value in call.items() if key != "output_type" and takes(case.pipe, key)})
    assert calls
    assert all(call.key.shape[2] in (call.query.shape[2], 77, 2) for call in calls)  # Marigold's prompt is empty: two tokens


def takes(pipe: Any, name: str) -> bool:
    import inspect

    return name in inspect.signature(pipe.__call__).parameters


def test_joint_attention_without_a_reference_says_so() -> None:
    """Layers that could hold one ran: the entry's reason comes after the first step."""
    case = joint.flux(words=False)
    with pytest.raises(ValueError, match="no reference tokens exist in FluxPipeline: no IP-Adapter is loaded"), i2am.trace(case.pipe):
        case(guided=False)


def test_nobody_guesses() -> None:
    """What diffusers has, takes a picture and has no entry is refused; what is somebody's own or takes none is not."""
    case = pipelines.sd15()

    class NewPipeline(diffusers.DiffusionPipeline):
        def __init__(self, unet: Any, scheduler: Any) -> None:
            super().__init__()
            self.register_modules(unet=unet, scheduler=scheduler)

        def __call__(self, reference_image: Any = None) -> None: ...

    class Textual(NewPipeline):
        def __call__(self, prompt: Any = None) -> None: ...  # type: ignore[override]

    pipe = NewPipeline(case.pipe.unet, case.pipe.scheduler)
    assert pictures_of(pipe) == ["reference_image"]
    i2am.trace(pipe)
    NewPipeline.__module__ = "diffusers.pipelines.new.pipeline_new"
    with pytest.raises(ValueError, match=r"nobody has looked at how NewPipeline reads its reference_image\. .*i2am\.explain"):
        i2am.trace(pipe)
    i2am.trace(pipe, reference="context")
    Textual.__module__ = "diffusers.pipelines.new.pipeline_new"
    i2am.trace(Textual(case.pipe.unet, case.pipe.scheduler))


def test_refused_pipelines_are_refused_before_they_are_taken_apart() -> None:
    for name, known in KNOWN.items():
        if known.kind == "refused":
            pipe = type(name, (), {"__call__": lambda self, image: None})()
            with pytest.raises(ValueError, match=f"{name} cannot be traced by itself: {re.escape(known.how)}"):
                i2am.trace(pipe)


def test_a_stand_in_of_a_project_is_no_pipeline_of_diffusers() -> None:
    assert type(attentions.catvton().pipe).__name__ not in KNOWN


def test_families_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["families"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    assert all(f"  {family.name} (" in printed for family in FAMILIES)
    assert all(re.search(rf"\b{name}\b", printed) for name in KNOWN)
    assert main(["families", "--pipeline", "FluxKontextPipeline"]) == 0
    assert "FluxKontextPipeline: works. " in capsys.readouterr().out
    assert main(["families", "--kind", "none"]) == 0
    printed = capsys.readouterr().out
    assert "StableDiffusionUpscalePipeline" in printed
    assert "FluxKontextPipeline" not in printed
    assert main(["families", "--pipeline", "FluxKontext"]) == 2
    assert "Did you mean FluxKontextPipeline" in capsys.readouterr().err
