"""Real tokenizers with small vocabularies, built without a download."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from i2am.maps.prompt import BYTES

# how CLIP splits each word here; every other word falls apart into its letters
PIECES = ("arma dillo", "cat", "cat egory", "red", "shirt", "hat", "and", "wild cat", "very", "'s", "dog", "on", "t", "the", "blue")
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def merges():
    """Fold each piece from the left, in the order of the list, so that an earlier word never breaks a later one."""
    out = []
    for word in PIECES:
        symbols = [list(piece) for piece in word.split()]
        symbols[-1][-1] += "</w>"
        for piece in symbols:
            left = piece[0]
            for right in piece[1:]:
                out.append((left, right))
                left += right
    return list(dict.fromkeys(out))


def clip_tokenizer(folder, **options):
    names = [*BYTES, *(c + "</w>" for c in BYTES), *dict.fromkeys("".join(pair) for pair in merges()), BEGIN, END]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges())]) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 12, **options}))
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clip_tokenizer(tmp_path_factory.mktemp("clip"))


def wrap(model, pre, decoder, end="</s>", **options):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoder
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, **options)


@pytest.fixture(scope="module")
def t5():
    pieces = ["▁", "▁a", "▁red", "▁Red", "▁arma", "dillo", "▁cat", "▁Cat", "egory", "▁very", "▁4", "▁42", "▁shirt",
              "shirt", "▁wild", "cat", ",", "s", "'", "-"]  # fmt: skip
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -99.0), *((piece, -float(len(pieces) - len(piece))) for piece in pieces)]
    model = models.Unigram(vocab, unk_id=2, byte_fallback=False)
    return wrap(model, pre_tokenizers.Metaspace(), decoders.Metaspace(), pad_token="<pad>", unk_token="<unk>", model_max_length=12)
