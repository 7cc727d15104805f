"""What prompt the model reads: token ids are seen on their way into the text encoders."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from i2am.attach.steps import wrap
from i2am.common.checks import refuse, said
from i2am.families.family import Written, tokenizer_of, unwritten
from i2am.maps.prompt import Prompt, columns

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def asked(words: Any) -> bool | tuple[str, ...] | None:
    """What a user asked of the prompt: True, words, or nothing."""
    if words is None or isinstance(words, bool):
        return words or None
    listed = isinstance(words, Iterable) and not isinstance(words, str)
    found = tuple(words) if listed else ()
    if not found or not all(isinstance(word, str) and word.strip() for word in found):
        remedy = f"Write [{said(words)}]." if isinstance(words, str) and words.strip() else "Leave words= out to trace none."
        refuse("words", "True or a list of words, none of them empty", said(list(found) if listed else words), remedy)
    return found


def running(pipe: Any) -> FrameType | None:
    """The pipeline's call that is on the stack, the outermost one."""
    found: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_locals.get("self") is pipe:
            found = frame
        frame = frame.f_back
    return found


class Listener:
    """The first ids each text encoder of a pipeline's call is given are the prompts', in one call of it or in one for each; the negative
    ones come later, or alone where the prompt was given as embeddings: then nothing is heard."""

    def __init__(self, pipe: Any, written: Written = unwritten) -> None:
        self.pipe, self.written = pipe, written
        self.heard: dict[str, list[Tensor]] = {}
        self.texts: list[str] = []  # the prompts, where they are known
        self.deaf = False  # the prompt of this call has been encoded
        self.call: FrameType | None = None  # of the pipeline, in which they were heard; none for who reads a prompt by himself
        self.tokenizer = next((tokenizer_of(pipe, name) for name in ENCODERS if tokenizer_of(pipe, name) is not None), None)

    def begin(self, *_: Any) -> None:
        """A new call of the pipeline."""
        self.heard.clear()
        self.texts = []
        self.call = running(self.pipe)
        self.deaf = self.call is not None and self.call.f_locals.get("prompt_embeds") is not None  # what is read is a negative prompt

    def forget(self) -> None:
        """The prompts have been asked for; the call is held no longer."""
        self.begin()
        self.call = None

    def within(self) -> None:
        """What was heard ahead of this call of the pipeline, or in one that failed, is not its prompt."""
        if running(self.pipe) is not self.call:
            self.begin()

    def listen(self, undo: ExitStack) -> None:
        if hasattr(self.pipe, "check_inputs"):  # what every call begins with
            self.around("check_inputs", self.begin, lambda: None, undo)
        undo.callback(setattr, self, "call", None)
        name = next((name for name in ("encode_prompt", "_encode_prompt") if hasattr(self.pipe, name)), None)
        if name is not None:
            self.around(name, self.encoding, self.encoded, undo)
        for name in ENCODERS:
            encoder = getattr(self.pipe, name, None)
            if isinstance(encoder, nn.Module):
                undo.callback(encoder.register_forward_pre_hook(self.hook(name), with_kwargs=True).remove)

    def around(self, name: str, before: Callable[[dict[str, Any]], None], after: Callable[[], None], undo: ExitStack) -> None:
        """Wrap a method of the pipeline."""
        original = getattr(self.pipe, name)
        signature = inspect.signature(original)

        def method(*args: Any, **kwargs: Any) -> Any:
            before(signature.bind_partial(*args, **kwargs).arguments)
            try:
                return original(*args, **kwargs)
            finally:
                after()

        wrap(self.pipe, name, method, undo)

    def encoding(self, given: dict[str, Any]) -> None:
        self.within()
        if given.get("prompt_embeds") is not None:
            self.deaf = True
        elif not self.deaf:
            prompt = given.get("prompt")
            self.texts = [prompt] if isinstance(prompt, str) else list(prompt or [])

    def encoded(self) -> None:
        self.deaf = True

    def hook(self, name: str) -> Any:
        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.within()
            ids = kwargs.get("input_ids", args[0] if args else None)
            if isinstance(ids, Tensor) and ids.ndim == 2 and not self.deaf:
                self.heard.setdefault(name, []).append(ids.detach().cpu())

        return before

    def ids(self, name: str) -> Tensor | None:
        """What an encoder read of the prompts, a row each; shorter ones are padded behind, as pipelines do with what it made of them."""
        tokenizer = tokenizer_of(self.pipe, name)
        if name not in self.heard or tokenizer is None:
            return None
        first, *later = self.heard[name]
        parts = [first]
        while later and sum(map(len, parts)) < len(self.texts):
            parts.append(later.pop(0))
        if sum(map(len, parts)) < len(self.texts):
            return None
        longest = max(part.shape[1] for part in parts)
        return torch.cat([nn.functional.pad(part, (0, longest - part.shape[1]), value=tokenizer.pad_token_id or 0) for part in parts])

    def columns(self, length: int, words: bool | Sequence[str]) -> tuple[tuple[Prompt, ...], Sequence[int] | None]:
        """The prompts over a text sequence of `length` tokens, and which of its tokens to record (None: all, the prompt is unknown)."""
        self.within()
        prompts = self.prompts(length)
        if prompts:
            return prompts, columns(prompts, words)
        if words is not True:
            refuse("words", "True where the prompt cannot be seen", list(words) if not isinstance(words, bool) else words,
                   "Give the prompt as text, not as embeddings.")  # fmt: skip
        return (), None

    def prompts(self, length: int) -> tuple[Prompt, ...]:
        """One prompt per row, over the encoders whose tokens make up the sequence (SD3: CLIP's, then T5's), which their lengths say; a
        family that knows which of the ids are the text's is asked alone, for other ids may be as many."""
        parts = {name: ids for name in ENCODERS if (ids := self.ids(name)) is not None}
        last = parts.get("text_encoder_3")
        for name in (
            reversed(parts) if self.written is unwritten else ()
        ):  # Flux reads its second encoder's tokens; SDXL's two have the same
            if parts[name].shape[1] == length:
                return self.read({name: parts[name]})
            if last is not None and name != "text_encoder_3" and parts[name].shape[1] + last.shape[1] == length:
                return self.read({name: parts[name], "text_encoder_3": last})
        for name in parts:  # a template's ends may be cut off what was read
            ids = self.written(self.pipe, parts[name], length)
            if ids is not None and ids.shape[1] == length:
                return self.read({name: ids})
        return ()

    def read(self, parts: dict[str, Tensor]) -> tuple[Prompt, ...]:
        """The prompts of these ids, row by row."""
        tokenizers = [tokenizer_of(self.pipe, name) for name in parts]
        rows = list(zip(*parts.values()))
        texts = self.texts if len(self.texts) == len(rows) else [""] * len(rows)
        return tuple(
            Prompt.join([Prompt.within(ids, tokenizer, text) for ids, tokenizer in zip(row, tokenizers)]) for row, text in zip(rows, texts)
        )
