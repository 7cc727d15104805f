"""The clock counts real schedulers' steps and goes away again; guidance layouts say which rows are the conditional ones."""

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from i2am import Recorder
from i2am.attach.guidance import NONE, Layout, known_layout, parse, stated
from i2am.attach.steps import count_steps, rows_of

pytestmark = pytest.mark.filterwarnings("ignore:__array")  # diffusers' own, with numpy 2


def scheduler(name: str) -> Any:
    kind, _, option = name.partition(" ")
    extra = {"": {}, "prk": {"skip_prk_steps": False}, "plms": {"skip_prk_steps": True}, "karras": {"use_karras_sigmas": True}}[option]
    flow = kind.startswith("FlowMatch")
    made = getattr(diffusers, f"{kind}Scheduler")(**({} if flow else {"num_train_timesteps": 1000, **extra}))
    made.set_timesteps(4)
    return made


NAMES = ["DDIM", "PNDM plms", "PNDM prk", "HeunDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep",
         "DPMSolverMultistep karras", "UniPCMultistep", "FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "LCM", "DDPM",
         "KDPM2Discrete"]  # fmt: skip
TWICE = ("HeunDiscrete", "FlowMatchHeunDiscrete")  # steps come in pairs, and so do timesteps


class Watch:
    """What the clock said during a run."""

    def __init__(self, made: Any, pipe: Any = None) -> None:
        self.made, self.pipe, self.starts, self.seen = made, pipe, 0, list[tuple[int | None, int | None]]()

    def start(self) -> None:
        self.starts += 1

    def run(self, steps: int, start: int = 0, begin: bool = True, images: int = 2, pipe_counts: bool = False) -> int:
        """As a pipeline with strength < 1: the last timesteps from `start` on; returns how many there were."""
        self.made.set_timesteps(steps)
        timesteps = self.made.timesteps[start:]
        if begin and hasattr(self.made, "set_begin_index"):
            self.made.set_begin_index(start)
        if pipe_counts:
            self.pipe._num_timesteps = len(timesteps)
        sample = torch.randn(images, 4, 8, 8)
        for t in timesteps:
            noisy = self.made.scale_model_input(sample, t) if hasattr(self.made, "scale_model_input") else sample
            sample = self.made.step(torch.randn_like(noisy), t, sample, return_dict=False)[0]
        return len(timesteps)


def wound(watch: Watch, undo: ExitStack) -> Watch:
    count_steps(watch.made, watch.pipe, watch.start, lambda images, steps, size: watch.seen.append((images, steps)), undo)
    return watch


