"""The oracle against a sum done by hand and against the models' own outputs; and that no pipeline notices it."""

from functools import partial

import attentions
import ldm
import pipelines
import projects
import pytest
import torch
import torch.nn.functional as F
from oracle import Call, layers, level, of, probabilities, recorded, resize, truth, word_maps

# one row a head: exp of the scores of 2 generated positions for 3 keys
BY_HAND = torch.tensor([[[[2.0, 1.0, 1.0], [1.0, 3.0, 4.0]]]], dtype=torch.float64)

CASES = {
    "sd15": pipelines.sd15,
    "sd2": pipelines.sd2,
    "sdxl": pipelines.sdxl,
    "paint_by_example": pipelines.paint_by_example,
    "ip_adapter_plain": partial(pipelines.ip_adapter, "plain"),
    "ip_adapter_plus": partial(pipelines.ip_adapter, "plus", images=2),
    "ip_adapter_two": partial(pipelines.ip_adapter, "full", "plain"),
    "ip_adapter_masked": partial(pipelines.ip_adapter, "full", "plain", images=2, masked=True),
    "ip_adapter_encoder": partial(pipelines.ip_adapter, "full", encoder=True),
    "kandinsky22": pipelines.kandinsky22,
    "flux": partial(pipelines.flux, distilled=True),
    "flux_embeds": partial(pipelines.flux, words=False),
    "flux_kontext": pipelines.flux_kontext,
    "flux_kontext_plain": partial(pipelines.flux_kontext, distilled=False),
    "qwen_image_edit": pipelines.qwen_image_edit,
    "qwen_image_edit_padded": partial(pipelines.qwen_image_edit, padded=True),
    "sd3": pipelines.sd3,
    "sd3_words": partial(pipelines.sd3, words=True),
    "sd3_dual": partial(pipelines.sd3, dual=True),
    "instruct_pix2pix": pipelines.instruct_pix2pix,
    "upscaler": pipelines.upscaler,
    "catvton": attentions.catvton,
    "idm_vton": attentions.idm_vton,
    "ootdiffusion": attentions.ootdiffusion,
    "leffa": attentions.leffa,
    "fitdit": projects.fitdit,
    "pasd": projects.pasd,
    "stable_viton": ldm.stable_viton,
    "ldm_paint_by_example": ldm.ldm_paint_by_example,
}


def by_hand(step=0, mask=None):
    """A call whose scores are log(BY_HAND): each query is a row of them, each key a unit vector."""
    return Call("layer", 0, 0, step, BY_HAND.log(), torch.eye(3, dtype=torch.float64)[None, None], mask, 1.0, torch.float32)


def exactly(value, expected):
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)


def test_two_softmaxes_by_hand():
    p, c = probabilities(by_hand())
    exactly(p[0, 0], [[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 8, 1 / 2]])
    exactly(c[0, 0], [[2 / 3, 1 / 4, 1 / 5], [1 / 3, 3 / 4, 4 / 5]])


def test_ranges_cut_after_the_row_softmax_and_before_the_column_softmax():
    p, c = probabilities(by_hand(), generated=(1, 2), reference=(1, 3))
    exactly(p[0, 0], [[3 / 8, 1 / 2]])
    exactly(c[0, 0], [[1.0, 1.0]])


def test_a_hidden_key_takes_no_part():
    hidden = torch.tensor([0.0, -torch.inf, 0.0], dtype=torch.float64).expand(1, 1, 2, 3)
    p, c = probabilities(by_hand(mask=hidden))
    exactly(p[0, 0], [[2 / 3, 0, 1 / 3], [1 / 5, 0, 4 / 5]])
    exactly(c[0, 0, :, 1], [0.0, 0.0])


