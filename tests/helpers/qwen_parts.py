"""What the pipelines with a Qwen encoder are given in its place: a byte-level tokenizer, a processor that knows the places of pictures,
and an encoder that reads each token by itself. All of them are small, and none is a file that is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from parts import WORDS, lively
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

PAD, END = "<|endoftext|>", "<|im_end|>"
NAMES = (PAD, "<|im_start|>", END, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
WIDTH = 32  # of the text's features


@cache
def tokenizer(side: str = "right") -> Any:
    """Byte pairs of WORDS, with and without a space in front; other words fall into bytes."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    vocabulary, merges = sorted(pre_tokenizers.ByteLevel.alphabet()), []
    for word in [mark + word for mark in ("Ġ", "") for word in WORDS]:
        for end in range(2, len(word) + 1):
            merges.append((word[: end - 1], word[end - 1]))
            vocabulary.append(word[:end])
    made = Tokenizer(BPE({token: place for place, token in enumerate(dict.fromkeys(vocabulary))}, list(dict.fromkeys(merges))))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=PAD, eos_token=END, padding_side=side,
                                   additional_special_tokens=list(NAMES[1:]), model_max_length=1024)  # fmt: skip


class Processor:
    """Text and pictures: a picture's place is as many tokens as it has squares of `square` pixels."""

    def __init__(self, square: int = 512, side: str = "right") -> None:
        self.square, self.tokenizer = square, tokenizer(side)

    def __call__(self, text: Sequence[str], images: Any = None, **options: Any) -> Any:
        pictures = iter([] if images is None else images if isinstance(images, (list, tuple)) else [images])
        texts = ["".join(self.filled(part, pictures) for part in pieces(line)) for line in text]
        return self.tokenizer(
            texts, padding=True, return_tensors="pt", padding_side=options.get("padding_side", self.tokenizer.padding_side)
        )

    def filled(self, part: str, pictures: Any) -> str:
        if part != NAMES[-1]:
            return part
        width, height = next(pictures).size
        return part * max(1, (width // self.square) * (height // self.square))

    def apply_chat_template(self, messages: Any, **_: Any) -> list[list[int]]:
        """A system's message, as the pipelines' own templates write it."""
        return [self.tokenizer.encode(f"<|im_start|>system\n{messages[0]['content'][0]['text']}{END}\n")]


def pieces(line: str) -> list[str]:
    """A text cut at the places of pictures, which stay."""
    first, *others = line.split(NAMES[-1])
    return [first, *(part for other in others for part in (NAMES[-1], other))]


class Reader(nn.Module):
    """Each token's own features, twice transformed, and where a language model keeps its layers."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.language_model = nn.Module()
        self.model.language_model.embeddings = nn.Embedding(len(tokenizer()), width)
        self.model.language_model.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.model.language_model.norm = nn.LayerNorm(width)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.language_model.embeddings.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.model.language_model.embeddings.weight.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Any:
        language = self.model.language_model
        states = [language.embeddings(input_ids)]
        for layer in language.layers:
            states.append(torch.tanh(layer(states[-1])))
        return SimpleNamespace(hidden_states=[*states, language.norm(states[-1])])


def reader(width: int = WIDTH) -> nn.Module:
    """A reader whose tokens are told apart."""
    return lively(Reader(width))


def prefix(template: str, side: str = "right") -> int:
    """How many tokens a template has in front of the prompt."""
    return len(tokenizer(side).encode(template.split("{}")[0]))
