"""What prompt the model reads: token ids are seen on their way into the text encoders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from i2am.attach.steps import wrap
from i2am.common.checks import refuse, said
from i2am.families.family import Family
from i2am.maps.prompt import Prompt, columns

ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2", "text_encoder_3": "tokenizer_3"}


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


class Listener:
    """The first ids each text encoder of a pipeline's call is given are the prompts'; the negative ones come later, or alone
    where the prompt was given as embeddings: then nothing is heard. Which of them the text tokens are, a family may know."""

    def __init__(self, pipe: Any, family: Family | None = None) -> None:
        self.pipe = pipe
        self.written = None if family is None else family.written
        self.ids: dict[str, Tensor] = {}
        self.deaf = False  # the prompt of this call has been encoded
        self.tokenizer = next((found for found in map(self.tokenizer_of, ENCODERS) if found is not None), None)

    def tokenizer_of(self, encoder: str) -> Any:
        """The tokenizer of a text encoder; some have it in a processor, which reads pictures as well."""
        own = getattr(self.pipe, ENCODERS[encoder], None)
        return getattr(getattr(self.pipe, "processor", None), "tokenizer", None) if own is None and encoder == "text_encoder" else own

    def begin(self, *_: Any) -> None:
        """A new call of the pipeline."""
        self.ids.clear()
        self.deaf = False

    def listen(self, undo: ExitStack) -> None:
        if hasattr(self.pipe, "check_inputs"):  # what every call begins with
            self.around("check_inputs", self.begin, lambda: None, undo)
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
        if given.get("prompt_embeds") is not None:
            self.deaf = True

    def encoded(self) -> None:
        self.deaf = True

    def hook(self, name: str) -> Any:
        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            ids = kwargs.get("input_ids", args[0] if args else None)
            if isinstance(ids, Tensor) and ids.ndim == 2 and not self.deaf:
                self.ids.setdefault(name, ids.detach().cpu())

        return before

    def columns(self, length: int, words: bool | Sequence[str]) -> tuple[tuple[Prompt, ...], Sequence[int] | None]:
        """The prompts over a text sequence of `length` tokens, and which of its tokens to record (None: all, the prompt is unknown)."""
        prompts = self.prompts(length)
        if prompts:
            return prompts, columns(prompts, words)
        if words is not True:
            refuse("words", "True where the prompt cannot be seen", list(words) if not isinstance(words, bool) else words,
                   "Give the prompt as text, not as embeddings.")  # fmt: skip
        return (), None

    def prompts(self, length: int) -> tuple[Prompt, ...]:
        """One prompt per row, over the encoders whose tokens make up the sequence (SD3: CLIP's, then T5's)."""
        parts = {name: ids for name, ids in self.ids.items() if self.tokenizer_of(name) is not None}
        if self.written is not None:
            for name, ids in parts.items():
                made = self.written(self.pipe, ids, length)
                if made is not None:
                    return tuple(Prompt.from_ids(row, self.tokenizer_of(name)) for row in made)
            return ()
        last = parts.get("text_encoder_3")
        for name in reversed(parts):  # Flux reads its second encoder's tokens; SDXL's two have the same
            if parts[name].shape[1] == length:
                return self.read([name])
            if last is not None and name != "text_encoder_3" and parts[name].shape[1] + last.shape[1] == length:
                return self.read([name, "text_encoder_3"])
        return ()

    def read(self, names: list[str]) -> tuple[Prompt, ...]:
        rows = zip(*(self.ids[name] for name in names))
        tokenizers = [self.tokenizer_of(name) for name in names]
        return tuple(Prompt.join([Prompt.from_ids(ids, tokenizer) for ids, tokenizer in zip(row, tokenizers)]) for row in rows)
