"""Pipelines whose denoiser is a transformer, by how their picture enters; last, those that nobody has described."""

from __future__ import annotations

from i2am.families.known import ADAPTER, NONE, REFUSED, WORKS, Group, Known
from i2am.families.unet_pipelines import CHANNELS, MASKED, NOISE, ONLY, RESIDUALS

JOINT = "the reference's tokens stand behind those of what is generated, in every layer"

TRANSFORMERS: tuple[Group, ...] = (
    (Known(WORKS, JOINT), (
        "FluxKontextPipeline", "FluxKontextInpaintPipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline",
        "QwenImageEditInpaintPipeline",
    )),
    (Known(ADAPTER, ONLY), ("FluxPipeline", "StableDiffusion3Pipeline")),
    (Known(ADAPTER, NOISE), ("FluxImg2ImgPipeline", "StableDiffusion3Img2ImgPipeline")),
    (Known(ADAPTER, MASKED), ("FluxInpaintPipeline", "StableDiffusion3InpaintPipeline")),
    (Known(ADAPTER, RESIDUALS), (
        "FluxControlNetPipeline", "StableDiffusion3ControlNetInpaintingPipeline", "StableDiffusion3ControlNetPipeline",
    )),
    (Known(NONE, NOISE), (
        "AmusedImg2ImgPipeline", "CogVideoXVideoToVideoPipeline", "QwenImageImg2ImgPipeline", "SanaSprintImg2ImgPipeline",
        "StableDiffusion3PAGImg2ImgPipeline", "WanVideoToVideoPipeline", "ZImageImg2ImgPipeline",
    )),
    (Known(NONE, MASKED), ("AmusedInpaintPipeline", "QwenImageInpaintPipeline", "ZImageInpaintPipeline")),
    (Known(NONE, CHANNELS), (
        "CogVideoXFunControlPipeline", "CogVideoXImageToVideoPipeline", "CogView4ControlPipeline", "FluxControlImg2ImgPipeline",
        "FluxControlInpaintPipeline", "FluxControlPipeline", "FluxFillPipeline", "HunyuanImageRefinerPipeline",
        "HunyuanSkyreelsImageToVideoPipeline", "Kandinsky6SRPipeline", "LucyEditPipeline",
    )),
    (Known(NONE, RESIDUALS), (
        "FluxControlNetImg2ImgPipeline", "FluxControlNetInpaintPipeline", "HunyuanDiTControlNetPipeline",
        "QwenImageControlNetInpaintPipeline", "QwenImageControlNetPipeline", "SanaControlNetPipeline",
        "ZImageControlNetInpaintPipeline", "ZImageControlNetPipeline",
    )),
    (Known(NONE, "it enlarges a latent by convolutions, and has no attention that sees another picture"), (
        "LTX2LatentUpsamplePipeline", "LTXLatentUpsamplePipeline",
    )),
    (Known(REFUSED, "it prepares embeddings and has no denoiser: give them to FluxPipeline, and trace that with a rule for the last keys "
                    "of the text"), ("FluxPriorReduxPipeline",)),
    (Known(REFUSED, "its layers are several blocks that are generated, in front of the reference's"), ("QwenImageLayeredPipeline",)),
)  # fmt: skip

# What nobody has described yet: an entry in `pipelines.KNOWN` takes a pipeline's name away from here.
UNDESCRIBED = (
    "AnimateDiffControlNetPipeline", "AnimateDiffPAGPipeline", "AnimateDiffPipeline", "AnimateDiffSDXLPipeline",
    "AnimateDiffSparseControlNetPipeline", "AnimateDiffVideoToVideoControlNetPipeline", "AnimateDiffVideoToVideoPipeline",
    "AnyFlowFARPipeline", "AnyFlowPipeline", "BriaFibo2Pipeline", "BriaFiboEditPipeline", "ChromaImg2ImgPipeline",
    "ChromaInpaintPipeline", "ChromaPipeline", "ChronoEditPipeline", "ConsisIDPipeline", "Cosmos2VideoToWorldPipeline",
    "Cosmos2_5_PredictBasePipeline", "Cosmos2_5_TransferPipeline", "Cosmos3OmniPipeline", "CosmosVideoToWorldPipeline",
    "DiffusionGemmaPipeline", "DreamLiteMobilePipeline", "DreamLitePipeline", "EasyAnimateControlPipeline",
    "EasyAnimateInpaintPipeline", "Flux2KleinInpaintPipeline", "Flux2KleinKVPipeline", "Flux2KleinPipeline", "Flux2Pipeline",
    "GlmImagePipeline", "HeliosPipeline", "HeliosPyramidPipeline", "HunyuanVideo15ImageToVideoPipeline",
    "HunyuanVideoFramepackPipeline", "HunyuanVideoImageToVideoPipeline", "I2VGenXLPipeline", "JoyImageEditPipeline",
    "JoyImageEditPlusPipeline", "Kandinsky5I2IPipeline", "Kandinsky5I2VPipeline", "Kandinsky6TI2VAPipeline",
    "LTX2ConditionPipeline", "LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline", "LTX2HDRPipeline", "LTX2ImageToVideoPipeline",
    "LTX2InContextPipeline", "LTXConditionPipeline", "LTXI2VLongMultiPromptPipeline", "LTXImageToVideoPipeline",
    "LongCatImageEditPipeline", "MotifVideoImage2VideoPipeline", "OmniGenPipeline", "PIAPipeline", "QwenImage21Pipeline",
    "SanaImageToVideoPipeline", "SanaWMPipeline", "SkyReelsV2DiffusionForcingImageToVideoPipeline",
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline", "SkyReelsV2ImageToVideoPipeline", "StableCascadeCombinedPipeline",
    "StableCascadePriorPipeline", "StableVideoDiffusionPipeline", "UnCLIPImageVariationPipeline", "UniDiffuserPipeline",
    "VersatileDiffusionDualGuidedPipeline", "WanAnimatePipeline", "WanImageToVideoPipeline", "WanVACEPipeline",
    "ZImageOmniPipeline",
)  # fmt: skip
NOBODY = Known(REFUSED, "nobody has described it yet")
