"""Which of a denoiser's layers can see a reference, and which rule says where it sits."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from i2am.attach.coverage import RESAMPLER
from i2am.attach.ldm import is_ldm
from i2am.attach.parts import denoisers_of, unwrapped
from i2am.common.checks import refuse, said
from i2am.families import pipelines, unet
from i2am.families.family import EXPLAIN, Found, Rule
from i2am.families.registry import family_of
from i2am.maps.layers import listed
from i2am.maps.tokens import Seen, Tokens

RULES: dict[str, Rule] = {
    "context": unet.context,
    "adapter": unet.adapter,
    "self": unet.reference_self_attention,
    "self-below": unet.stacked_below,
    "self-beside": unet.stacked_beside,
}
CHANNELS = "its cross-attention reads the prompt alone; an image given to it enters through the channels, not as tokens"


class Finder:
    """A pipeline (or a bare denoiser), taken apart."""

    def __init__(self, pipe: Any, reference: Any, check: bool = True) -> None:
        """check: refuse what cannot be traced; without, `refusal` says it (see `explain`)."""
        bare = isinstance(pipe, nn.Module)
        self.known = pipelines.known(pipe)
        if check and reference == "auto" and self.known is not None and self.known.kind == pipelines.REFUSED:
            raise ValueError(f"i2am: {self.not_by_itself(type(pipe).__name__)}")
        self.pipe = None if bare else pipe
        self.denoisers = [unwrapped(pipe)] if bare else denoisers_of(pipe)
        self.denoiser = self.denoisers[0]
        self.owner = self.denoiser if bare else pipe  # for its name and class
        if not callable(reference) and reference not in ("auto", *RULES):
            refuse("reference", f'"auto", {", ".join(repr(name) for name in RULES)} or a rule', said(reference),
                   "A rule maps i2am.Seen to i2am.Tokens.")  # fmt: skip
        self.reference = reference
        self.attention = {name: module for name, module in self.denoiser.named_modules() if attends(name, module)}
        self.family = family_of(self.denoiser, self.pipe)
        self.is_unet = hasattr(self.denoiser, "conv_in")
        pixels = any(map(unet.reads_pixels, self.attention))  # the picture enters there, the text elsewhere
        self.adapted = any(hasattr(getattr(module, "processor", None), "to_k_ip") for module in self.attention.values())  # beside the text
        self.reads_text = pixels or self.adapted or any(hasattr(self.pipe, name) for name in ("tokenizer", "tokenizer_2"))
        refused = self.refusal() if check else None
        if refused is not None:
            raise ValueError(f"i2am: {refused}")

    def refusal(self) -> str | None:
        """Why this pipeline cannot be traced as asked, if so. Nobody guesses where a model keeps its reference."""
        name = type(self.owner).__name__
        parallel = getattr(self.denoiser, "_parallel_config", None)
        if getattr(parallel, "context_parallel_config", None) is not None:
            return "the model shards its sequence over devices (context parallelism), so no process sees a whole map. Trace it without."
        if type(self.owner).__module__.startswith("diffusers.pipelines.ltx2"):
            return f"{name} steps with copies of its scheduler, which cannot be counted. Use i2am.Recorder."
        if self.reference != "auto":
            return None
        if self.known is not None and self.known.kind == pipelines.REFUSED:
            return self.not_by_itself(name)
        if self.known is None and type(self.owner).__module__.startswith("diffusers.") and (given := pipelines.pictures_of(self.owner)):
            return f"nobody has looked at how {name} reads its {given[0]}. {EXPLAIN}"
        if self.family is None and self.attention and not self.is_unet and not any(map(is_ldm, self.attention.values())):
            return (f"{type(self.denoiser).__name__} is none of the denoisers whose tokens are known by name (see `i2am families`), and "
                    f"the order of its tokens cannot be guessed. {EXPLAIN}")  # fmt: skip
        return None

    def not_by_itself(self, name: str) -> str:
        assert self.known is not None
        return f"{name} cannot be traced by itself: {self.known.how}. {EXPLAIN}"

    def layers(self, words: bool) -> dict[str, list[nn.Module]]:
        """Every attention layer in which a reference (or the prompt) can enter, with its module in each denoiser; an error that says why
        when there is none."""
        usable = [name for name, module in self.attention.items() if self.usable(name, module, words)]
        if not usable:
            self.refuse_no_layers()
        others = [dict(denoiser.named_modules()) for denoiser in self.denoisers[1:]]
        return {name: [self.attention[name], *(modules[name] for modules in others if name in modules)] for name in usable}

    def usable(self, name: str, module: Any, words: bool) -> bool:
        """Whether the rule can find anything in calls of this module."""
        if callable(self.reference):
            return True
        crosses = name.endswith("attn2") or bool(getattr(module, "is_cross_attention", False))
        adapted = hasattr(getattr(module, "processor", None), "to_k_ip")
        if self.reference.startswith("self"):
            return not crosses
        if self.reference == "adapter":
            return adapted or (words and crosses)
        if self.reference == "context" or is_ldm(module):
            return crosses
        if self.family is not None:
            return self.family.layers(name, module)
        if adapted or unet.reads_pixels(name):
            return True
        if getattr(module, "added_kv_proj_dim", None) is not None:
            return words or not self.reads_text
        return crosses and (words or not self.reads_text)

    def rule(self, seen: Seen) -> Found:
        """What an attention call holds."""
        if callable(self.reference):
            return checked(seen, self.reference(seen))
        if self.reference != "auto":
            found = RULES[self.reference](seen)
            return unet.text(seen) if found is None and self.reference == "adapter" else found
        if self.family is not None:
            return self.family.rule(seen)
        if unet.reads_pixels(seen.layer):
            return unet.pixel_attention(seen)
        if not is_ldm(seen.module):
            if seen.index:
                return unet.adapter(seen)
            if getattr(seen.module, "added_kv_proj_dim", None) is not None:
                found = unet.added_keys(seen)
                return Tokens(words=found.reference, source="words") if self.reads_text and isinstance(found, Tokens) else found
        return unet.text(seen) if self.reads_text else unet.context(seen)

    @property
    def without(self) -> str | None:
        """Why attention sees no picture in this pipeline, where that is known."""
        known = self.known
        if known is None or known.kind not in (pipelines.NONE, pipelines.ADAPTER) or (known.kind == pipelines.ADAPTER and self.adapted):
            return None
        return known.how if known.kind == pipelines.NONE else f"no IP-Adapter is loaded, and {known.how}"

    @property
    def load(self) -> str:
        """A remedy of pipelines that take an IP-Adapter, or of which nothing is known."""
        return "" if self.known is not None and self.known.kind == pipelines.NONE else " load an IP-Adapter;"

    def refuse_no_layers(self) -> NoReturn:
        name = type(self.owner).__name__
        if not self.attention:
            raise ValueError(f"i2am: {name} has no attention layers that could be traced. Use i2am.Recorder inside your own forward.")
        if self.reference == "auto" and (self.reads_text or self.without is not None):
            raise ValueError(
                f"i2am: no reference tokens exist in {name}: {self.without or CHANNELS}. Trace the prompt with words=True;{self.load} "
                'or say where the reference is: reference="context" for image tokens given as prompt embeddings, "self" for '
                "self-attention that also sees the reference, or a rule."
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
        if self.without is not None:
            raise ValueError(f"i2am: no reference tokens exist in {type(self.owner).__name__}: {self.without}. Trace the prompt with "
                             f"words=True;{self.load} or write a rule: reference=lambda seen: i2am.Tokens(...).")  # fmt: skip
        raise ValueError(
            f"i2am: {len(ran)} layers of {type(self.owner).__name__} ran without reference tokens. Was a reference image "
            'given, and is its adapter\'s scale above 0? If self-attention also sees the reference, say reference="self"; trace the prompt '
            "with words=True; or write a rule: reference=lambda seen: i2am.Tokens(...)."
        )


def attends(name: str, module: Any) -> bool:
    """Whether a module is one of the denoiser's own attentions: by its processor, whatever its projections are called, or LDM's."""
    return not name.startswith(RESAMPLER) and (is_ldm(module) or callable(getattr(module, "processor", None)))


def checked(seen: Seen, found: Any) -> Found:
    """What a user's rule returned."""
    parts = [found] if found is None or isinstance(found, Tokens) else found
    if not isinstance(parts, (list, tuple)) or not all(part is None or isinstance(part, Tokens) for part in parts):
        refuse(f"the rule's answer for {seen.layer}", "i2am.Tokens, a list of them, or None", said(found), "See i2am.Tokens.")
    return [part for part in parts if part is not None]
