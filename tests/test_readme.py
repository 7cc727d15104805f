"""The README says what the rows say, its code runs and its links lead somewhere."""

import re
from pathlib import Path

import torch

from benchmarks.readme import ROOT, filled, recorded

README = (ROOT / "README.md").read_text()


def test_the_table_is_what_the_rows_say():
    assert recorded(), "no recorded rows"
    assert filled(README, recorded()) == README, "run `python -m benchmarks.readme`"


def test_recorded_rows_come_from_a_clean_tree():
    assert not [row for row in recorded() if row["environment"]["dirty"]]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_code_runs():
    """Every Python block, in order, in one namespace that holds what the text takes for granted."""
    batch, heads, generated_tokens, reference_tokens, size = 2, 2, 8704, 8704, 8
    query, key, value = (torch.randn(batch, heads, generated_tokens, size) for _ in range(3))
    names = {
        "torch": torch, "F": torch.nn.functional, "query": query, "key": key, "value": value, "batch": batch, "heads": heads,
        "generated_tokens": generated_tokens, "reference_tokens": reference_tokens, "B": batch, "mask": None,
    }  # fmt: skip
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 3
    for block in blocks:
        if "words" in block:  # the call with everything: ranges of 4096 tokens, the conditional half
            names |= {
                "r2g": torch.zeros(1, heads, 4096), "g2r": torch.zeros(1, heads, 4096), "words": torch.zeros(1, heads, 3, 4096),
                "inpainting": torch.full((1, 4096), 1 / 4096), "pieces": torch.rand(1, 4096, 3),
            }  # fmt: skip
        exec(block, names)
    assert Path(ROOT / "LICENSE").read_text().startswith("MIT")
    assert torch.allclose(names["g2r"].sum(-1) > 0, torch.tensor(True))
