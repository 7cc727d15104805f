"""The benchmark of trainings with losses on the maps: rows hold what the trainings are, tables what rows hold, pictures what they paint."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.measuring.rows import read
from benchmarks.world import refined, refined_tables, tables
from i2am.models.small.train import Options, train

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One without, one with the paper's weights; a step each."""
    folder = tmp_path_factory.mktemp("runs")
    for name, losses in (("without", {}), ("paper", {"dcml": 0.01, "tv": 0.0001, "cwg": 2.0})):
        train(folder / name, Options(steps=1, batch=1, warmup=1, **losses))
    return [folder / "without", folder / "paper"]


def test_a_row_and_a_line_for_each_training(trainings: list[Path], tmp_path: Path) -> None:
    files = ["--out", str(tmp_path / "rows.jsonl"), "--picture", str(tmp_path / "drawn.jpg"), "--draw", *map(str, trainings)]
    assert refined.main([*map(str, trainings), "--count", "1", "--steps", "1", *files]) == 0
    rows = read(tmp_path / "rows.jsonl")
    assert [row["losses"] for row in rows] == [{}, {"dcml": 0.01, "tv": 0.0001, "cwg": 2.0}]
    assert all((row["train_steps"], row["train_batch"], row["from"]) == (1, 1, "nothing") for row in rows)
    without, paper = refined_tables.refined(rows).splitlines()[2:]
    assert without.startswith(f"| without | {rows[0]['final_loss']:.4f} | {rows[0]['ssim_mask']:.3f} | ")
    assert paper.startswith("| the paper's weights | ")
    assert "1 steps of 1 pairs from nothing" in tables.trainings(rows)
    with Image.open(tmp_path / "drawn.jpg") as picture:
        assert picture.width > 2 * 4 * 200
        assert len(picture.convert("L").getcolors()) > 100


@pytest.mark.parametrize(
    ("changed", "name"),
    [({}, "without"), ({"losses": {"tv": 0.1}}, "tv 0.1"), ({"losses": {"dcml": 1.0, "cwg": 200.0}}, "dcml 1, cwg 200"),
     ({"losses": {"tv": 0.1}, "loss_layers": "up*"}, "tv 0.1, up*")],
)  # fmt: skip
def test_names(changed: dict[str, object], name: str) -> None:
    assert refined_tables.named({"losses": {}, "loss_layers": "*attn2", **changed}) == name
