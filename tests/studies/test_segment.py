"""The segmentation of a study: its numbers against the masks and maps on disk, its files, its page, what it refuses."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from masked import box, write_alpha
from reported import Page, strict
from segmented import WORDS, painted

pytest.importorskip("accelerate")
pytest.importorskip("scipy")
from PIL import Image

from i2am.data.prompts import Asked
from i2am.maps.words import iou, show
from i2am.score.segmentation import Protocol
from i2am.studies.segment import Truth, segment
from i2am.studies.segment_looks import HIT, MISSED, OUTLINE, TOO_MUCH, cut, outlined
from i2am.studies.segment_scores import extremes

pytestmark = pytest.mark.usefixtures("on_the_cpu")
SIZE = (64, 96)


@pytest.fixture(scope="module")
def study(on_the_cpu, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, painted(folder, count=3)


def run(study, tmp_path: Path, about=None, predictions=None, truth="truth", **protocol) -> Path:
    folder, pictures = study
    asked, how = [one.asked for one in pictures], Protocol(**protocol)
    truth = Truth.read(folder / truth, asked, size=SIZE, protocol=how, predictions=predictions)
    tmp_path.mkdir(exist_ok=True)
    return segment(pictures, truth, out=tmp_path, about=about)


def test_every_iou_is_that_of_the_map_and_the_mask(study, tmp_path):
    folder, pictures = study
    page = run(study, tmp_path)
    rows = list(csv.DictReader((tmp_path / "segmentation.csv").open()))
    assert len(rows) == 2 * 5 * len(pictures)
    seen = []
    for one in pictures:
        for file in sorted((folder / "truth" / one.asked.id).glob("*.gt.png")):
            word, mask = file.name.removesuffix(".gt.png"), torch.from_numpy(np.asarray(Image.open(file))[..., 3] > 0)
            for threshold in (0.2, 0.3, 0.4, 0.5, 0.6):
                map = show(one.words()[word][0], size=SIZE, threshold=threshold)
                (row,) = [row for row in rows if (row["id"], row["word"], row["threshold"]) == (one.asked.id, word, f"{threshold:g}")]
                assert float(row["iou"]) == pytest.approx(float(iou(map, mask.float())), abs=1e-6)
                assert float(row["whole"]) == float(row["mask_share"]) == pytest.approx(float(mask.float().mean()), abs=1e-6)
                seen += [float(row["iou"])] if threshold == 0.4 else []
    found = strict(tmp_path / "report.json")
    (line,) = [line for line in found["maps"] if line["threshold"] == found["preset"] == 0.4]
    assert line["mean"] == pytest.approx(np.mean(seen), abs=1e-6)
    assert line["half"] == pytest.approx(1.96 * np.std(seen) / len(seen) ** 0.5, abs=1e-6)
    assert line["count"] == 6 == found["counts"]["nouns"]
    assert page == tmp_path / "report.html"


def test_the_page_says_what_came_out(study, tmp_path):
    page = Page(run(study, tmp_path, about={"Options": {"model": "<b>small</b>"}}))
    found = strict(tmp_path / "report.json")
    own = found["maps"][2]
    assert f"mean IoU of {own['mean']:.4f} over 6 nouns in 3 pictures" in page.text
    assert f"{own['mean']:.4f} ± {own['half']:.4f}" in page.text
    assert "<b>small</b>" in page.text
    assert "measured by others" in page.text
    assert "DAAM, COCO-Gen 0.6480 0.6070" in page.text
    assert len(page.all("img")) == 3 * 6  # three best and three worst, three pictures each
    assert page.all("script") == []
    assert all(one["src"].startswith("data:image/jpeg") for one in page.all("img"))
    assert {word for word in WORDS if f"{word} in a" in page.text} == set(found["classes"])


def test_the_same_files_twice(study, tmp_path):
    one, other = (run(study, tmp_path / name) for name in ("one", "other"))
    for name in ("segmentation.csv", "report.json", "report.html"):
        assert (one.parent / name).read_bytes() == (other.parent / name).read_bytes()


def test_what_is_not_scored_is_named(study, tmp_path):
    folder, pictures = study
    masks = tmp_path / "truth"
    write_alpha(masks / "0001" / "zebra.gt.png", box(SIZE, 1, 1, 9, 9))
    word = next(iter(Truth.read(folder / "truth", [one.asked for one in pictures]).masks["0001"]))
    write_alpha(masks / "0001" / f"{word}.gt.png", box(SIZE, 1, 1, 9, 9))
    for missing, count in (("skip", 1), ("zero", 2)):
        truth = Truth.read(masks, [one.asked for one in pictures], protocol=Protocol(missing=missing))
        text = Page(segment(pictures, truth, out=tmp_path)).text
        assert "1 masks whose noun has no map" in text
        assert "0001: zebra" in text
        assert "2 pictures without a mask" in text
        found = strict(tmp_path / "report.json")
        assert found["counts"]["nouns"] == count
        assert found["counts"]["without_a_map"] == ["0001: zebra"]
    with pytest.raises(ValueError, match="the maps of 0001 must be of 'zebra' too"):
        segment(pictures, Truth.read(masks, [one.asked for one in pictures]), out=tmp_path)


def test_the_best_of_all_maps_needs_no_names(study, tmp_path):
    """Each picture's two masks under each other's names."""
    folder, pictures = study
    for one in pictures:
        files = sorted((folder / "truth" / one.asked.id).glob("*.gt.png"))
        for file, other in zip(files, reversed(files)):
            target = tmp_path / "swapped" / one.asked.id / other.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    right = strict(run(study, tmp_path / "right").parent / "report.json")["maps"]
    swapped, best = (
        strict(run((tmp_path, pictures), tmp_path / name, truth="swapped", matching=name).parent / "report.json")["maps"]
        for name in ("labelled", "best")
    )
    for wrong, found, truth in zip(swapped, best, right):
        assert wrong["mean"] < truth["mean"] <= found["mean"]


def test_an_assignment_says_which_map_is_whose(study, tmp_path):
    page = run(study, tmp_path, matching="hungarian")
    matched = strict(page.parent / "report.json")["matched"]["0.4"]
    assert len(set(matched.values())) == len(matched)
    assert "Which map is whose" in Page(page).text


def test_kinds_of_coco_stuff(study, tmp_path):
    run(study, tmp_path, nouns="coco27")
    found = strict(tmp_path / "report.json")
    assert list(found["classes"]) == ["accessory"]  # a traffic light is one
    assert set(found["counts"]["outside_the_set"]) < set(WORDS)


def test_predictions_of_others_stand_beside(study, tmp_path):
    folder, pictures = study
    for one in pictures[:-1]:
        for file in (folder / "truth" / one.asked.id).glob("*.gt.png"):
            target = tmp_path / "others" / one.asked.id / file.name.replace(".gt.", ".perfect.pred.")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    page = run(study, tmp_path / "out", predictions={"perfect": (tmp_path / "others", False)})
    found = strict(page.parent / "report.json")
    assert [line["mean"] for line in found["others"]["perfect"]] == [1.0] * 5
    assert found["counts"]["others_without_a_mask"] == {"perfect": 2}
    assert "2 masks for which perfect has nothing" in Page(page).text


@pytest.mark.parametrize(("matching", "missing"), [("labelled", "skip"), ("hungarian", "refuse")])
def test_nothing_to_score_has_a_page_too(tmp_path, matching, missing):
    """The prompt has no word of the mask, nor any of COCO's classes."""
    pictures = painted(tmp_path / "study", count=1, seed=0)
    assert "light" not in pictures[0].asked.prompt
    write_alpha(tmp_path / "truth" / "0000" / "zebra.gt.png", box(SIZE, 1, 1, 9, 9))
    how = Protocol(matching=matching, missing=missing, nouns="coco80")
    text = Page(segment(pictures, Truth.read(tmp_path / "truth", [pictures[0].asked], protocol=how), out=tmp_path)).text
    assert "No noun could be scored." in text
    assert "0000: zebra" in text


