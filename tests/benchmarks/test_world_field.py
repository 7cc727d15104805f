"""The field's benchmark: each damage does what it says and is undone, rows hold what the shipped model does, tables what rows hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_model import inputs, run, tiny

import i2am
from benchmarks.measuring.rows import read
from benchmarks.world import field, field_tables
from benchmarks.world.damage import DAMAGES, blank, damaged, placed, same, shuffled, swapped
from i2am.models.small import WEIGHTS, load
from i2am.score import correspondence

pytestmark = pytest.mark.usefixtures("on_the_cpu")
GRID, HOW = (4, 3), {"steps": 2, "guidance": 1.0}


# What is done to queries and keys


def test_shuffled_tokens_answer_for_each_other() -> None:
    tokens = torch.randn(2, 14, 8)  # two special ones
    found = shuffled(tokens, 2, 0, GRID)
    assert torch.equal(found[:, :2], tokens[:, :2])
    order = torch.cdist(found[0], tokens[0]).argmin(1)
    assert torch.equal(found, tokens[:, order])  # of every image alike
    assert sorted(order.tolist()) == list(range(14))
    assert order.tolist() != list(range(14))
    assert torch.equal(found, shuffled(tokens, 2, 0, GRID))
    assert not torch.equal(found, shuffled(tokens, 2, 1, GRID))  # each layer in its own order


def test_heads_are_swapped_round() -> None:
    tokens = torch.randn(2, 14, 12)
    found = swapped(tokens, 3, 0, GRID).unflatten(2, (3, 4))
    for head in range(3):
        assert torch.equal(found[:, :, head], tokens.unflatten(2, (3, 4))[:, :, head - 1])


def test_places_are_all_that_is_left() -> None:
    tokens = torch.randn(2, 14, 2 * 10)  # of ten channels two stay empty
    found = placed(tokens, 2, 0, GRID)
    assert torch.equal(found, placed(torch.randn(2, 14, 20), 2, 3, GRID))
    heads = found.unflatten(2, (2, 10))
    assert torch.equal(heads[:, :, 0], heads[:, :, 1])
    assert not heads[:, :2].any()
    assert not heads[..., 8:].any()
    agree = heads[0, 2:, 0] @ heads[0, 2:, 0].T
    assert torch.equal(agree.argmax(1), torch.arange(12))  # each place is likest to itself
    assert placed(tokens.bfloat16(), 2, 0, GRID).dtype == torch.bfloat16
    assert not blank(tokens, 2, 0, GRID).any()
    assert same(tokens, 2, 0, GRID) is tokens


def projections(pipe: Any) -> list[torch.nn.Module]:
    blocks = [module.attn2 for module in pipe.unet.modules() if getattr(module, "attn2", None) is not None]
    return [part for block in blocks for part in (block.to_q, block.to_k)]


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_done_inside_and_undone_behind(name: str) -> None:
    pipe = tiny()
    before, parts = run(pipe), projections(pipe)
    assert len(parts) >= 4
    queries, keys = DAMAGES[name]
    with damaged(pipe, name):
        assert not torch.allclose(run(pipe), before, atol=1e-5)
        assert [len(part._forward_hooks) for part in parts] == [1] * len(parts)
        for i, (part, how) in enumerate(zip(parts, (queries, keys) * len(parts))):
            tokens = torch.randn(1, part.grid[0] * part.grid[1] + 1, part.in_features)
            hooks, found = dict(part._forward_hooks), part(tokens)
            part._forward_hooks.clear()
            assert torch.equal(found, how(part(tokens), 2, i // 2, part.grid))
            part._forward_hooks.update(hooks)
    assert torch.equal(run(pipe), before)
    with pytest.raises(RuntimeError, match="on the way"), damaged(pipe, name):
        raise RuntimeError("on the way")
    assert not any(part._forward_hooks for part in parts)
    assert torch.equal(run(pipe), before)


def test_an_unknown_damage_leaves_nothing_behind() -> None:
    pipe = tiny()
    with pytest.raises(KeyError), damaged(pipe, "none"):
        pass
    assert not any(part._forward_hooks for part in projections(pipe))


def traced(name: str) -> i2am.AttributionMaps:
    pipe = tiny()
    with damaged(pipe, name), i2am.trace(pipe, groups=1, field=True) as found:
        run(pipe, inputs(2))
    return found.maps


def test_attention_that_looks_everywhere_does() -> None:
    maps = traced("looks everywhere")
    for layer in maps.names("g2r"):
        h, w = maps.buffer("g2r", layer).shape[-2:]
        positions, spread = maps.field("g2r", layers=layer)
        torch.testing.assert_close(positions, torch.full_like(positions, 0.5))
        torch.testing.assert_close(spread, torch.full_like(spread, ((2 - h**-2 - w**-2) / 12) ** 0.5))
        tokens = maps.tokens("g2r", layer)
        torch.testing.assert_close(tokens, tokens[..., :1].expand_as(tokens))


def test_attention_that_copies_by_place_does() -> None:
    maps = traced("copies by place")
    for layer in maps.names("g2r"):
        there, back = (maps.field(way, layers=layer) for way in ("g2r", "r2g"))
        h, w = there.positions.shape[1:3]
        own = torch.stack(torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij"), -1)
        assert ((there.positions - own) * torch.tensor([h, w])).norm(dim=-1).max() < 1, (
            layer
        )  # three columns look alike to the fastest waves
        assert correspondence.returning(there, back).tolist() == [1, 1]


# Rows


@pytest.fixture(scope="module")
def whole(on_the_cpu: None) -> dict[str, Any]:
    """The row of two pairs and no damage."""
    torch.manual_seed(0)
    return field.scored("shipped", load(WEIGHTS), 2, 2, None, **HOW)


def test_the_broken_score_below_the_shipped_model(whole: dict[str, Any]) -> None:
    """Two pairs of each: what the recorded rows say of two dozen."""
    found = {damage: field.scored("shipped", load(WEIGHTS), 2, 2, damage, **HOW) for damage in DAMAGES}
    assert (whole["model"], whole["damage"], whole["pairs"], whole["steps"]) == ("shipped", None, 2, 2)
    assert set(field_tables.SCORES) | {"pointing", "end_point", "within", "ssim_mask"} < set(whole)
    assert whole["pointing"] > 0.8
    assert whole["end_point"] < 0.5 < whole["within"]
    for damage, row in found.items():
        assert row["damage"] == damage
        assert row["pointing"] < 0.4 < whole["pointing"]
        assert row["end_point"] > 2, damage
        assert abs(row["correspondence"]) < 0.1 < 0.4 < whole["correspondence"], damage
        assert row["ssim_mask"] < whole["ssim_mask"], damage
    assert found["looks everywhere"]["smoothness"] == 1 > whole["smoothness"]  # which it fools
    assert found["copies by place"]["returning"] == 1 > whole["returning"]


def test_batches_do_not_matter_to_a_row(whole: dict[str, Any]) -> None:
    one = field.scored("shipped", load(WEIGHTS), 2, 1, None, **HOW)
    for name in (*field_tables.SCORES, "pointing", "end_point", "within"):
        assert one[name] == pytest.approx(whole[name], abs=0.01), name


def test_end_points_are_of_layers_heads_and_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--count", "2", "--batch", "1", "--steps", "2", "--out", str(tmp_path / "rows.jsonl")]
    assert field.main(["truth", *words]) == 0
    (row,) = read(tmp_path / "rows.jsonl")
    found = {(one["layer"], one["head"]): one for one in row["table"]}
    assert len(found) == len(row["table"]) == 3 + 5 * (1 + 4)
    assert len({one["patches"] for one in found.values()}) == 1
    assert found["all layers", None]["median"] < 0.5 < 2 < found["all layers, evenly", None]["median"]
    assert found["heads that point", None]["within"] > 0.8 > 0.1 > found["all layers, evenly", None]["within"]
    best = min(found.values(), key=lambda one: one["median"] if one["head"] is not None else 99)
    assert best["layer"].startswith("up_blocks.1.attentions.1")
    assert all(one["median"] <= one["p90"] for one in found.values())
    assert "within a patch" in capsys.readouterr().out
    assert (row["benchmark"], row["model"], row["pairs"]) == ("end points", "shipped", 2)


def test_models_have_names_and_every_damage_is_among_them(tmp_path: Path) -> None:
    for step in ("2000", "500", "last"):
        (tmp_path / "seed1" / "checkpoints" / step).mkdir(parents=True)
    found = [(name, damage) for name, damage, _ in field.models([tmp_path / "seed1"])]
    assert found == [
        ("shipped", None), *((f"shipped, {damage}", damage) for damage in DAMAGES), *((f"random {seed}", None) for seed in range(5)),
        ("seed1, step 500", None), ("seed1, step 2000", None),
    ]  # fmt: skip


# Tables


def test_the_scores_of_the_tables_are_those_of_the_package() -> None:
    assert tuple(field_tables.SCORES) == (*correspondence.NAMES, "imacs_g", "imacs_r")


def test_the_table_of_end_points_has_a_line_for_each() -> None:
    one = {"median": 0.254, "p90": 1.5, "within": 0.8765, "patches": 7}
    layer = "up.transformer_blocks.0.attn2"
    row = {
        "table": [{"layer": "all layers", "head": None, **one}, {"layer": layer, "head": None, **one}, {"layer": layer, "head": 3, **one}]
    }
    assert field_tables.end_points(row).splitlines()[2:] == [
        "| all layers | 0.25 | 1.50 | 87.6% |", "| `up` | 0.25 | 1.50 | 87.6% |", "| `up`, head 3 | 0.25 | 1.50 | 87.6% |",
    ]  # fmt: skip


def made_up() -> list[dict[str, Any]]:
    """Correspondence follows the pointing and notices both damages; the others go down as it goes up, and notice none."""
    rows = []
    for i, (model, damage) in enumerate(
        (("shipped", None), ("a, step 1", None), ("random 0", None), ("shipped, b", "b"), ("shipped, c", "c"))
    ):
        good = 0.9 - 0.2 * i
        rows.append({"model": model, "damage": damage, "pointing": good, "end_point": 2.0 * i, "correspondence": good,
                     **{name: 1 - good for name in field_tables.SCORES if name != "correspondence"}})  # fmt: skip
    return rows


def test_the_tables_of_scores_say_what_rows_hold() -> None:
    assert field_tables.scores(made_up()).splitlines()[2:4] == [
        "| shipped | 90.0% | 0.00 | 0.900 | 0.100 | 0.100 | 0.100 | 0.100 | 0.100 | 0.100 |",
        "| a, step 1 | 70.0% | 2.00 | 0.700 | 0.300 | 0.300 | 0.300 | 0.300 | 0.300 | 0.300 |",
    ]
    lines = field_tables.verdict(made_up()).splitlines()
    assert "pointing, 3 models | end-point error | pointing, 5 with the broken" in lines[0]
    assert lines[2:4] == ["| Correspondence | +1.00 | -1.00 | +1.00 | -1.00 | 2 |", "| Returning | -1.00 | +1.00 | -1.00 | +1.00 | 0 |"]
    assert len(lines) == 2 + len(field_tables.SCORES)
    assert {line.count("|") for line in lines} == {7}


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    field_tables.plot_scores(made_up(), tmp_path / "scores.png")
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.width > picture.height > 300
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
