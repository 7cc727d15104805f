"""The cost of a trace is measured on the right maps: the release's way restated agrees with ours, rows and tables say what was run."""

import pytest
import torch

from benchmarks.measuring import rows, table
from benchmarks.pipeline import traced
from benchmarks.pipeline.eager_hooks import EagerHooks
from benchmarks.report import tables

DEVICE = torch.get_default_device()
TINY = traced.Section({**traced.NARROW, "block_out_channels": (32, 64), "cross_attention_dim": 32}, (8, 6), 2, 2, 1)


@pytest.fixture(scope="module")
def model():
    return traced.Model(TINY, DEVICE)


def means(sums):
    """A layer's maps of every head and token -> one map a head, in one row."""
    return sums.mean(1).flatten(1)


@pytest.mark.parametrize(("case", "direction"), [("one_token", "r2g"), ("clip_257", "r2g"), ("clip_257", "g2r")])
def test_the_release_agrees_with_ours_and_with_the_definition(model, case, direction):
    tokens = traced.CASES[case].tokens
    ours = model.traced(case, 1).maps
    given = traced.operands(model, tokens)
    true, top = traced.definition(ours, given, torch.float64)
    eager, _ = traced.definition(ours, given, torch.float32)
    with EagerHooks(model.unet, direction, (16, 16), special=1) as hooks:
        latents = model.denoise(tokens, 1)
    assert torch.equal(latents, model.denoise(tokens, 1))
    assert len(hooks.sums) == len(ours.layers) - 1  # the middle block's is left out
    for name, sums in hooks.sums.items():
        layer = name + ".transformer_blocks.0.attn2"
        wanted, found, plain = (maps.buffer(direction, layer)[0, 0].flatten(1) for maps in (true, ours, eager))
        limit = (16 + top) * 2.0**-20 + 4 * traced.difference(plain, wanted)
        assert traced.difference(means(sums), wanted) <= limit
        assert traced.difference(found, wanted) <= limit
        assert traced.difference(wanted.roll(1, -1), wanted) > limit  # this would not pass
    if case == "one_token":  # nothing to clamp before a mean over tokens
        theirs, mine = hooks.unified((8, 6)), ours.unified("r2g", (8, 6), layers=lambda layer: "mid_block" not in layer)[0]
        assert traced.difference(theirs, mine) <= 2 * limit


def test_steps_add_up_and_the_conditional_row_counts(model):
    """Over two guided steps, ours and the release's hooks hold the same sums."""
    ours, hooks = model.traced("clip_257", 2).maps, model.hooked("clip_257", 2)
    for (name, _), sums in hooks.sums.items():
        found = ours.buffer("r2g", name + ".transformer_blocks.0.attn2")[0].sum(0).flatten(1)
        assert traced.difference(means(sums), found) < 1e-4  # the second step starts from latents that differ in the last digits
        assert traced.difference(2 * means(sums).flip(1), found) > 1e-2


def test_g2r_hooks_need_a_grid(model):
    with pytest.raises(ValueError, match="reference_grid"), EagerHooks(model.unet, "g2r"):
        model.denoise(1, 1)


def run(tmp_path, monkeypatch, *words):
    monkeypatch.setitem(traced.SECTIONS, "small", TINY)
    out = tmp_path / "rows.jsonl"
    code = traced.main(["--only", "small", "--device", str(DEVICE), "--out", str(out), *words])
    return code, rows.read(out)


def test_rows_and_tables(tmp_path, monkeypatch, capsys):
    code, found = run(tmp_path, monkeypatch)
    assert code == 0
    assert [(row["case"], row["runner"]) for row in found] == [
        ("one_token", "i2am"), ("one_token", "eager_hook"), ("clip_257", "i2am"), ("clip_257", "eager_hook"),
        ("words_77", "i2am"), ("both_77", "i2am"), ("dino_1036", "i2am"),
    ]  # fmt: skip
    wanted = {"section", "tokens", "steps", "latent", "guided", "dtype", "layers", "maps", "error_of", "red", "ms", "untraced_ms",
              "overhead_percent", "pairs", "peak_mb", "untraced_peak_mb", "extra_mb", "sums_mb", "environment"}  # fmt: skip
    for row in found:
        assert wanted <= set(row)
        assert set(row["overhead_percent"]) == {"p20", "p50", "p80"}
        assert row["environment"]["diffusers"]
        assert row["pairs"] == (2 if row["runner"] == "i2am" else 1)
    kinds = {row["case"]: row["maps"] for row in found if row["runner"] == "i2am"}
    assert kinds == {"one_token": ["r2g"], "clip_257": ["r2g", "g2r"], "words_77": ["words"], "both_77": ["r2g", "g2r", "words"],
                     "dino_1036": ["r2g", "g2r"]}  # fmt: skip
    memory = {(row["case"], row["runner"]): row["extra_mb"] for row in found}
    assert memory["clip_257", "i2am"] * 2 < memory["clip_257", "eager_hook"]
    capsys.readouterr()
    table.main([str(tmp_path / "rows.jsonl")])
    shown = capsys.readouterr().out
    assert "| small | both_77 | r2g, g2r, words of 7 |" in shown
    assert shown.count("| small |") == 5


def test_wrong_maps_get_no_times(tmp_path, monkeypatch):
    right = traced.Model.traced

    def wrong(self, name, steps):
        result = right(self, name, steps)
        result.maps.sums[0].r2g.mul_(1.01)
        return result

    monkeypatch.setattr(traced.Model, "traced", wrong)
    code, (row, hooks) = run(tmp_path, monkeypatch, "--cases", "one_token")
    assert code == 1
    assert row["red"]
    assert "ms" not in row
    assert "ms" in hooks
    assert "| red |" in table.pipelines([row, hooks])


def test_the_readme_holds_both_tables(tmp_path, monkeypatch):
    _, found = run(tmp_path, monkeypatch, "--cases", "one_token")
    text = "a\n<!-- table: operators -->\nold\n<!-- end of table -->\nb\n<!-- table: pipelines -->\nold\n<!-- end of table -->\nc\n"
    got = tables.filled(text, found)
    assert "old" not in got
    assert [part in got for part in ("a\n<!--", "\nb\n", "| small | one_token |")] == [True] * 3
    assert got.endswith("<!-- end of table -->\nc\n")
    foreign = {"section": "correctness", "case": "odd", "runner": "triton", "dtype": "float16", "environment": found[0]["environment"]}
    assert tables.filled(got, [*found, foreign]) == got  # a GPU's checks are no pipelines


def test_bad_words_are_named():
    with pytest.raises(ValueError, match="--pairs must be 1 or more, got 0"):
        traced.main(["--pairs", "0"])
    with pytest.raises(SystemExit):
        traced.main(["--cases", "none"])
    assert all(case.why for case in traced.CASES.values())