def test_masks_of_another_size_are_refused(study, tmp_path):
    _, pictures = study
    asked = [one.asked for one in pictures]
    write_alpha(tmp_path / "truth" / "0002" / "ring.gt.png", box((32, 48), 1, 1, 9, 9))
    truth = Truth.read(tmp_path / "truth", asked)
    with pytest.raises(ValueError, match=r"0002: 32 x 48, the picture 64 x 96.*--size"):
        segment(pictures, truth, out=tmp_path)
    with pytest.raises(ValueError, match=r"0002: 32 x 48, the picture 64 x 96"):
        truth.fits(asked)(asked[0], SIZE)  # any picture of a list without pictures says the size of all
    truth.fits(asked)(asked[0], (32, 48))
    own = [Asked(one.id, one.prompt, image=Path("x.png")) for one in asked]
    truth.fits(own)(own[0], SIZE)  # the picture to begin from may have a size of its own
    write_alpha(tmp_path / "truth" / "0002" / "ring.clip.pred.png", box(SIZE, 1, 1, 9, 9))
    with pytest.raises(ValueError, match=r"what clip predicted must be .* 0002: 64 x 96, the true ones 32 x 48"):
        Truth.read(tmp_path / "truth", asked, predictions={"clip": (tmp_path / "truth", False)})
    with pytest.raises(ValueError, match="at least one with a mask"):
        segment(pictures[:2], truth, out=tmp_path)


