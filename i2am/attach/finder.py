"""Which module denoises, which of its layers can see a reference, and which rule says where it sits."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from i2am.attach import families
from i2am.attach.families import Found, Rule
from i2am.attach.ldm import is_ldm
from i2am.common.checks import is_size, refuse, said, whole_number
from i2am.maps.layers import listed
from i2am.maps.tokens import Grid, Seen, Tokens

DENOISERS = ("unet", "transformer")
RULES: dict[str, Rule] = {"context": families.context, "adapter": families.adapter, "self": families.reference_self_attention}
CHANNELS = "its cross-attention reads the prompt alone; an image given to it enters through the channels, not as tokens"


class Finder:
    """A pipeline (or a bare denoiser), taken apart."""

    def __init__(self, pipe: Any, reference: Any) -> None:
        bare = isinstance(pipe, nn.Module)
        self.pipe = None if bare else pipe
        self.denoiser = unwrapped(pipe if bare else denoiser_of(pipe))
        self.owner = self.denoiser if bare else pipe  # for its name and class
        if not callable(reference) and reference not in ("auto", *RULES):
            refuse("reference", '"auto", "context", "adapter", "self" or a rule', said(reference), "A rule maps i2am.Seen to i2am.Tokens.")
        self.reference = reference
        parallel = getattr(self.denoiser, "_parallel_config", None)
        if getattr(parallel, "context_parallel_config", None) is not None:
            raise ValueError("i2am: the model shards its sequence over devices (context parallelism), so no process sees a whole map. "
                             "Trace it without.")  # fmt: skip
        if type(pipe).__module__.startswith("diffusers.pipelines.ltx2"):
            raise ValueError(f"i2am: {type(pipe).__name__} steps with copies of its scheduler, which cannot be counted. Use i2am.Recorder.")
        self.attention = {
            name: module
            for name, module in self.denoiser.named_modules()
            if hasattr(module, "to_q") and (is_ldm(module) or hasattr(module, "processor"))
            if not name.startswith("encoder_hid_proj")  # an adapter's resampler, not the denoiser's own
        }
        pixels = any("pixel_attentions" in name for name in self.attention)  # the picture enters there, the text elsewhere
        adapted = any(hasattr(getattr(module, "processor", None), "to_k_ip") for module in self.attention.values())  # beside the text
        self.reads_text = pixels or adapted or any(hasattr(self.pipe, name) for name in ("tokenizer", "tokenizer_2"))

    def layers(self, words: bool) -> dict[str, nn.Module]:
        """Every attention module in which a reference (or the prompt) can enter; an error that says why when there is none."""
        usable = {name: m for name, m in self.attention.items() if self.usable(name, m, words)}
        if not usable:
            self.refuse_no_layers()
        return usable

    def usable(self, name: str, module: Any, words: bool) -> bool:
        """Whether the rule can find anything in calls of this module."""
        if callable(self.reference):
            return True
        crosses = name.endswith("attn2") or bool(getattr(module, "is_cross_attention", False))
        adapted = hasattr(getattr(module, "processor", None), "to_k_ip")
        if self.reference == "self":
            return not crosses
        if self.reference == "adapter":
            return adapted or (words and crosses)
        if self.reference == "context" or is_ldm(module):
            return crosses
        if adapted or ("pixel_attentions" in name and crosses):
            return True
        if not hasattr(self.denoiser, "conv_in"):  # a transformer: joint attention
            return getattr(module, "add_k_proj", None) is not None or not crosses or words
        if getattr(module, "added_kv_proj_dim", None) is not None:
            return words or not self.reads_text
        return crosses and (words or not self.reads_text)

    def rule(self, seen: Seen) -> Found:
        """What an attention call holds."""
        if callable(self.reference):
            return checked(seen, self.reference(seen))
        if self.reference != "auto":
            found = RULES[self.reference](seen)
            return families.text(seen) if found is None and self.reference == "adapter" else found
        if "pixel_attentions" in seen.layer:
            return families.pixel_attention(seen)
        if not is_ldm(seen.module):
            if seen.index:
                return families.adapter(seen)
            if getattr(seen.module, "added_kv_proj_dim", None) is not None and hasattr(self.denoiser, "conv_in"):
                found = families.added_keys(seen)
                return Tokens(words=found.reference, source="words") if self.reads_text and isinstance(found, Tokens) else found
            if not hasattr(self.denoiser, "conv_in"):
                return families.joint(seen)
        return families.text(seen) if self.reads_text else families.context(seen)

    def refuse_no_layers(self) -> NoReturn:
        name = type(self.owner).__name__
        if not self.attention:
            raise ValueError(f"i2am: {name} has no attention layers that could be traced. Use i2am.Recorder inside your own forward.")
        if self.reads_text and self.reference == "auto":
            raise ValueError(
                f"i2am: no reference tokens exist in {name}: {CHANNELS}. Trace the prompt with words=True; load an IP-Adapter; or say "
                'where the reference is: reference="context" for image tokens given as prompt embeddings, "self" for self-attention that '
                "also sees the reference, or a rule."
            )
        raise ValueError(f"i2am: {name} has no layer for reference={self.reference!r}. {listed(list(self.attention))}")

    def refuse_silent(self, taps: dict[str, Any]) -> None:
        """The first step is over: every layer that ran must have called scaled_dot_product_attention."""
        silent = [tap.name for tap in taps.values() if tap.entered and not tap.plan]
        if silent:
            raise ValueError(f"i2am: {', '.join(silent[:5])} ran without calling scaled_dot_product_attention, so nothing was recorded. "
                             "Set a processor that calls it (AttnProcessor2_0), or leave the layers out with layers=.")  # fmt: skip

    def refuse_no_words(self, words: Any) -> NoReturn:
        """The first step is over, and words were asked for that no layer reads."""
        refuse("words", f"left out for {type(self.owner).__name__}", said(words),
               "None of the traced layers reads a text that the tracer knows. Trace its reference alone, choose other layers=, or write a "
               "rule that returns i2am.Tokens(words=...).")  # fmt: skip

    def refuse_no_reference(self, taps: dict[str, Any]) -> NoReturn:
        """The first step is over and no call held a reference."""
        ran = [name for name, tap in taps.items() if tap.plan]
        if not ran:
            raise ValueError(
                f"i2am: none of the {len(taps)} traced layers of {type(self.owner).__name__} called "
                "scaled_dot_product_attention during the first step. Is the trace open around the pipeline's call, and does the model "
                "use another attention (sliced, xFormers, a custom kernel)?"
            )
        raise ValueError(
            f"i2am: {len(ran)} layers of {type(self.owner).__name__} ran without reference tokens. Was a reference image "
            "given, and is its adapter's scale above 0? Trace the prompt with words=True, or write a rule: reference=lambda seen: "
            "i2am.Tokens(...)."
        )


def unwrapped(module: Any) -> nn.Module:
    """The module behind torch.compile or a parallel wrapper."""
    while True:
        inner = getattr(module, "_orig_mod", None) or (module.module if isinstance(module, nn.parallel.DistributedDataParallel) else None)
        if inner is None:
            return module
        module = inner


def denoiser_of(pipe: Any) -> nn.Module:
    """The pipeline's UNet or transformer."""
    found = [name for name in DENOISERS if isinstance(getattr(pipe, name, None), nn.Module)]
    if len(found) == 1:
        return getattr(pipe, found[0])
    modules = [name for name, value in parts_of(pipe).items() if isinstance(value, nn.Module)]
    refuse("pipe", "a pipeline with a unet or a transformer, or a denoiser module", type(pipe).__name__ if modules else said(pipe),
           f"Pass the module and scheduler=pipe.scheduler. Its modules: {', '.join(modules) or 'none'}.")  # fmt: skip


