"""Lists of prompts painted: the same picture and maps alone, in any batch and by hand; runs that go on; lists that are refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image
from tolerance import alike

import i2am
from i2am.data.prompts import Asked, write_prompts
from i2am.evaluation.painter import seed_of
from i2am.studies.options import Options
from i2am.studies.painted import Painted
from i2am.studies.painter import Painter
from i2am.studies.run import left_out, paint

pytestmark = pytest.mark.usefixtures("on_the_cpu")
ASKED = [
    Asked("first", "a red shirt and a blue cat"),
    Asked("second", "the dog on a striped shirt", seed=7),
    Asked("third", "a plain red coat"),
    Asked("4", "the cat", group="cats"),
    Asked("5", "the red cat", group="cats"),
]
OPTIONS = Options(steps=2, size=(64, 48), negative_prompt="a plain dog")
TERMS = 1000


@pytest.fixture(scope="module")
def pipe(on_the_cpu: None) -> Any:
    return pipelines.sd15().pipe


@pytest.fixture(scope="module")
def done(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Painted]:
    return paint(ASKED, pipe, out=tmp_path_factory.mktemp("done") / "out", options=OPTIONS, batch_size=2, cpu=True)


def numbers(painted: Painted) -> torch.Tensor:
    return torch.from_numpy(np.array(painted.picture(), dtype=np.float32))


def test_every_picture_is_painted_as_by_hand(done: list[Painted], pipe: Any) -> None:
    assert [one.asked for one in done] == ASKED
    for one in (done[0], done[1]):
        seed = 7 if one.asked.id == "second" else seed_of(0, "first", "")
        assert one.seed == seed
        with i2am.trace(pipe, groups=1, words=True) as run:
            image = pipe(one.asked.prompt, negative_prompt="a plain dog", num_inference_steps=2, height=64, width=48, output_type="np",
                         generator=torch.Generator("cpu").manual_seed(seed)).images[0]  # fmt: skip
        assert (numbers(one) - torch.from_numpy(image) * 255).abs().max() <= 0.5 + 255e-4
        words, right = one.words(), run.maps.words()
        assert list(words) == list(right)
        assert words.prompts[0].text == one.asked.prompt
        for word in words:
            assert words[word].shape == (1, 16, 12)
            alike(words[word].double().flatten(1), right[word].double().flatten(1), TERMS)
        assert one.beside() is None  # text to image has no reference


@pytest.mark.parametrize("size", [1, 5, "auto"])
def test_pictures_do_not_depend_on_the_batch(size: Any, done: list[Painted], pipe: Any, tmp_path: Path) -> None:
    for one, other in zip(paint(ASKED, pipe, out=tmp_path, options=OPTIONS, batch_size=size, cpu=True), done):
        assert (numbers(one) - numbers(other)).abs().max() <= 1
        assert one.words().columns == other.words().columns
        alike(one.words().maps.double().flatten(2), other.words().maps.double().flatten(2), TERMS)


def test_a_finished_run_is_not_painted_again_and_a_lost_picture_is(done: list[Painted], pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out, parts = done[0].image.parent.parent, list[Any]()
    part = Painter.part
    monkeypatch.setattr(Painter, "part", lambda self, places: (parts.append(list(places)), part(self, places))[1])
    assert paint(ASKED, pipe, out=out, options=OPTIONS, batch_size=2, cpu=True) == done
    assert parts == []
    before = done[2].image.read_bytes()
    done[2].image.unlink()
    assert paint(ASKED, pipe, out=out, options=OPTIONS, batch_size=2, cpu=True) == done
    assert parts == [[2, 3]]  # the chunk it stands in
    assert done[2].image.read_bytes() == before


def test_more_prompts_may_follow(done: list[Painted], pipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The torn line of a process that was killed is painted again; the pictures are those of one run."""
    listed = write_prompts(tmp_path / "prompts.csv", ASKED)
    few = paint(listed, pipe, out=tmp_path / "out", options=replace(OPTIONS, limit=2), batch_size=2, cpu=True)
    assert [one.asked.id for one in few] == ["first", "second"]
    shard = tmp_path / "out" / "shards" / "0000.jsonl"
    shard.write_bytes(shard.read_bytes()[:-9])
    capsys.readouterr()
    more = paint(listed, pipe, out=tmp_path / "out", options=OPTIONS, batch_size=2, cpu=True)
    bars = re.findall(r"painting: .*?\| (\d+)/(\d+) \[", capsys.readouterr().err)
    assert (bars[0], bars[-1]) == (("1", "5"), ("5", "5"))
    assert [one.image.read_bytes() for one in more] == [one.image.read_bytes() for one in done]
    assert [one.maps.read_bytes() for one in more] == [one.maps.read_bytes() for one in done]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 1}, "seed: 0 there, 1 now"), ({"steps": 3}, "steps: 2 there, 3 now"), ({"layers": ("*attn2",)}, "layers"),
     ({"negative_prompt": None}, "negative_prompt"), ({"arguments": {"eta": 1}}, "arguments")],
)  # fmt: skip
def test_other_results_are_not_mixed_in(change: dict[str, Any], named: str, done: list[Painted], pipe: Any) -> None:
    out = done[0].image.parent.parent
    with pytest.raises(ValueError, match="results of the same options") as error:
        paint(ASKED, pipe, out=out, options=replace(OPTIONS, **change), cpu=True)
    assert named in str(error.value)
    with pytest.raises(ValueError, match="list: "):
        paint([*ASKED[:4], replace(ASKED[4], prompt="the blue cat")], pipe, out=out, options=OPTIONS, cpu=True)
    with pytest.raises(ValueError, match="weights: "):
        paint(ASKED, pipelines.sd2().pipe, out=out, options=OPTIONS, cpu=True)