def test_needed_words_are_those_whose_masks_count(study):
    folder, pictures = study
    asked = [one.asked for one in pictures]
    needed = Truth.read(folder / "truth", asked).words()
    assert {id: set(words) for id, words in needed.items()} == {one.id: {word for word in WORDS if word in one.prompt} for one in asked}
    for nouns in ("coco80", "coco27"):
        lights = Truth.read(folder / "truth", asked, protocol=Protocol(nouns=nouns)).words()
        assert {word for words in lights.values() for word in words} == {"traffic light"}
    for protocol in (Protocol(missing="skip"), Protocol(matching="best")):
        assert Truth.read(folder / "truth", asked, protocol=protocol).words() == {}


def test_colours_of_a_cut_say_what_is_right():
    picture = Image.new("RGB", (4, 2), (0, 0, 0))
    level = torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2)
    mask = torch.tensor([[True, False, True, False]] * 2)
    shown = np.asarray(cut(picture, level, mask, 0.4)).astype(float)
    middle = [shown[64, 32 + 64 * i] for i in range(4)]
    for pixel, colour in zip(middle, (HIT, TOO_MUCH, MISSED, (0, 0, 0))):
        assert pixel.tolist() == [round(0.65 * c) for c in colour]


def test_an_outline_lies_inside_its_mask():
    mask = torch.from_numpy(box((32, 48), 8, 8, 24, 30))
    shown = np.asarray(outlined(Image.new("RGB", (48, 32), (90, 120, 20)), mask))
    large = np.kron(mask.numpy(), np.ones((5, 5))) > 0
    white = (shown == OUTLINE).all(-1)
    assert white.any()
    assert not (white & ~large).any()
    assert (shown[large & ~white] == (90, 120, 20)).all()


def test_no_row_is_best_and_worst(study):
    folder, pictures = study
    from i2am.studies.segment_scores import score

    rows = score(pictures, Truth.read(folder / "truth", [one.asked for one in pictures])).maps.rows
    best, worst = extremes(rows, 2, 6)
    assert not set(best) & set(worst)
    assert max(row.iou[2] for row in worst) <= min(row.iou[2] for row in best)
    assert best[0].iou[2] == max(row.iou[2] for row in rows)
    assert worst[0].iou[2] == min(row.iou[2] for row in rows)
