"""The original StableVITON from a clone of its repository, at any width, on a machine that has little of what it imports.

What it imports and never calls here becomes empty modules. None of its code is in this file.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.parity.stableviton import GUIDANCE, Results, Sizes, inputs

UNUSED = ("cv2", "cleanfid", "skimage", "skimage.metrics", "eval_models", "requests", "torchvision.utils", "pytorch_lightning.utilities",
          "pytorch_lightning.utilities.types")  # fmt: skip


class Attributes(dict):
    """A configuration as the original reads it."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class LightningModule(nn.Module):
    """In the place of pytorch_lightning's."""

    device = torch.device("cpu")


def empty(name: str, **contents: Any) -> Any:
    """A module with these contents, and with anything else one asks of it."""
    module: Any = MagicMock(name=name)
    module.__path__, module.__spec__ = [], None
    for key, value in contents.items():
        setattr(module, key, value)
    sys.modules[name] = module
    return module


def column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def attention(q: Tensor, k: Tensor, v: Tensor, attn_bias: None = None, op: None = None) -> Tensor:
    """xFormers', without which the original does not run."""
    return F.scaled_dot_product_attention(q, k, v)


def surroundings(path: Path) -> None:
    """What the original imports; pictures are scaled as by the torchvision 0.15 of its list, without antialiasing."""
    for name in UNUSED:
        empty(name)
    empty("diffusers.models.autoencoder_kl", AutoencoderKLOutput=type("AutoencoderKLOutput", (), {}))
    empty("diffusers.models.vae", DecoderOutput=type("DecoderOutput", (), {}))
    lists = empty("omegaconf.listconfig", ListConfig=type("ListConfig", (list,), {}))
    empty("omegaconf", ListConfig=lists.ListConfig, listconfig=lists)
    empty("pytorch_lightning", LightningModule=LightningModule)
    empty("pytorch_lightning.utilities.distributed", rank_zero_only=lambda function: function)
    empty("torchvision.transforms.functional", resize=lambda x, size: F.interpolate(x, size, mode="bilinear"))
    normalize = empty("torchvision.transforms", Normalize=lambda mean, std: lambda x: (x - column(mean)) / column(std))
    empty("torchvision", transforms=normalize)
    empty("xformers", ops=empty("xformers.ops", memory_efficient_attention=attention))
    sys.path.insert(0, str(path))


def module(name: str) -> Any:
    return importlib.import_module(name)