def test_a_first_look_that_fails_holds_nobody_to_its_options(pipe: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"i2am: size, .* must be what StableDiffusionPipeline takes, got its error .*divisible by 8"):
        paint(["a cat"], pipe, out=out, options=replace(OPTIONS, size=(64, 50)), cpu=True)
    assert not out.exists()
    assert len(paint(["a cat"], pipe, out=out, options=OPTIONS, cpu=True)) == 1


def test_groups_are_painted_in_one_call(pipe: Any, done: list[Painted], tmp_path: Path) -> None:
    """Inside of whatever is put around them, and never in parts."""
    parts, entered = list[int](), list[Any]()

    class Around:
        def __init__(self, pipe: Any) -> None:
            entered.append(pipe)

        def __enter__(self) -> None:
            original = type(pipe).encode_prompt
            pipe.encode_prompt = lambda *a, **k: (parts.append(len(a[0])), original(pipe, *a, **k))[1]

        def __exit__(self, *_: object) -> None:
            del pipe.encode_prompt

    paint(ASKED, pipe, out=tmp_path, options=OPTIONS, batch_size=1, cpu=True, together=True, around=Around, about={"held": True})
    assert parts == [1, 1, 1, 2]  # and nothing around the first look
    assert entered == [pipe] * 4
    assert json.loads((tmp_path / "run.json").read_text())["options"]["held"] is True
    with pytest.raises(ValueError, match="held: true there, null now"):
        paint(ASKED, pipe, out=tmp_path, options=OPTIONS, cpu=True, together=True)


