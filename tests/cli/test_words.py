"""What `i2am words` is asked about true masks."""

import argparse

import pytest

from i2am.cli import words
from i2am.score.segmentation import MATCHINGS, MISSING, SETS, Protocol


def scoring(*line: str) -> dict:
    parser = argparse.ArgumentParser()
    words.scoring_arguments(parser)
    return words.scoring_of(parser.parse_args(line))


def test_the_choices_are_the_protocols():
    assert (tuple(SETS), MATCHINGS, MISSING) == (words.SETS, words.MATCHINGS, words.MISSING)


def test_what_is_asked_is_what_is_scored():
    assert scoring() == {"truth": None, "protocol": Protocol(), "predictions": None}
    line = "--truth t --thresholds 0.4 0.3 --nouns coco80 --matching best --missing skip --predictions clip-seg=a=b --composite stego=c"
    assert scoring(*line.split()) == {
        "truth": "t",
        "protocol": Protocol((0.3, 0.4), "coco80", "best", "skip"),
        "predictions": {"clip-seg": ("a=b", False), "stego": ("c", True)},
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--nouns coco80", "--nouns must be given with --truth"),
        ("--predictions a=b", "--predictions must be given with --truth"),
        ("--truth t --predictions a", "--predictions must be PREFIX=FOLDER"),
        ("--truth t --predictions a=b --composite a=c", "each prefix once"),
        ("--truth t --thresholds 1", "thresholds must be numbers from 0 to below 1"),
    ],
)
def test_what_makes_no_sense_is_refused(line, said):
    with pytest.raises(ValueError, match=said):
        scoring(*line.split())
