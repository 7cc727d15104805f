"""Stand-ins for the large language models that newer pipelines read their prompts with: a tokenizer with a chat template, and a reader."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from parts import PROMPTS, WORDS
from torch import Tensor, nn

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{{ m['content'][0]['text'] }}{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
NAMED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")


@cache
def chat_tokenizer() -> Any:
    """Byte-level pairs, as Qwen's and Mistral's tokenizers have them, learnt from a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    lines = [*PROMPTS, *(f" {word}" for word in WORDS), "user", "assistant", "system"] * 4
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(NAMED), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)  # fmt: skip
    tokenizer.train_from_iterator(lines, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=NAMED[0], eos_token=NAMED[2], model_max_length=512,
                                   additional_special_tokens=[name for name in NAMED if name not in (NAMED[0], NAMED[2])])  # fmt: skip
    fast.chat_template = CHAT
    return fast


def reader(width: int = 32, layers: int = 3, tokenizer: Any = None) -> nn.Module:
    """Reads token ids; every state of a token is its own vector, turned by its place: what a language model gives, without its weights."""
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class Reader(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, vocabulary: int, width: int, layers: int) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, width)
            self.layers = layers

        def forward(self, input_ids: Tensor, **rest: Any) -> Any:
            places = torch.arange(input_ids.shape[1], device=input_ids.device)[:, None] / 7
            states = tuple(self.embedding(input_ids) * (places + layer).cos() for layer in range(self.layers + 1))
            return SimpleNamespace(hidden_states=states, last_hidden_state=states[-1])

    return Reader(len(tokenizer or chat_tokenizer()), width, layers).eval()
