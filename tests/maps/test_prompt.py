"""Prompts: which tokens a word is. The tokenizers are real ones with small vocabularies."""

import json
import random
from itertools import chain

import pytest
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokens import BEGIN, END, clip, clip_tokenizer, t5, wrap  # noqa: F401 (fixtures)

from i2am.maps.prompt import BYTES, Prompt, WordError
from i2am.maps.words import WordMaps

CLIP_CASES = [
    ("a red armadillo", "armadillo", [[3, 4]]),  # pieces merge
    ("a red armadillo", "red", [[2]]),
    ("Red shirt, RED hat", "rEd", [[1], [4]]),  # every occurrence, whatever the case
    ("red shirt, red hat", ",", [[3]]),
    ("red shirt, red hat", "red hat", [[4, 5]]),  # a phrase
    ("red shirt, red hat", "Shirt,  red", [[2, 3, 4]]),  # a phrase across punctuation and spaces
    ("a category on the cat", "cat", [[6]]),  # "cat" is a piece of "category" too
    ("a wildcat and cat", "cat", [[5]]),
    ("the dog's hat", "dog", [[2]]),
    ("the dog's hat", "dog's", [[2, 3]]),
    ("the dog's hat", "'s", [[3]]),
    ("a t-shirt", "t-shirt", [[2, 3, 4]]),
    ("a t-shirt", "shirt", [[4]]),
    ("the (red) cat", "red", [[3]]),
    ("42 cat", "42", [[1, 2]]),
    ("very very very red", "very very", [[1, 2], [2, 3]]),  # as DAAM: the one in the middle twice
    ("a caf\u00e9 and", "Cafe\u0301", [[2, 3, 4, 5]]),  # ca f and the two bytes of é, however it is typed
    ("a 猫 on", "猫", [[2, 3, 4]]),
    ("red …, cat", "cat", [[6]]),
    ("a ² on", "2", [[2, 3]]),
    ("a ß on", "SS", [[2, 3]]),
]


@pytest.mark.parametrize(("text", "word", "positions"), CLIP_CASES)
def test_finds_words_in_clip_tokens(clip, text, word, positions):
    assert Prompt.of(text, clip).positions(word) == positions


T5_CASES = [
    ("a red armadillo", "armadillo", [[2, 3]]),
    ("Red cat, red armadillo", "red", [[0], [3]]),  # two different tokens, one word
    ("red cat, Cat", "cat", [[1], [3]]),
    ("red cat, Cat", "cat, cat", [[1, 2, 3]]),
    ("a category, wildcat", "category", [[1, 2]]),
    ("42 cat", "42", [[0]]),
    ("cat's shirt", "cat's", [[0, 1, 2]]),
    ("cat's shirt", "cat", [[0]]),
    ("a 'cat' red", "cat", [[3]]),
    ("a 'shirt'", "shirt", [[3]]),  # not a suffix 's
    ("a dillo", "dillo", [[1, 2]]),  # the mark on its own belongs to the word it begins
    ("a shirt-cat", "shirt-cat", [[1, 2, 3]]),
]


@pytest.mark.parametrize(("text", "word", "positions"), T5_CASES)
def test_finds_words_in_sentencepiece_tokens(t5, text, word, positions):
    assert Prompt.of(text, t5).positions(word) == positions


def test_words_are_the_distinct_words_in_order(clip, t5):
    text = "A red armadillo, Red 42 dog's"
    assert Prompt.of(text, clip).words == ("a", "red", "armadillo", "4", "2", "dog", "'s")  # CLIP reads digits one by one
    assert Prompt.of("a Cat, red 42 cat", t5).words == ("a", "cat", "red", "42")


@pytest.mark.parametrize("word", ["arma", "dillo", "egory", "a armadillo", "armadillo red", "shirt", "", " ", "s", "tegory"])
def test_a_word_that_is_not_there_is_an_error_that_names_those_that_are(clip, word):
    prompt = Prompt.of("a red armadillo category dog's", clip, length=14)
    assert prompt.find(word) == []
    assert word not in prompt
    with pytest.raises(WordError, match=r"got .*Its words are: a, red, armadillo, category, dog, 's"):
        prompt.positions(word)


def test_part_of_a_number_is_not_the_number(t5):
    prompt = Prompt.of("42 cat", t5)
    assert prompt.tokens[0] == "▁42"
    assert "4" not in prompt
    assert "2 cat" not in prompt
    assert prompt.find("42 cat") == [[0, 1]]