def test_memory_that_runs_out_halves_the_batch(pipe: Any, done: list[Painted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, asked = Painter.paint, list[int]()

    def small(self: Painter, some: Any, seeds: Any, short: bool = False) -> Any:
        asked.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, some, seeds, short)

    monkeypatch.setattr(Painter, "paint", small)
    got = paint(ASKED, pipe, out=tmp_path, options=OPTIONS, batch_size=5, cpu=True)
    assert asked == [1, 5, 3, 2, 2, 1]
    assert all((numbers(one) - numbers(other)).abs().max() <= 1 for one, other in zip(got, done))
    with pytest.raises(ValueError, match="a group that is painted together must be small enough"):
        paint([replace(one, group="all") for one in ASKED], pipe, out=tmp_path / "whole", options=OPTIONS, cpu=True, together=True)


def own(prompt: str) -> None:
    """What a pipeline of few words says against a prompt."""
    if "red" in prompt:
        raise ValueError("i2am: every word must be known, got red")


def test_bad_prompts_are_named_before_anything_is_painted(
    pipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    asked = [
        Asked("fine", "a red cat"),
        Asked("long", "a cat " * 40 + "on the mat"),
        Asked("torn", "a red cat", image=tmp_path / "torn.png"),
        Asked("seed", "a red cat", seed=2**64),
        Asked("dog", "a red dog"),
        *[Asked(f"more{i}", "the dog") for i in range(4)],
    ]
    with pytest.raises(ValueError, match="8 prompts of 9 cannot be painted, and nothing was painted") as error:
        paint(asked, pipe, out=tmp_path / "out", options=OPTIONS, words=["cat"], cpu=True)
    told = str(error.value).splitlines()
    assert told[1] == "  long: it has more than the 77 tokens that the model reads; lost: a, cat, on, the, mat"
    assert told[2].startswith("  torn: StableDiffusionPipeline takes no picture, and the list names")
    assert told[3] == f"  seed: its seed must be at most 2^64 - 1, got {2**64}"
    assert told[4] == "  dog: it has no 'cat': 'a red dog'"
    assert told[6:] == ["  and 3 more", "Mend the list, or leave them out with --keep-going."]
    assert not (tmp_path / "out").exists()
    kept = paint(asked, pipe, out=tmp_path / "out", options=OPTIONS, words={"dog": ["dog"], "fine": ["zebra"]}, keep_going=True, cpu=True)
    assert [one.asked.id for one in kept] == ["dog", *[f"more{i}" for i in range(4)]]
    assert list(left_out(tmp_path / "out")) == ["fine", "long", "torn", "seed"]
    assert "fine: it has no 'zebra'" in capsys.readouterr().out
    monkeypatch.setattr(pipe, "check_prompt", own, raising=False)
    with pytest.raises(ValueError, match=r"1 prompt of 2 cannot be painted.*\n  fine: every word must be known, got red"):
        paint([asked[0], asked[5]], pipe, out=tmp_path / "own", options=OPTIONS, cpu=True)
    with pytest.raises(ValueError, match="a twice or more"):
        paint([Asked("a", "a cat"), Asked("A", "a dog")], pipe, out=tmp_path / "twice", cpu=True)


def test_numbers_that_are_none_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = pipelines.sd15()
    decode = case.pipe.vae.decode

    def broken(latents: Any, *words: Any, **more: Any) -> Any:
        found = decode(latents, *words, **more)
        found[0][1 % len(latents)] = torch.nan
        return found

    monkeypatch.setattr(case.pipe.vae, "decode", broken)
    with pytest.raises(ValueError, match="NaN or infinity in second"):
        paint(ASKED[:2], case.pipe, out=tmp_path / "out", options=OPTIONS, batch_size=2, cpu=True)
    got = paint(ASKED[:2], case.pipe, out=tmp_path / "out", options=OPTIONS, batch_size=2, keep_going=True, cpu=True)
    assert [one.asked.id for one in got] == ["first"]
    assert left_out(tmp_path / "out") == {"second": "the image is not finite"}
    monkeypatch.undo()
    assert len(paint(ASKED[:2], case.pipe, out=tmp_path / "out", options=OPTIONS, batch_size=2, keep_going=True, cpu=True)) == 2
    assert left_out(tmp_path / "out") == {}


def test_pictures_to_begin_from_have_a_batch_of_their_own_size(tmp_path: Path) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    text = pipelines.sd15().pipe
    pipe = StableDiffusionImg2ImgPipeline(**{name: part for name, part in text.components.items() if name != "image_encoder"},
                                          requires_safety_checker=False)  # fmt: skip
    for name, size in (("a", (64, 64)), ("b", (48, 64)), ("c", (64, 64))):
        Image.effect_noise(size, 90).convert("RGB").save(tmp_path / f"{name}.png")
    asked = [Asked(name, "a red cat", image=tmp_path / f"{name}.png") for name in "abc"]
    sizes = list[Any]()
    original = pipe.prepare_latents
    pipe.prepare_latents = lambda image, *a, **k: (sizes.append(tuple(image.shape)), original(image, *a, **k))[1]
    options = Options(steps=4, arguments={"strength": 0.5})
    got = paint(asked, pipe, out=tmp_path / "out", options=options, batch_size=8, cpu=True)
    assert sizes == [(1, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 48)]
    assert [one.picture().size for one in got] == [(64, 64), (48, 64), (64, 64)]
    alone = paint(asked, pipe, out=tmp_path / "alone", options=options, batch_size=1, cpu=True)
    assert all((numbers(one) - numbers(other)).abs().max() <= 1 for one, other in zip(got, alone))


def test_what_takes_no_list_of_generators_paints_one_at_a_time(
    pipe: Any, done: list[Painted], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class One(type(pipe)):
        def __call__(self, prompt: str, negative_prompt: str | None = None, num_inference_steps: int = 2, height: int = 64, width: int = 64,
                     generator: torch.Generator | None = None):  # fmt: skip
            assert isinstance(prompt, str)
            return super().__call__(prompt, height=height, width=width, num_inference_steps=num_inference_steps, generator=generator,
                                    negative_prompt=negative_prompt)  # fmt: skip

    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    one = One(**parts, requires_safety_checker=False)
    options = replace(OPTIONS, guidance="uncond-cond")  # nobody knows this class
    got = paint(ASKED[:2], one, out=tmp_path, options=options, batch_size=4, cpu=True)
    assert "One takes no list of generators: prompts are painted one at a time." in capsys.readouterr().out
    assert all((numbers(one) - numbers(other)).abs().max() <= 1 for one, other in zip(got, done))


def test_what_cannot_be_studied_is_refused_before_it_begins(pipe: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a parameter of StableDiffusionPipeline must be one of prompt"):
        paint(ASKED, pipe, out=tmp_path / "out", options=Options(arguments={"colour": 1}), cpu=True)
    for wrong, said in (
        ({"arguments": {"prompt": "x"}}, "The list has them"),
        ({"steps": 0}, "steps must be"),
        ({"size": 7}, "size must be"),
        ({"seed": -1}, "seed must be"),
        ({"layers": "x"}, "layers must be"),
        ({"guidance_scale": -1}, "guidance_scale must be"),
    ):
        with pytest.raises(ValueError, match=said):
            Options(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="arguments must be numbers"):
        paint(ASKED, pipe, out=tmp_path / "out", options=Options(arguments={"eta": object()}), cpu=True)
    for prompts in ("", 7, [], ["a", Asked("b", "b")], [1]):
        with pytest.raises(ValueError, match="prompts must be "):
            paint(prompts, pipe, out=tmp_path / "out", cpu=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="model must be a pipeline that is called with a prompt, got PaintByExamplePipeline"):
        paint(["a cat"], pipelines.paint_by_example().pipe, out=tmp_path / "out", cpu=True)
    assert not (tmp_path / "out").exists()
