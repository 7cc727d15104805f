"""Word maps on disk: what was saved comes back to the bit, its words with it, and damage is named."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokens import clip  # noqa: F401 (fixture)

import i2am
from i2am.maps.prompt import Prompt
from i2am.maps.words import WordMaps

RED, BLUE = "a red armadillo and a cat", "the blue cat"


@pytest.fixture
def batch(clip):
    return WordMaps([Prompt.of(RED, clip), Prompt.of(BLUE, clip)], range(12), torch.rand(4, 12, 3, 5))


def test_words_come_back_to_the_bit(batch, tmp_path):
    back = WordMaps.load(batch.save(tmp_path / "words.safetensors"))
    assert back.prompts == batch.prompts
    assert back.columns == batch.columns
    assert torch.equal(back.maps, batch.maps)
    assert torch.equal(back.image(0)["armadillo"], batch.image(0)["armadillo"])
    video = WordMaps(batch.prompts, range(12), torch.rand(2, 12, 4, 3, 5, dtype=torch.float64))
    back = WordMaps.load(video.save(tmp_path / "video.safetensors"))
    assert torch.equal(back["cat"], video["cat"].float())


def test_an_images_own_words_are_a_file_that_no_other_prompt_changes(batch, tmp_path):
    one = batch.image(3).own()
    assert set(one) == set(batch.image(3)) == {"the", "blue", "cat"}
    assert len(one.columns) == 5  # three words, where the text begins and where it ends
    assert torch.equal(one["cat"], batch["cat"][3:])
    with safe_open(one.save(tmp_path / "one.safetensors"), "pt") as file:
        assert list(file.keys()) == ["maps"]
        assert "armadillo" not in str(file.metadata())


def changed(path, **changes):
    with safe_open(path, "pt") as file:
        about, maps = json.loads(file.metadata()["i2am"]), file.get_tensor("maps")
    save_file({"maps": maps}, path, {"i2am": json.dumps({**about, **changes})})
    return path


def test_damage_is_named(batch, tmp_path):
    path = batch.save(tmp_path / "words.safetensors")
    for change in ({"columns": [1, 2]}, {"columns": list(range(900, 912))}, {"prompts": []}, {"prompts": [{}]}, {"columns": None}):
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"the description in .* does not fit its tensors .* Write it again with words\.save"):
            WordMaps.load(changed(path, **change))
        path.write_bytes(before)
    with pytest.raises(ValueError, match="i2am words 9"):
        WordMaps.load(changed(path, format="i2am words 9"))
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        WordMaps.load(path)
    with pytest.raises(ValueError, match="a file of word maps"):
        WordMaps.load(tmp_path / "nothing.safetensors")
    path.write_bytes(before)
    with pytest.raises(ValueError, match="\"i2am maps 1\", got 'i2am words 1'"):
        i2am.load(path)
    with pytest.raises(ValueError, match=r"a \.safetensors file"):
        batch.save(tmp_path / "words.npz")