def test_a_word_beyond_the_limit_is_said_to_be_cut_off(clip, t5):
    for tokenizer, length, words in ((clip, 5, ("a", "red")), (t5, 4, ("a", "red", "arma"))):  # T5 marks no ends: a fragment stays
        prompt = Prompt.of("a red armadillo, cat", tokenizer, length)
        assert len(prompt.tokens) == length
        assert prompt.words == words
        for word in ("armadillo", "cat"):
            with pytest.raises(WordError, match=f"not within the {length} tokens"):
                prompt.positions(word)
    assert "arma" not in Prompt.of("a red armadillo, cat", clip, 5)
    assert Prompt.of("a red armadillo, cat", clip, 6).positions("armadillo") == [[3, 4]]  # just fits
    with pytest.raises(WordError) as error:
        Prompt.of("a red cat", clip).positions("hat")
    assert "not within" not in str(error.value)
    assert str(error.value).startswith("words: a word must")  # a sentence, not KeyError's quoted one


def test_specials_are_marked_and_found_by_name(clip, t5):
    prompt = Prompt.of("red cat", clip, 6)
    assert prompt.special == (True, False, False, True, True, True)
    assert (prompt.positions(BEGIN), prompt.positions(END)) == ([[0]], [[3]])  # the end, not the padding of the same name
    prompt = Prompt.of("red cat", t5, 6)
    assert prompt.special == (False, False, True, True, True, True)
    assert (prompt.positions("</s>"), prompt.positions("<pad>")) == ([[2]], [[3]])
    empty = Prompt.of("", clip, 4)
    assert (empty.words, empty.special) == ((), (True,) * 4)


def test_ids_give_the_same_prompt(clip, t5):
    for tokenizer in (clip, t5):
        row = tokenizer("red cat, cat", padding="max_length", max_length=12)["input_ids"]
        made = Prompt.from_ids(torch.tensor(row), tokenizer)
        assert (made.tokens, made.special) == (Prompt.of("red cat, cat", tokenizer).tokens, Prompt.of("red cat, cat", tokenizer).special)
        assert made.text.replace(" ", "") == "redcat,cat"
        assert Prompt.from_ids(row, tokenizer, "own").text == "own"
    with pytest.raises(ValueError, match="one row of integers"):
        Prompt.from_ids(torch.zeros(2, 5, dtype=torch.int64), clip)
    with pytest.raises(ValueError, match="Pass the tokenizer that made them"):
        Prompt.from_ids([3, 9999], t5)


def test_a_pad_inside_the_text_is_text(tmp_path):
    tokenizer = clip_tokenizer(tmp_path, pad_token="!")  # as the second tokenizer of SDXL
    prompt = Prompt.of("red! cat", tokenizer, 8)
    assert prompt.tokens[6] == "!"
    assert prompt.special == (True, False, False, False, True, True, True, True)
    assert (prompt.positions("!"), prompt.positions("cat")) == ([[2]], [[3]])
    assert "!" not in Prompt.of("red cat", tokenizer, 8)


def test_padding_on_the_left_and_what_follows_the_end_are_special(t5):
    red, cat, end = t5("red cat")["input_ids"]
    assert Prompt.from_ids([red, end, cat, 0], t5).special == (False, True, True, True)
    assert Prompt.from_ids([0, 0, *t5("red cat")["input_ids"]], t5).special == (True, True, False, False, True)
    assert Prompt.from_ids([*t5("red cat", add_special_tokens=False)["input_ids"], 0, 0], t5).special == (False, False, True, True)


def test_placeholders_of_textual_inversion_are_words(tmp_path):
    tokenizer = clip_tokenizer(tmp_path)
    tokenizer.add_tokens([AddedToken("<cat-toy>"), AddedToken("<cat-toy>_1"), AddedToken("sks")])
    prompt = Prompt.of("a sks on <cat-toy> <cat-toy>_1, cat", tokenizer)
    assert prompt.words == ("a", "sks", "on", "<cat-toy>", "1", "cat")
    assert (prompt.positions("sks"), prompt.positions("on"), prompt.positions("cat")) == ([[2]], [[3]], [[7]])
    assert prompt.positions("<cat-toy>") == [[4], [5]]  # all its vectors
    assert Prompt.of("a (<cat-toy>)", tokenizer).positions("(<cat-toy>)") == [[2, 3, 4]]
    assert Prompt.of("sks <cat-toy>", tokenizer).words == ("sks", "<cat-toy>")  # no other token shows where words end


def test_an_unknown_word_stands_as_the_unknown_token(t5):
    prompt = Prompt.of("red 猫 cat", t5)
    assert prompt.words == ("red", "<unk>", "cat")
    assert prompt.positions("cat") == [[3]]


