"""Pipelines whose denoiser is a transformer, by how their picture enters."""

from __future__ import annotations

from i2am.families.known import ADAPTER, NONE, REFUSED, Group, Known
from i2am.families.unet_pipelines import CHANNELS, MASKED, NOISE, ONLY, RESIDUALS

TRANSFORMERS: tuple[Group, ...] = (
    (Known(ADAPTER, "embeddings of FluxPriorReduxPipeline are read as well, 27 x 27 tokens behind the text"), ("FluxPipeline",)),
    (Known(ADAPTER, ONLY), ("StableDiffusion3Pipeline",)),
    (Known(ADAPTER, NOISE), ("FluxImg2ImgPipeline", "StableDiffusion3Img2ImgPipeline")),
    (Known(ADAPTER, MASKED), ("FluxInpaintPipeline", "StableDiffusion3InpaintPipeline")),
    (Known(ADAPTER, RESIDUALS), (
        "FluxControlNetPipeline", "StableDiffusion3ControlNetInpaintingPipeline", "StableDiffusion3ControlNetPipeline",
    )),
    (Known(NONE, NOISE), (
        "AmusedImg2ImgPipeline", "QwenImageImg2ImgPipeline", "SanaSprintImg2ImgPipeline", "StableDiffusion3PAGImg2ImgPipeline",
        "ZImageImg2ImgPipeline",
    )),
    (Known(NONE, MASKED), ("AmusedInpaintPipeline", "QwenImageInpaintPipeline", "ZImageInpaintPipeline")),
    (Known(NONE, CHANNELS), (
        "CogView4ControlPipeline", "EasyAnimateControlPipeline", "EasyAnimateInpaintPipeline", "FluxControlImg2ImgPipeline",
        "FluxControlInpaintPipeline", "FluxControlPipeline", "FluxFillPipeline", "HunyuanImageRefinerPipeline", "Kandinsky6SRPipeline",
    )),
    (Known(NONE, RESIDUALS), (
        "FluxControlNetImg2ImgPipeline", "FluxControlNetInpaintPipeline", "HunyuanDiTControlNetPipeline",
        "QwenImageControlNetInpaintPipeline", "QwenImageControlNetPipeline", "SanaControlNetPipeline", "ZImageControlNetInpaintPipeline",
        "ZImageControlNetPipeline",
    )),
    (Known(NONE, "it enlarges a latent by convolutions, and has no attention that sees another picture"), (
        "LTX2LatentUpsamplePipeline", "LTXLatentUpsamplePipeline",
    )),
    (Known(REFUSED, "each layer's second call has as keys the text and the frames, those that were given among them: a rule names them"), (
        "Cosmos3OmniPipeline",
    )),
    (Known(REFUSED, "the picture is a clean frame behind those of the video, in the self-attention: a rule names its tokens"), (
        "Kandinsky6TI2VAPipeline",
    )),
    (Known(REFUSED, "an image encoder's tokens stand behind the video's and in front of the prompt's, in every layer: a rule names them"), (
        "MotifVideoImage2VideoPipeline",
    )),
    (Known(REFUSED, "the given frame stands in the self-attention, which is linear in three layers of four and has no map there"), (
        "SanaWMPipeline",
    )),
    (Known(REFUSED, "the pictures are seen by its prior: call its two pipelines yourself, and trace the first"), (
        "StableCascadeCombinedPipeline",
    )),
    (Known(REFUSED, "what it generates is text"), ("DiffusionGemmaPipeline",)),
    (Known(REFUSED, "it makes no picture; trace the pipeline of Flux that its embeddings are given to"), ("FluxPriorReduxPipeline",)),
    (Known(REFUSED, "it steps with copies of its scheduler, which cannot be counted; use i2am.Recorder in a loop of your own"), (
        "LTX2ConditionPipeline", "LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline", "LTX2HDRPipeline", "LTX2ImageToVideoPipeline",
        "LTX2InContextPipeline",
    )),
)  # fmt: skip