def test_maps_add_up_by_group_and_weight():
    calls = [by_hand(step) for step in range(3)]
    r2g, g2r = truth(calls, groups=2)  # steps 0 and 1, then step 2
    exactly(r2g[0, :, 0], [[2 * (2 / 3 + 1 / 4 + 1 / 5) / 3, 2 * (1 / 3 + 3 / 4 + 4 / 5) / 3], [67 / 180, 113 / 180]])
    exactly(g2r[0, :, 0, 0], [[5 / 8, 5 / 8, 3 / 4], [5 / 16, 5 / 16, 3 / 8]])
    one_hot = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    r2g, g2r = truth(calls[:1], generated_weight=one_hot, reference_weight=torch.tensor([0.0, 0.0, 1.0]))
    exactly(g2r[0, 0, 0], [[1 / 8, 3 / 8, 1 / 2], [5 / 8, 5 / 8, 3 / 4]])
    exactly(r2g[0, 0, 0], [1 / 5, 4 / 5])
    exactly(word_maps(calls, words=(1, 3), tokens=[1])[0, 0, 0], [[3 / 4, 3 / 2]])
    assert torch.equal(truth(calls, groups=5)[0][:, 2], torch.zeros(1, 1, 2, dtype=torch.float64))  # more groups than steps


def test_levels_reduce_what_they_say():
    one, two = torch.rand(2, 3, 2, 4, 3).double(), torch.rand(2, 3, 2, 2, 5).double()
    size = (8, 6)
    by_layer, by_head = level("layer", [one, two], size), level("head", [one, two], size)
    assert by_layer.shape == (2, 2, 8, 6)
    torch.testing.assert_close(by_layer[:, 1], resize(two.sum(1), size).mean(1))
    torch.testing.assert_close(by_layer.mean(1), by_head.mean(1))
    torch.testing.assert_close(by_layer.mean(1), level("unified", [one, two], size))
    torch.testing.assert_close(level("time", [one], (4, 3)).sum(1), level("unified", [one], (4, 3)))
    spike = torch.zeros(1, 1, 1, 4, 4).double().index_fill_(-1, torch.tensor([1]), 1.0)
    assert resize(spike, (16, 16)).min() == 0  # bicubic undershoots


def test_recorded_scores_explain_the_output():
    """P V, projected, is what the module returned: the scale, the heads and the mask are right."""
    from diffusers.models.attention_processor import Attention

    states, context = torch.randn(2, 6, 8), torch.randn(2, 5, 8)
    seen = torch.rand(2, 5) > 0.3
    seen[:, 0] = True
    module = ldm.CrossAttention(8, heads=2)
    diffusers = Attention(8, cross_attention_dim=8, heads=2, dim_head=4, bias=False)
    diffusers.load_state_dict(module.state_dict())
    holder, scheduler = torch.nn.ModuleList([module, diffusers]), type("Scheduler", (), {"step": lambda self: None})()
    with recorded(holder, scheduler) as calls:
        outputs = module(states, context=context, mask=seen), diffusers(states, context, attention_mask=seen[:, None])
    torch.testing.assert_close(*outputs)
    assert [call.layer for call in calls] == ["0", "1"]
    value = module.to_v(context).unflatten(-1, (2, 4)).transpose(1, 2).double()
    for call, output in zip(calls, outputs):
        p, _ = probabilities(call)
        torch.testing.assert_close(module.to_out((p @ value).transpose(1, 2).flatten(2).float()), output)


@pytest.mark.parametrize("name", CASES)
def test_pipelines_do_not_notice(name):
    """Outputs are bit-identical, everything is put back, and an image does not depend on its batch."""
    case = CASES[name]()
    scheduler = case.scheduler if hasattr(case, "pipe") else case.sampler
    ask = {"batch": 3, "size": case.sizes[1], "guided": not name.startswith("flux_embeds")}  # diffusers 0.31 cannot guide Flux
    plain = case(**ask)
    before, attention = set(vars(scheduler)), F.scaled_dot_product_attention
    with recorded(case.denoiser, scheduler) as calls:
        watched = case(**ask)
    assert torch.equal(plain, watched)
    assert F.scaled_dot_product_attention is attention
    assert set(vars(scheduler)) == before
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in case.denoiser.modules()) or name == "pasd"
    for layer in layers(calls):
        assert len(of(calls, layer)) == 2
    if name != "upscaler":  # draws its noise level's noise for the whole batch at once
        torch.testing.assert_close(case(**{**ask, "batch": 1})[0], plain[0], rtol=1e-3, atol=1e-3)


def test_everything_is_put_back_after_an_exception():
    case = pipelines.sd15()
    attention = F.scaled_dot_product_attention

    def fails():
        with recorded(case.denoiser, case.pipe.scheduler):
            case(steps=1)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails()
    assert F.scaled_dot_product_attention is attention
    assert "step" not in vars(case.pipe.scheduler)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in case.denoiser.modules())
