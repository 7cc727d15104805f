"""From the names of the published checkpoint to those of our parts, and what has no place in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Rule = Callable[[str], str]

# what a checkpoint holds and no part needs: why, and which names
LDM_LEFT_OUT = {
    "the noise schedule, which the scheduler computes": r"betas|logvar|posterior_\w+|\w*alphas_cumprod\w*",
    "counted anew": r"cond_stage_model\.transformer\.vision_model\.embeddings\.position_ids",
}
LEFT_OUT = {
    **LDM_LEFT_OUT,
    "computed by the release, read by nothing": r"control_model\.(input_blocks\.(9|10|11)|middle_block)\..*",
    "a layer that the release never calls": r"lastzc\.(weight|bias)",
}

RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "cond_first_block.0": "conv_garment",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
VAE = {
    "mid.block_1": "mid_block.resnets.0",
    "mid.block_2": "mid_block.resnets.1",
    "mid.attn_1.norm": "mid_block.attentions.0.group_norm",
    "mid.attn_1.q": "mid_block.attentions.0.to_q",
    "mid.attn_1.k": "mid_block.attentions.0.to_k",
    "mid.attn_1.v": "mid_block.attentions.0.to_v",
    "mid.attn_1.proj_out": "mid_block.attentions.0.to_out.0",
    "nin_shortcut": "conv_shortcut",
    "norm_out": "conv_norm_out",
}
MAPPER = {
    "attn.c_qkv": "attn1.to_q attn1.to_k attn1.to_v",
    "attn.c_proj": "attn1.to_out.0",
    "ln_1": "norm1",
    "ln_2": "norm3",
    "mlp.c_fc": "ff.net.0.proj",
    "mlp.c_proj": "ff.net.2",
}


def left_out(name: str, table: Mapping[str, str] = LEFT_OUT) -> bool:
    """Whether a tensor of the checkpoint is known to be needed nowhere."""
    return any(re.fullmatch(pattern, name) for pattern in table.values())


def renamed(name: str, prefixes: Mapping[str, tuple[str, Rule]] | None = None) -> tuple[str, list[str]] | None:
    """The part that a tensor of the checkpoint belongs to and its name there; three names if it is to be cut in three."""
    for prefix, (part, rule) in (prefixes or PREFIXES).items():
        if name.startswith(prefix):
            stem, _, kind = name.removeprefix(prefix).rpartition(".")
            return part, [f"{one}.{kind}".strip(".") for one in rule(stem).split(" ")]
    return None


def swapped(stem: str, table: dict[str, str]) -> str:
    """The stem with the row of the table that it starts with, at a dot, in that row's new words."""
    for old, new in table.items():
        if stem == old or stem.startswith(f"{old}."):
            return new + stem[len(old) :]
    return stem


def unet(stem: str) -> str:
    """LDM numbers the blocks of a path through; here they are level and place, three places to a level."""
    for old, new in RESIDUAL.items():
        stem = stem.removesuffix(old) + new if stem.endswith(f".{old}") else stem
    found = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d+)\.?(.*)", stem)
    if found is None:
        return swapped(stem, OUTER)
    path, number, part, rest = found[1], int(found[2]), int(found[3]), found[4]
    if path == "input" and number == 0:
        return "conv_in"
    level, place = divmod(number - 1 if path == "input" else number, 3)
    block = f"{'down' if path == 'input' else 'up'}_blocks.{level}"
    if rest in ("op", "conv"):
        return f"{block}.{'down' if rest == 'op' else 'up'}samplers.0.conv"
    return f"{block}.{'attentions' if part else 'resnets'}.{place}.{rest}"


def vae(stem: str) -> str:
    """The decoder's levels are counted from the finest there, from the coarsest here."""
    side, _, rest = stem.partition(".")
    found = re.fullmatch(r"(down|up)\.(\d)\.(?:block\.(\d)\.(.*)|(?:down|up)sample\.conv)", rest)
    if side not in ("encoder", "decoder"):
        return stem
    if found is None:
        return f"{side}.{swapped(rest, VAE)}"
    way, level = found[1], int(found[2])
    block = f"{side}.{way}_blocks.{level if way == 'down' else 3 - level}"
    return f"{block}.resnets.{found[3]}.{swapped(found[4], VAE)}" if found[3] else f"{block}.{way}samplers.0.conv"


def clip(stem: str, model: str = "clip", mapper: str = "mapper") -> str:
    """model, mapper: what the image encoder calls CLIP and the list of the mapper's blocks."""
    if stem == "final_ln":
        return "final_layer_norm"
    if stem.startswith("mapper.resblocks."):
        number, _, rest = stem.removeprefix("mapper.resblocks.").partition(".")
        return " ".join(f"{mapper}.{number}.{one}" for one in swapped(rest, MAPPER).split(" "))
    return f"{model}." + stem.removeprefix("transformer.vision_model.")


# Paint-by-Example's, of which StableVITON is made
LDM_PREFIXES: dict[str, tuple[str, Rule]] = {
    "model.diffusion_model.": ("unet", unet),
    "first_stage_model.": ("vae", vae),
    "cond_stage_model.": ("image_encoder", clip),
    "proj_out.": ("image_encoder", lambda stem: "proj_out"),
    "learnable_vector": ("image_encoder", lambda stem: "uncond_vector"),
}
PREFIXES: dict[str, tuple[str, Rule]] = {**LDM_PREFIXES, "control_model.": ("spatial_encoder", unet)}
