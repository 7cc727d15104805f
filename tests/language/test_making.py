"""Prompts made of words, and prompts whose words are drawn anew."""

import pytest

from i2am.language.making import adjectives, article, pairs, within
from i2am.language.sentences import Sentence, Token
from i2am.language.swapped import swapped

GROUPS = {"pets": ("cat", "dog"), "fruits": ("apple", "orange", "fig"), "alone": ("umbrella",)}
OF = {word: name for name, words in GROUPS.items() for word in words}


def nouns(prompt: str) -> list[str]:
    return [part.split(" ", 1)[1] for part in prompt.split(" and ")]


def test_articles_as_words_are_said():
    assert [article(word) for word in ("apple", "hour", "unicorn", "Ring", "one", "umbrella")] == ["an", "an", "a", "a", "a", "an"]


def test_pairs_are_of_one_group_and_of_two_by_turns():
    found = pairs(GROUPS, 60, seed=5)
    assert [one.group for one in found[:3]] == ["siblings", "different", "siblings"]
    assert [one.seed for one in found[:3]] == [5, 6, 7]
    for one in found:
        first, second = nouns(one.prompt)
        assert first != second
        assert (OF[first] == OF[second]) == (one.group == "siblings")
        assert one.prompt.startswith(f"{article(first)} ")
    assert {word for one in found for word in nouns(one.prompt)} == set(OF)
    assert pairs(GROUPS, 7, seed=5) == found[:7]
    assert [one.prompt for one in pairs(GROUPS, 60, seed=6)] != [one.prompt for one in found]


def test_no_word_of_a_pair_is_part_of_the_other():
    """Else its map would be that of both."""
    groups = {"animals": ("bear", "dog"), "things": ("teddy bear", "hot dog")}
    made = [set(nouns(one.prompt)) for one in pairs(groups, 60)]
    assert {"bear", "hot dog"} in made
    assert {"bear", "teddy bear"} not in made
    assert {"dog", "hot dog"} not in made
    assert not within("cat", "catalog")
    assert within("T-shirt", "red t-shirt")
    assert within("Cat", "cat")
    with pytest.raises(ValueError, match="groups must be with words that are not part of each other"):
        pairs({"a": ("cat", "black cat"), "b": ("dog",)}, 4)


def test_an_adjective_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="with each adjective in the braces alone, got 'blue' also"):
        adjectives("a {red,blue} car under a Blue sky")
    assert adjectives("a {red,blue} car in blueish light")


def test_groups_that_make_no_pairs_are_refused():
    for groups in ({"pets": ("cat", "dog")}, {"a": ("cat",), "b": ("dog",)}, {}):
        with pytest.raises(ValueError, match="groups must be two or more"):
            pairs(groups, 4)


def test_adjectives_share_a_seed_and_their_articles_fit():
    found = adjectives("A {blue, orange,dark red} car driving down the street", seed=3, seeds=2)
    assert [one.prompt for one in found[:3]] == [f"{one} car driving down the street" for one in ("A blue", "An orange", "A dark red")]
    assert [one.id for one in found] == [f"{word}-{place:04d}" for place in (0, 1) for word in ("blue", "orange", "dark-red")]
    assert [one.seed for one in found] == [3, 3, 3, 4, 4, 4]
    assert {one.group for one in found} == {"car"}
    assert adjectives("the street and {blue,green} water, a car", noun="car")[0].group == "car"


@pytest.mark.parametrize("template", ["a blue car", "a {blue} car", "a {blue,blue} car", "a {blue,} car", "{a,b} {c,d} car", 7])
def test_templates_that_are_none(template):
    with pytest.raises(ValueError, match="the template must be one list of two adjectives or more"):
        adjectives(template)


def test_a_noun_that_the_template_lacks():
    with pytest.raises(ValueError, match="the noun must be in the template"):
        adjectives("a {blue,green} car", noun="ca")


TAGS = {"cat": "NOUN", "egg": "NOUN", "Dogs": "NOUN", "big": "ADJ", "old": "ADJ"}


def parsed(text: str) -> list[Sentence]:
    words = text.replace(".", " .").split()
    return [Sentence(text, tuple(Token(i, word, word, TAGS.get(word, "X"), 0, "dep") for i, word in enumerate(words, 1)))]


def test_nouns_and_adjectives_are_drawn_from_the_whole_list_and_the_rest_stays():
    texts = {"a": "a big cat  sits on an egg.", "b": "Dogs eat an old egg", "c": "nothing here"}
    sentences = {key: parsed(text) for key, text in texts.items()}
    found = [swapped(texts, sentences, seed) for seed in range(40)]
    assert found[0] == swapped(texts, sentences, 0)
    for one in found:
        article_, adjective, noun, *between, last = one["a"].removesuffix(".").split()
        assert (TAGS[adjective], TAGS[noun], TAGS[last]) == ("ADJ", "NOUN", "NOUN")
        assert (article_, between) == (article(adjective), ["sits", "on", article(last)])
        assert one["b"][0].isupper()
        assert one["c"] == "nothing here"
    assert len({one["a"] for one in found}) > 5


def test_a_list_without_such_words_is_refused():
    with pytest.raises(ValueError, match="nouns or adjectives to swap, got none"):
        swapped({"a": "of it"}, {"a": parsed("of it")})
