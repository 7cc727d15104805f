"""Words painted and scored in one go: what is refused before a picture is painted, and what comes out."""

from pathlib import Path

import pipelines
import pytest
from masked import box, write_alpha
from reported import strict

from i2am.data.prompts import Asked
from i2am.score.segmentation import Protocol
from i2am.studies.options import Options
from i2am.studies.words import study

pytestmark = pytest.mark.usefixtures("on_the_cpu")
ASKED = [Asked("one", "a red shirt and a blue cat"), Asked("two", "the dog on a striped shirt"), Asked("three", "a coat")]
OPTIONS = Options(steps=2, size=(64, 48))


@pytest.fixture(scope="module")
def pipe(on_the_cpu):
    return pipelines.sd15().pipe


@pytest.fixture
def truth(tmp_path) -> Path:
    write_alpha(tmp_path / "truth" / "one" / "cat.gt.png", box((64, 48), 3, 3, 40, 20))
    write_alpha(tmp_path / "truth" / "two" / "shirt.gt.png", box((64, 48), 9, 9, 60, 40))
    return tmp_path / "truth"


def test_words_are_painted_and_scored(pipe, truth, tmp_path):
    page = study(ASKED, pipe, out=tmp_path / "out", options=OPTIONS, cpu=True, truth=truth, words=["a"], keep_going=True)
    found = strict(tmp_path / "out" / "report.json")
    assert page == tmp_path / "out" / "report.html"
    assert found["counts"]["nouns"] == 2
    assert found["counts"]["without_masks"] == ["three"]
    assert found["Pictures"]["size"] == [64, 48]
    again = (tmp_path / "out" / "report.json").read_bytes()
    study(ASKED, pipe, out=tmp_path / "out", options=OPTIONS, cpu=True, truth=truth, words=["a"], keep_going=True)
    assert (tmp_path / "out" / "report.json").read_bytes() == again


def test_masks_are_checked_before_anything_is_painted(pipe, truth, tmp_path):
    write_alpha(truth / "three" / "zebra.gt.png", box((64, 48), 0, 0, 2, 2))
    with pytest.raises(ValueError, match="three: it has no 'zebra': 'a coat'"):
        study(ASKED, pipe, out=tmp_path / "out", options=OPTIONS, cpu=True, truth=truth)
    with pytest.raises(ValueError, match=r"three/zebra\.gt\.png: 64 x 48 pixels, the picture has 32 x 48"):
        study(ASKED, pipe, out=tmp_path / "out", options=Options(steps=2, size=(32, 48)), cpu=True, truth=truth)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"3 pictures of another: one: 64 x 48, the picture \d+ x \d+"):  # the pipeline's own size
        study(ASKED, pipe, out=tmp_path / "out", options=Options(steps=2), cpu=True, truth=truth, protocol=Protocol(missing="skip"))
    assert not (tmp_path / "out").exists()
    (truth / "three" / "zebra.gt.png").unlink()
    (truth / "three").rmdir()
    last = [ASKED[2], *ASKED[:2]]  # the first prompt has no mask
    with pytest.raises(ValueError, match="of one of the first 1 prompts at least, got none"):
        study(last, pipe, out=tmp_path / "limited", options=Options(steps=2, size=(64, 48), limit=1), cpu=True, truth=truth)
    assert not (tmp_path / "limited").exists()
    with pytest.raises(ValueError, match="truth must be a folder or a file of masks"):
        study(ASKED, pipe, out=tmp_path / "out", predictions={"clip": (truth, False)})