def scaled(name: str, width: int) -> property:
    """A list of channels that is written down for 320 and is read at another width."""

    def write(model: nn.Module, channels: list[int]) -> None:
        model.__dict__[name] = [channel * width // 320 for channel in channels]

    return property(lambda model: model.__dict__[name], write)


def original(sizes: Sizes) -> Any:
    """The release's whole model at these widths, on torch's current device."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    encoders, xf = module("ldm.modules.image_encoders.modules"), module("ldm.modules.image_encoders.xf")

    class Embedder(nn.Module):
        """FrozenCLIPImageEmbedder without a download, at any width."""

        def __init__(self) -> None:
            super().__init__()
            self.transformer = CLIPVisionModel(CLIPVisionConfig(**sizes.clip))
            self.final_ln = xf.LayerNorm(sizes.hidden)
            self.mapper = xf.Transformer(1, sizes.hidden, sizes.mapper, 1)

        forward, encode = (getattr(encoders.FrozenCLIPImageEmbedder, name) for name in ("forward", "encode"))

    base, network = module("ldm.models.diffusion.ddpm").DDPM, module("cldm.warping_cldm_network")

    def register_schedule(model: Any, *args: Any, register: Any = base.register_schedule, **options: Any) -> None:
        with torch.device("cpu"):  # it passes through numpy
            register(model, *args, **options)

    base.register_schedule, encoders.Embedder = register_schedule, Embedder
    channels = {name: scaled(name, sizes.width) for name in ("encode_output_chs", "encode_output_chs2")}
    network.Scaled = type("Scaled", (network.StableVITON,), channels)
    widths = {"model_channels": sizes.width, "attention_resolutions": [4, 2, 1], "num_res_blocks": 2, "channel_mult": [1, 2, 4, 4],
                 "num_heads": 8, "use_spatial_transformer": True, "transformer_depth": 1, "context_dim": sizes.tokens, "legacy": False,
                 "image_size": 32, "in_channels": 13}  # fmt: skip
    vae = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": sizes.vae_width,
           "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip

    def config(target: str, **params: Any) -> Attributes:
        return Attributes(target=target, params=Attributes(params))

    model = module("cldm.cldm").ControlLDM(
        control_stage_config=config("cldm.warping_cldm_network.NoZeroConvControlNet", hint_channels=3, cond_first_ch=4, **widths),
        unet_config=config("cldm.warping_cldm_network.Scaled", out_channels=4, dim_head_denorm=1, **widths),
        first_stage_config=config(
            "ldm.models.autoencoder.AutoencoderKL", embed_dim=4, ddconfig=vae, lossconfig=config("torch.nn.Identity")
        ),
        cond_stage_config=config("ldm.modules.image_encoders.modules.Embedder"),
        validation_config=None, control_key="cloth", only_mid_control=False, use_VAEdownsample=True, use_pbe_weight=True,
        img_H=8 * sizes.grid[0], img_W=8 * sizes.grid[1], linear_start=0.00085, linear_end=0.012, timesteps=1000,
        first_stage_key="image", first_stage_key_cond=["agn", "agn_mask", "image_densepose"], cond_stage_key="cloth",
        conditioning_key="crossattn", scale_factor=0.18215, use_ema=False, use_lastzc=True, use_imageCLIP=True, cond_stage_trainable=False,
        channels=4, image_size=64,
    )  # fmt: skip
    model.proj_out = nn.Linear(sizes.hidden, sizes.tokens)
    model.learnable_vector = nn.Parameter(torch.zeros(1, 1, sizes.tokens))
    return model.eval()


def published(model: Any) -> dict[str, list[int]]:
    """The names and shapes of its checkpoint: transformers before 5 has one more word in CLIP's."""
    prefix, inner = "cond_stage_model.transformer.", "vision_model."
    return {
        name.replace(prefix, prefix + inner) if name.startswith(prefix) and inner not in name else name: list(tensor.shape)
        for name, tensor in model.state_dict().items()
    }


@torch.no_grad()
def theirs(model: Any, sizes: Sizes) -> Results:
    """What the original computes, from pictures to pictures."""
    distributions = module("ldm.modules.distributions.distributions")
    distributions.DiagonalGaussianDistribution.sample = distributions.DiagonalGaussianDistribution.mode
    sampling = module("cldm.plms_hacked")
    given = inputs(sizes)
    batch = {theirs: (given[ours] * 2 - 1).permute(0, 2, 3, 1) for theirs, ours in
             (("image", "image"), ("agn", "agnostic"), ("image_densepose", "densepose"), ("cloth", "garment"))}  # fmt: skip
    batch["agn_mask"] = 1 - given["mask_image"].permute(0, 2, 3, 1)
    person, conditions = model.get_input(batch, "image")
    token = model.proj_out(model.get_learned_conditioning(conditions["c_crossattn"][0]))
    hint = model.get_first_stage_encoding(model.encode_first_stage(conditions["c_concat"][0]))
    noisy, time = torch.cat([given["latents"], conditions["first_stage_cond"]], 1), torch.tensor([500])
    features = model.control_model(x=noisy, hint=hint, timesteps=time, context=token)[0][:9]
    results = {"person": person, "beside": conditions["first_stage_cond"], "garment": hint, "token": token}
    results |= {f"features {i}": one.clone() for i, one in enumerate(features)}
    conditions["c_crossattn"] = [token]
    results["noise"] = model.apply_model(given["latents"], time, conditions)[0]
    sampler = sampling.PLMSSampler(model)
    sampler.register_buffer = lambda name, value: setattr(sampler, name, value)  # where the model is, not on a GPU
    without = {**conditions, "c_crossattn": [model.get_unconditional_conditioning(1)]}
    start = model.q_sample(person, torch.tensor([999]), noise=given["latents"])
    for guidance in GUIDANCE:
        last, way, _ = sampler.sample(sizes.steps, 1, tuple(start.shape[1:]), conditions, x_T=start, verbose=False, eta=0.0,
                                      unconditional_guidance_scale=guidance, unconditional_conditioning=without)  # fmt: skip
        results |= {f"first step, guidance {guidance:g}": way["x_inter"][1], f"latents, guidance {guidance:g}": last}
    results["picture"] = model.decode_first_stage(last)
    return results