def parts_of(pipe: Any) -> dict[str, Any]:
    """What a pipeline is made of, by name."""
    components = getattr(pipe, "components", None)
    return {**(components if isinstance(components, dict) else {}), **getattr(pipe, "__dict__", {})}


def scheduler_of(pipe: Any) -> Any:
    """The pipeline's scheduler: `scheduler`, or under another name the one part that sets timesteps and takes steps."""
    if getattr(pipe, "scheduler", None) is not None:
        return pipe.scheduler
    found = {id(part): (name, part) for name, part in parts_of(pipe).items() if hasattr(part, "set_timesteps") and hasattr(part, "step")}
    if len(found) == 1:
        return next(part for _, part in found.values())
    names = [name for name, _ in found.values()]
    got = f"{len(names)} in {type(pipe).__name__}: {', '.join(names)}" if names else f"none in {type(pipe).__name__}"
    refuse("scheduler", "given or the pipeline's own", got, f"Pass the one that steps, scheduler=pipe.{names[0]}." if names else
           "Pass scheduler=..., or use i2am.Recorder in your own loop.")  # fmt: skip


def placed_reference(pipe: Any, grid: Grid | None, special: int) -> tuple[Grid | None, int]:
    """The reference's grid and leading tokens without a place: what the user said, else what the pipeline declares."""
    if grid is not None and not is_size(grid):
        refuse("reference_grid", "(height, width) in tokens", said(grid), "Special tokens do not count.")
    whole_number("special", special, 0, "It is the number of leading tokens without a place; a CLS token counts 1.")
    declared = getattr(pipe, "reference_tokens", (None, 0)) if grid is None else (grid, special)
    return declared[0], special or declared[1]


def checked(seen: Seen, found: Any) -> Found:
    """What a user's rule returned."""
    parts = [found] if found is None or isinstance(found, Tokens) else found
    if not isinstance(parts, (list, tuple)) or not all(part is None or isinstance(part, Tokens) for part in parts):
        refuse(f"the rule's answer for {seen.layer}", "i2am.Tokens, a list of them, or None", said(found), "See i2am.Tokens.")
    return [part for part in parts if part is not None]