def test_two_sequences_behind_each_other_are_both_searched(clip, t5):
    one, two = Prompt.of("red armadillo", clip, 6), Prompt.of("red armadillo", t5, 5)  # as Stable Diffusion 3
    both = Prompt.join([one, two])
    assert both.positions("armadillo") == [[2, 3], [7, 8]]
    assert "armadillo red" not in both
    assert both.words == ("red", "armadillo")


def test_byte_level_tokens_without_end_marks():
    pairs = [("r", "e"), ("re", "d"), ("Ġ", "red"), ("Ġ", "c"), ("Ġc", "a")]  # as Qwen
    names = [*BYTES, *dict.fromkeys("".join(pair) for pair in pairs), "<|im_end|>", "<|endoftext|>"]
    model = models.BPE({name: i for i, name in enumerate(names)}, pairs)
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = wrap(model, split, decoders.ByteLevel(), end="<|im_end|>", pad_token="<|endoftext|>")
    prompt = Prompt.of("red red ca caf\u00e9", tokenizer, 10)
    assert prompt.tokens[:7] == ("red", "Ġred", "Ġca", "Ġca", "f", "Ã", "©")
    assert prompt.words == ("red", "ca", "caf\u00e9")
    assert (prompt.positions("red"), prompt.positions("CAF\u00c9"), prompt.positions("ca")) == ([[0], [1]], [[3, 4, 5, 6]], [[2]])


def test_byte_fallback_is_read_as_bytes():
    prompt = Prompt("a 猫", ("▁a", "▁", "<0xE7>", "<0x8C>", "<0xAB>", "</s>"), (False,) * 5 + (True,))
    assert prompt.positions("猫") == [[1, 2, 3, 4]]
    assert Prompt("café", ("caf", "é"), (False, False)).positions("café") == [[0, 1]]  # Gemma does not mark the first word


def test_tokens_without_marks_are_refused():
    words = models.WordPiece({"[UNK]": 0, "[SEP]": 1, "red": 2, "cat": 3, "##egory": 4}, unk_token="[UNK]")
    tokenizer = wrap(words, pre_tokenizers.Whitespace(), decoders.WordPiece(), end="[SEP]", pad_token="[SEP]")
    with pytest.raises(ValueError, match=r"must mark where words begin or end .* got \['red', 'cat', '##egory'\]"):
        Prompt.of("red category", tokenizer, 6)


def test_a_length_that_nobody_knows_is_asked_for(clip):
    clip_without = type("T", (), {"model_max_length": int(1e30)})()
    with pytest.raises(ValueError, match="Pass length="):
        Prompt.of("red", clip_without)


def test_prompts_survive_json_and_damage_is_seen(clip):
    prompt = Prompt.of("a caf\u00e9, RED armadillo", clip)
    data = json.loads(json.dumps(prompt.to_json()))
    assert Prompt.from_json(data) == prompt
    assert Prompt.from_json(data).positions("armadillo") == prompt.positions("armadillo")  # no tokenizer at hand
    for damaged in (
        None,
        [],
        {},
        {**data, "text": 3},
        {**data, "tokens": "abc", "special": [False] * 3},
        {**data, "special": [0] * 12},
        {**data, "special": [True]},
    ):
        with pytest.raises(ValueError, match="prompt: "):
            Prompt.from_json(damaged)


def daam(tokenizer, prompt, word):
    """DAAM's compute_token_merge_indices, said again (with the end marks that its first release compared)."""
    tokens, search = tokenizer.tokenize(prompt.lower()), tokenizer.tokenize(word.lower())
    return [i + j + 1 for i in range(len(tokens)) for j in range(len(search)) if tokens[i : i + len(search)] == search]


def test_equals_daam_on_random_prompts(clip):
    draw = random.Random(0)
    bag = ["cat", "category", "armadillo", "red", "RED", "shirt", "t-shirt", "dog's", "very", "42", "8k", ",", "(hat)",
           "rock'star", "plain", "café", "..."]  # fmt: skip
    for _ in range(150):
        text = draw.choices(bag, k=draw.randint(1, 9))
        prompt, first = Prompt.of(" ".join(text), clip, 77), draw.randrange(len(text))
        word = " ".join(text[first : first + draw.choice((1, 1, 2))])
        word = draw.choice((word, word.upper(), word.title()))
        expected = daam(clip, " ".join(text), word)
        assert list(chain(*prompt.positions(word))) == expected, (text, word)
        maps = torch.rand(1, 77, 2, 3)
        torch.testing.assert_close(WordMaps([prompt], range(77), maps)[word][0], maps[0, expected].mean(0))
