"""What prompt the model reads: token ids are seen on their way into the text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from i2am.prompt import Prompt, columns
from i2am.tokens import refuse

ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2", "text_encoder_3": "tokenizer_3"}


@dataclass
class Listener:
    """The first ids each text encoder of a call is given are the prompts'; the negative ones come later."""

    pipe: Any

    def __post_init__(self) -> None:
        self.ids: dict[str, Tensor] = {}
        names = [name for name in ENCODERS.values() if getattr(self.pipe, name, None) is not None]
        self.tokenizer = getattr(self.pipe, names[0]) if names else None

    def listen(self, undo: ExitStack) -> None:
        for name in ENCODERS:
            encoder = getattr(self.pipe, name, None)
            if isinstance(encoder, nn.Module):
                undo.callback(encoder.register_forward_pre_hook(self.hook(name), with_kwargs=True).remove)

    def hook(self, name: str) -> Any:
        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            ids = kwargs.get("input_ids", args[0] if args else None)
            if isinstance(ids, Tensor) and ids.ndim == 2:
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
        parts = {name: ids for name, ids in self.ids.items() if getattr(self.pipe, ENCODERS[name], None) is not None}
        for names in ([name] for name in parts):
            if parts[names[0]].shape[1] == length:
                return self.read(names)
        for first in parts:
            for second in parts:
                if first < second and parts[first].shape[1] + parts[second].shape[1] == length:
                    return self.read([first, second])
        return ()

    def read(self, names: list[str]) -> tuple[Prompt, ...]:
        rows = zip(*(self.ids[name] for name in names))
        tokenizers = [getattr(self.pipe, ENCODERS[name]) for name in names]
        return tuple(Prompt.join([Prompt.from_ids(ids, tokenizer) for ids, tokenizer in zip(row, tokenizers)]) for row in rows)
