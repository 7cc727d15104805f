"""The prompt as tokens: a tokenizer of whole words, and a text encoder that tells where a word belongs.

Each token leaves the encoder in two halves. The first knows the whole sentence, and is what attention looks for: "red" says that it is
the circle's red. The second knows its word and the one before it, and is what attention brings. So what is painted red has to look at
"red" or at the noun behind it, and no other token can stand in for them: that is what makes the maps of words mean the words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from i2am.data.scenes.grammar import VOCABULARY

LENGTH = 20  # tokens of a prompt, begin and end included
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
MARK = "▁"  # before each word, as SentencePiece writes it


class SceneTokenizer(PreTrainedTokenizerFast):
    """A tokenizer of whole words; a class of its own, as transformers' has another name in every version."""


def tokenizer(words: Sequence[str] = VOCABULARY, length: int = LENGTH) -> SceneTokenizer:
    """A token for each word."""
    vocabulary = {token: at for at, token in enumerate([*SPECIAL, *(MARK + word for word in words)])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    fast.normalizer = normalizers.Lowercase()
    fast.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    fast.decoder = decoders.Metaspace(prepend_scheme="always")
    ends = [(name, vocabulary[name]) for name in ("<s>", "</s>")]
    fast.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL))
    return SceneTokenizer(tokenizer_object=fast, model_max_length=length, **names)


class SceneTextEncoder(ModelMixin, ConfigMixin):
    """Ids [B, length] -> [B, length, 2 * channels]: what attention looks for, then what it brings."""

    @register_to_config
    def __init__(
        self, words: int = len(SPECIAL) + len(VOCABULARY), length: int = LENGTH, channels: int = 64, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        self.word = nn.Embedding(words, channels)
        self.place = nn.Parameter(torch.randn(length, channels) * 0.3)
        self.sentence = nn.ModuleList(
            nn.TransformerEncoderLayer(channels, heads, 2 * channels, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, input_ids: Tensor) -> Tensor:
        meaning, padding, words = self.word(input_ids), input_ids == 0, input_ids >= len(SPECIAL)
        x = meaning + self.place[: input_ids.shape[1]]
        for layer in self.sentence:
            x = layer(x, src_key_padding_mask=padding)
        both = words[:, 1:] & words[:, :-1]  # a word behind a word
        brought = torch.cat([meaning[:, :1], meaning[:, 1:] + meaning[:, :-1] * both[:, :, None]], 1)
        return torch.cat([self.norm(x) * ~padding[:, :, None], brought], 2)