@pytest.mark.parametrize("pipe_counts", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_as_long_as_the_clock_says(name, pipe_counts):
    """From the beginning and at strength < 1, as pipelines cut it: `start` steps of `order` timesteps each are left out."""
    with ExitStack() as undo:
        watch = wound(Watch(scheduler(name), SimpleNamespace()), undo)
        order = getattr(watch.made, "order", 1)
        for steps, start in ((4, 0), (7, 0), (7, 1), (7, 3), (4, 1)):
            if name.startswith("PNDM") and start and not pipe_counts:
                continue  # has no begin index, and timesteps that come twice
            watch.seen.clear()
            taken = watch.run(steps, start * order, pipe_counts=pipe_counts)
            assert watch.seen[0] == (2, taken), (steps, start)
            assert len(watch.seen) == taken
    assert watch.starts >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_of_ones_own_may_start_late(name):
    """No pipeline and no begin index: the first timestep says where the run begins."""
    with ExitStack() as undo:
        watch = wound(Watch(scheduler(name)), undo)
        watch.made.set_timesteps(6)
        timesteps = watch.made.timesteps.tolist()
        starts = range(0, len(timesteps), 2) if name in TWICE else range(len(timesteps))
        for start in starts:
            if name.startswith("PNDM") and timesteps[start] in timesteps[:start]:
                continue  # begins with the same timestep as another start: nobody can tell
            watch.seen.clear()
            taken = watch.run(6, start, begin=False)
            assert watch.seen[0] == (2, taken), start
            assert len(watch.seen) == taken


def test_an_earlier_calls_count_is_not_this_runs():
    """A loop of one's own over a pipeline's parts, after the pipeline itself has run 50 steps."""
    with ExitStack() as undo:
        watch = wound(Watch(scheduler("DDIM"), SimpleNamespace(_num_timesteps=50)), undo)
        watch.run(8)
    assert watch.seen[0] == (2, 8)


@pytest.mark.parametrize(
    ("name", "steps", "start"), [("PNDM plms", 12, 0), ("HeunDiscrete", 7, 4), ("PNDM prk", 5, 0), ("LCM", 4, 0), ("DDIM", 50, 13)]
)
def test_groups_cut_the_steps_that_are_taken(name, steps, start):
    """Driven as a trace drives a recorder: the first step tells how many there will be."""
    pipe, recorder, token = SimpleNamespace(), Recorder(groups=3), torch.randn(1, 1, 2, 4)

    def stepped(images: int | None, total: int | None, size: Any) -> None:
        if recorder.done == 0:
            recorder.steps = total
        recorder.attend("a", token, token, token)
        recorder.step()

    with ExitStack() as undo:
        made = scheduler(name)
        count_steps(made, pipe, recorder.clear, stepped, undo)
        taken = Watch(made, pipe).run(steps, start, images=1, pipe_counts=not hasattr(made, "set_begin_index"))
    counts = recorder.maps.tokens("r2g", "a").sum(-1).flatten().round()
    assert recorder.done == recorder.steps == counts.sum() == taken
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_scheduler_is_as_it_was(name):
    made, plain = scheduler(name), scheduler(name)
    signatures = [inspect.signature(getattr(made, method)) for method in ("step", "set_timesteps")]

    def interrupted() -> None:
        with ExitStack() as undo:
            wound(Watch(made), undo)
            assert [inspect.signature(getattr(made, method)) for method in ("step", "set_timesteps")] == signatures
            assert not {"step", "set_timesteps"} & set(vars(plain))  # this instance alone
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert set(vars(made)) == set(vars(plain))
    assert made.step.__func__ is type(made).step


def test_methods_of_the_instance_come_back_nested():
    made = scheduler("DDIM")
    own = made.step = lambda *args, **kwargs: type(made).step(made, *args, **kwargs)
    with ExitStack() as outer:
        one = wound(Watch(made), outer)
        with ExitStack() as inner:
            two = wound(Watch(made), inner)
            two.run(3)
        one.run(2)
    assert made.step is own
    assert (len(two.seen), len(one.seen), one.starts) == (3, 5, 2)


def test_the_samples_are_unchanged():
    def sample(counted: bool) -> torch.Tensor:
        made, x = scheduler("DPMSolverMultistep"), torch.ones(1, 4, 2, 2)
        with ExitStack() as undo:
            if counted:
                wound(Watch(made), undo)
            made.set_timesteps(num_inference_steps=5, device="cpu")
            for t in made.timesteps:
                x = made.step(model_output=x.sin(), timestep=t, sample=x).prev_sample
        return x

    assert torch.equal(sample(True), sample(False))


class Sampler:
    """As the LDM repositories' DDIM sampler."""

    def make_schedule(self, count: int) -> None:
        self.ddim_timesteps = range(count)

    def p_sample_ddim(self, x: torch.Tensor, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_ldm_samplers_are_counted():
    made = Sampler()
    with ExitStack() as undo:
        watch = wound(Watch(made), undo)
        made.make_schedule(4)
        for index in range(4):
            made.p_sample_ddim(torch.ones(3, 4), index=index)
    assert (watch.starts, watch.seen) == (1, [(3, 4)] * 4)
    assert set(vars(made)) == {"ddim_timesteps"}
    with pytest.raises(ValueError, match=r"scheduler must be a diffusers scheduler .*got SimpleNamespace\. Use i2am\.Recorder"):
        wound(Watch(SimpleNamespace()), undo)


def test_rows_of_what_a_step_is_given():
    x = torch.ones(3, 2)
    assert [rows_of(value) for value in (x, (x, 1), [[x]], None, (), x[0, 0], 5)] == [3, 3, 3, None, None, None, None]


LAYOUTS = {
    "none": (0, 4, 1), "cond": (0, 4, 1), "uncond-cond": (2, 4, 1), "cond-uncond": (0, 2, 1), "cond|uncond": (0, 4, 2),
    "uncond|cond": (0, 4, 2), "cond-image-uncond-x": (0, 1, 1), "uncond-cond-perturbed-x": (1, 2, 1), "a-cond|b": (2, 4, 2),
}  # fmt: skip


@pytest.mark.parametrize("text", LAYOUTS)
def test_layouts_say_which_rows(text):
    start, stop, calls = LAYOUTS[text]
    layout = parse(text)
    assert (*layout.rows(4), layout.calls) == (start, stop, calls)
    assert layout.call == (1 if text == "uncond|cond" else 0)


@pytest.mark.parametrize("text", ["", "uncond", "cond-cond", "cond|cond", "cond-", "|cond", "cond--x", "COND", "uncond,cond", None, 2])
def test_other_layouts_are_refused(text):
    with pytest.raises(ValueError, match=r"guidance must be \"auto\", \"none\" or a layout with one \"cond\".*got .*\"-\" joins the rows"):
        parse(text)
    assert parse("auto") is None


def pipe(name: str, module: str = "diffusers.pipelines.x", **own: Any) -> Any:
    return type(name, (), {"__module__": module, **own})()


PROVED: list[tuple[Any, int, int, Callable[[int], Any]]] = [
    (pipe("XPipeline"), 1, 1, lambda n: (0, n)),
    (pipe("Mine", "mine"), 1, 1, lambda n: (0, n)),
    (pipe("XPipeline"), 2, 1, lambda n: (n // 2, n)),
    (pipe("StableDiffusionInstructPix2PixPipeline"), 3, 1, lambda n: (0, n // 3)),
    (pipe("XPAGPipeline", do_classifier_free_guidance=True), 3, 1, lambda n: (n // 3, 2 * n // 3)),
    (pipe("XPAGPipeline", do_classifier_free_guidance=False), 2, 1, lambda n: (0, n // 2)),
    (pipe("XPAGPipeline", do_classifier_free_guidance=True), 2, 1, lambda n: (n // 2, n)),
]


@pytest.mark.parametrize("case", range(len(PROVED)))
def test_layouts_that_are_proved(case):
    made, blocks, calls, rows = PROVED[case]
    assert known_layout(made, blocks, calls).rows(6 * blocks) == rows(6 * blocks)


@pytest.mark.parametrize(("made", "blocks", "calls", "got"), [
    (pipe("Mine", "mine"), 2, 1, "2 times as many rows as images"),
    (pipe("XPipeline"), 3, 1, "3 times as many rows as images"),
    (pipe("XPipeline"), 1, 2, "2 calls a step"),
])  # fmt: skip
def test_layouts_that_are_not_proved_must_be_stated(made, blocks, calls, got):
    with pytest.raises(
        ValueError, match=rf"guidance must be stated for {type(made).__name__}, which runs its model with {got}.*pass guidance="
    ):
        known_layout(made, blocks, calls)


def test_a_pipelines_class_may_state_its_layout():
    assert stated(pipe("Mine", guidance_layout="cond-uncond")) == Layout(0, 1, 0, 2)
    assert stated(pipe("Mine")) is None
    assert parse("none") == NONE
    declared = pipe("Mine", "mine", guidance_layout="cond-uncond")
    assert known_layout(declared, 2, 1).rows(6) == (0, 3)
    assert known_layout(declared, 1, 1) == NONE  # the same pipeline without guidance
    with pytest.raises(ValueError, match="guidance must be"):
        stated(pipe("Mine", guidance_layout="first"))
