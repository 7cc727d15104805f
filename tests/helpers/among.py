"""UNets whose pictures are tokens among others: Kandinsky 2.1, BLIP-Diffusion, GLIGEN with pictures, Stable Cascade's prior."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from ask import Ask, Case
from joint import sd3
from parts import as_pil, autoencoder, clip_text, clip_tokenizer, ddim, each, pictures, ready, sharpen, t5_tokenizer, unet
from prompted import lively, named, within
from torch import nn

IMAGE = 10  # Kandinsky 2.1's tokens of an image
SUBJECT = 16  # BLIP-Diffusion's of a subject, here
BOXES = 30  # GLIGEN's most
ADAPTER = 6  # tokens of Stable Diffusion 3's adapter, here


def kandinsky21() -> Case:
    """Keys [10 of the image, 77 of the text, the layer's own]."""
    from diffusers import KandinskyPipeline, UNet2DConditionModel, VQModel
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    torch.manual_seed(0)
    denoiser = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=8, addition_embed_type="text_image", encoder_hid_dim=24,
        encoder_hid_dim_type="text_image_proj", down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=32, attention_head_dim=8, norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    movq = VQModel(block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
                   layers_per_block=1, latent_channels=4, num_vq_embeddings=8, norm_num_groups=4, vq_embed_dim=4)  # fmt: skip
    encoder = MultilingualCLIP(MCLIPConfig(
        vocab_size=len(t5_tokenizer()), hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        transformerDimSize=24, imageDimSize=32, max_position_embeddings=90,
    ))  # fmt: skip
    pipe = KandinskyPipeline(
        text_encoder=encoder.eval(), tokenizer=t5_tokenizer(), unet=sharpen(denoiser), scheduler=ddim(), movq=movq.eval()
    )

    def own(ask: Ask) -> dict[str, Any]:
        embeds = {f"{name}image_embeds": each(ask.batch, 32, seed=ask.seed + seed) for seed, name in enumerate(("", "negative_"))}
        return {"prompt": ask.prompts, **embeds, **ask.canvas(), **ask.guidance(), "output_type": "pt"}

    return Case(ready(pipe), own)


def blip() -> Case:
    """77 keys: two of the prompt, the subject's, the prompt's others."""
    places = ("pipelines.deprecated.blip_diffusion", "pipelines.blip_diffusion")
    pipeline = within("BlipDiffusionPipeline", *places)
    text_model = within("ContextCLIPTextModel", *(f"{place}.modeling_ctx_clip" for place in places))
    torch.manual_seed(0)

    class Subject(nn.Module):
        """In place of BLIP-2's: features of a picture."""

        def __init__(self) -> None:
            super().__init__()
            self.colours = nn.Linear(3, SUBJECT * 32)
            self.config = SimpleNamespace(num_query_tokens=SUBJECT)

        dtype, device = torch.float32, torch.device("cpu")

        def forward(self, image_input: Any, text_input: Any, return_dict: bool = False) -> Any:
            return self.colours(image_input.mean((2, 3))).unflatten(1, (SUBJECT, 32))

    class Pictures:
        """In place of its image processor: pictures are tensors."""

        def preprocess(self, images: Any, **_: Any) -> dict[str, Any]:
            return {"pixel_values": images}

        def postprocess(self, images: Any, output_type: str) -> Any:
            return images

    encoder = text_model(clip_text(32).config)
    pipe = pipeline(
        tokenizer=clip_tokenizer(), text_encoder=lively(encoder), vae=autoencoder(), unet=unet(), scheduler=ddim(),
        qformer=Subject().eval(),
        image_processor=Pictures(),
    )  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        # the number of latent pixels of an image one is what the UNet's levels shrink by, whatever its autoencoder does
        shown = {"reference_image": pictures(ask.batch, (32, 32), seed=ask.seed + 1), "prompt_reps": 1}
        subjects = dict.fromkeys(("source_subject_category", "target_subject_category"), ["dog"] * ask.batch)
        return {"prompt": ask.prompts, **shown, **subjects, "height": ask.size[0], "width": ask.size[1], **ask.guidance()}

    made = Case(ready(pipe), own, sizes=((16, 16), (16, 12)))
    return Taking(made.pipe, made.own, made.sizes)


class Taking(Case):
    """A pipeline whose call takes fewer keywords."""

    dropped = ("num_images_per_prompt", "output_type")

    def kwargs(self, **options: Any) -> dict[str, Any]:
        return {name: value for name, value in super().kwargs(**options).items() if name not in self.dropped}


def cascade(images: int = 1) -> Case:
    """Rows [cond, uncond]; keys [own, 77 of text, 4 pooled, 4 for each image]; without an image, zeros stand in its place."""
    torch.manual_seed(0)
    prior = named("StableCascadeUNet")(
        in_channels=4, out_channels=4, timestep_ratio_embedding_dim=16, patch_size=1, conditioning_dim=32, block_out_channels=(32, 32),
        num_attention_heads=(2, 2), down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1), down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(1, 1), block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2,
        clip_text_in_channels=16, clip_text_pooled_in_channels=16, clip_image_in_channels=16, clip_seq=4, self_attn=True,
        timestep_conditioning_type=("sca", "crp"), switch_level=(False,), kernel_size=3, dropout=(0.0, 0.0),
    )  # fmt: skip
    parts = {"tokenizer": clip_tokenizer(), "text_encoder": clip_text(16, projection=16), "prior": lively(prior)}
    scheduler = named("DDPMWuerstchenScheduler")()
    pipe = named("StableCascadePriorPipeline")(**parts, scheduler=scheduler, resolution_multiple=4.0)

    def own(ask: Ask) -> dict[str, Any]:
        out: dict[str, Any] = ask.text()
        if images:
            out["image_embeds"] = each(1, images, 16, seed=ask.seed + 31)
        return {**out, "output_type": "pt"}

    class Prior(Case):
        @property
        def denoiser(self) -> nn.Module:
            return self.pipe.prior

        def __call__(self, **options: Any) -> Any:
            return self.pipe(**self.kwargs(**options)).image_embeddings

    return Prior(ready(pipe), own, sizes=((32, 32), (32, 24)))


