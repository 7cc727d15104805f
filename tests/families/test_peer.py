"""Our words beside another tracer's: attention-map-diffusers' own numbers on the same small pipelines, layer by layer and step by step."""

from __future__ import annotations

import peer
import pytest
import torch

import i2am


@pytest.mark.parametrize("name", peer.CASES)
def test_words_are_those_of_attention_map_diffusers(name: str) -> None:
    numbers = peer.kept(name)
    case = peer.CASES[name]()
    with i2am.trace(case.pipe, words=True, groups=peer.STEPS) as run:
        case(steps=peer.STEPS, guided=False)
    maps = run.maps
    ours = {s.layer: s.words for s in maps.sums if s.words is not None}
    theirs_alone = {layer for layer, _ in numbers} - set(ours)
    assert not theirs_alone  # it leaves out Flux's single-stream blocks
    for (layer, step), found in numbers.items():
        first = peer.FIRST.get(name, 0)
        columns = [first + c for c in (maps.columns or range(ours[layer].shape[3])) if first + c < peer.TOKENS]
        assert len(columns) > 4
        map = ours[layer][0, step].mean(0)[: len(columns)]  # [tokens, positions]
        expected = torch.from_numpy(found)[: len(found) - peer.FILLED.get(name, 0), columns].mT
        assert map.shape == expected.shape
        assert (map - expected).abs().max() <= 1e-4 * expected.max(), f"{layer}, step {step}"  # a later step starts from other roundings
    assert not run.coverage.unknown