def sd3_adapter(image_to_image: bool = False) -> Case:
    """Stable Diffusion 3 with an IP-Adapter of 6 tokens: a second attention call a layer, keys [the picture's own, the adapter's]."""
    processor = within("SD3IPAdapterJointAttnProcessor2_0", "models.attention_processor")
    projection = within("IPAdapterTimeImageProjection", "models.embeddings")
    made = sd3()
    transformer = made.pipe.transformer
    torch.manual_seed(2)
    transformer.image_proj = projection(
        embed_dim=16, output_dim=24, hidden_dim=16, depth=1, dim_head=8, heads=2, num_queries=ADAPTER, ffn_ratio=1, timestep_in_dim=8
    ).eval()
    for block in transformer.transformer_blocks:
        block.attn.set_processor(processor(32, 24, 16, timesteps_emb_dim=16))
    pipe = made.pipe
    if image_to_image:
        pipe = ready(named("StableDiffusion3Img2ImgPipeline")(**{**pipe.components, "image_encoder": None, "feature_extractor": None}))

    def own(ask: Ask) -> dict[str, Any]:
        out = {**made.own(ask), "ip_adapter_image_embeds": each(2, 3, 16, seed=ask.seed + 5)[0 if ask.guided else 1 :]}  # none, shown
        if image_to_image:
            out |= {"image": (pictures(ask.batch, ask.size, seed=ask.seed + 6) + 1) / 2, "strength": 1.0}
        return out

    return Case(pipe, own, sizes=((32, 32), (32, 24)))


def gligen(boxes: int = 2) -> Case:
    """Self-attention over [the layer's own, 30 texts, 30 pictures], of which `boxes` are there; then cross-attention to the prompt."""
    pipeline = within("StableDiffusionGLIGENTextImagePipeline", "pipelines.deprecated.stable_diffusion_gligen",
                      "pipelines.stable_diffusion_gligen")  # fmt: skip
    torch.manual_seed(0)
    denoiser = unet(attention_type="gated-text-image")
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if name.endswith(("alpha_attn", "alpha_dense")):
                parameter.fill_(0.5)  # closed in a fresh model

    pipe = pipeline(
        vae=autoencoder(), text_encoder=clip_text(32), tokenizer=clip_tokenizer(), processor=None, image_encoder=None, image_project=None,
        unet=denoiser, scheduler=ddim(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip

    def feature(given: Any, normalize_constant: float, device: Any, is_image: bool = False) -> Any:
        """In place of CLIP's: one of each text and picture."""
        if given is None:
            return None
        seed = int(pictures_sum(given)) if is_image else sum(map(ord, given))
        return torch.randn(1, 32, generator=torch.Generator("cpu").manual_seed(seed % 1000))

    pipe.get_clip_feature = feature

    def own(ask: Ask) -> dict[str, Any]:
        shown = as_pil(pictures(boxes, (16, 16), seed=ask.seed + 1))
        places = [[0.1 * number, 0.2, 0.5, 0.3 + 0.1 * number] for number in range(boxes)]
        objects = {"gligen_phrases": ["dog"] * boxes, "gligen_images": shown, "gligen_boxes": places, "gligen_scheduled_sampling_beta": 1.0}
        return {**ask.text(), **objects}

    return Case(ready(pipe), own, sizes=((32, 32), (32, 24)))


def pictures_sum(picture: Any) -> float:
    import numpy

    return float(numpy.asarray(picture).sum())
