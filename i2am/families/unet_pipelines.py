"""Pipelines whose denoiser is a UNet, by how their picture enters."""

from __future__ import annotations

from i2am.families.known import ADAPTER, NONE, REFUSED, WORKS, Group, Known

NOISE = "its picture is where denoising starts, under noise, and has no tokens of its own"
MASKED = "what its picture shows outside the mask is put back at each step or stacked on the channels, and has no tokens of its own"
CHANNELS = "its picture is stacked on the latent's channels, and has no tokens of its own"
RESIDUALS = "its picture enters a network beside the denoiser, whose features are added to the denoiser's, and has no tokens of its own"
LABEL = "its picture is one vector that is added to the timestep's, and has no tokens of its own"
ONLY = "no other picture is taken"

UNETS: tuple[Group, ...] = (
    (Known(WORKS, "the example is one token, the only key of every cross-attention"), ("PaintByExamplePipeline",)),
    (Known(WORKS, "the picture is CLIP's one token, the only key of every cross-attention"), ("StableDiffusionImageVariationPipeline",)),
    (Known(WORKS, "image_embeds are keys in front of each layer's own; the pictures among its arguments are noise or channels"), (
        "KandinskyV22Pipeline", "KandinskyV22Img2ImgPipeline", "KandinskyV22InpaintPipeline", "KandinskyV22ControlnetPipeline",
        "KandinskyV22ControlnetImg2ImgPipeline", "KandinskyV22CombinedPipeline", "KandinskyV22Img2ImgCombinedPipeline",
        "KandinskyV22InpaintCombinedPipeline",
    )),
    (Known(ADAPTER, ONLY), (
        "AltDiffusionPipeline", "KolorsPAGPipeline", "KolorsPipeline", "LatentConsistencyModelPipeline",
        "StableDiffusionLDM3DPipeline", "StableDiffusionPAGPipeline", "StableDiffusionPipeline", "StableDiffusionXLPAGPipeline",
        "StableDiffusionXLPipeline",
    )),
    (Known(ADAPTER, "its UNet is called once more a step; guided by a prompt beside an adapter, its own call fails",
           'trace(pipe, guidance="cond|degraded")'), ("StableDiffusionSAGPipeline",)),
    (Known(ADAPTER, "with safety guidance its batch has three blocks", 'trace(pipe, guidance="uncond-cond-safety")'), (
        "StableDiffusionPipelineSafe",
    )),
    (Known(ADAPTER, NOISE), (
        "AltDiffusionImg2ImgPipeline", "KolorsImg2ImgPipeline", "LatentConsistencyModelImg2ImgPipeline",
        "StableDiffusionImg2ImgPipeline", "StableDiffusionPAGImg2ImgPipeline", "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLPAGImg2ImgPipeline",
    )),
    (Known(ADAPTER, MASKED), (
        "StableDiffusionInpaintPipeline", "StableDiffusionPAGInpaintPipeline", "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLPAGInpaintPipeline",
    )),
    (Known(ADAPTER, CHANNELS), ("StableDiffusionInstructPix2PixPipeline",)),
    (Known(ADAPTER, RESIDUALS), (
        "StableDiffusionControlNetImg2ImgPipeline", "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionControlNetPAGInpaintPipeline", "StableDiffusionControlNetPAGPipeline", "StableDiffusionControlNetPipeline",
        "StableDiffusionXLAdapterPipeline", "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline", "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        "StableDiffusionXLControlNetPAGPipeline", "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLControlNetUnionImg2ImgPipeline", "StableDiffusionXLControlNetUnionInpaintPipeline",
        "StableDiffusionXLControlNetUnionPipeline",
    )),
    (Known(NONE, NOISE), (
        "CycleDiffusionPipeline", "IFImg2ImgPipeline", "Kandinsky3Img2ImgPipeline", "StableDiffusionDiffEditPipeline",
        "VideoToVideoSDPipeline",
    )),
    (Known(NONE, MASKED), (
        "IFInpaintingPipeline", "RePaintPipeline", "StableDiffusionGLIGENPipeline", "StableDiffusionInpaintPipelineLegacy",
    )),
    (Known(NONE, CHANNELS), (
        "IFImg2ImgSuperResolutionPipeline", "IFInpaintingSuperResolutionPipeline", "IFSuperResolutionPipeline",
        "LDMSuperResolutionPipeline", "MarigoldDepthPipeline", "MarigoldIntrinsicsPipeline", "MarigoldNormalsPipeline",
        "StableDiffusionDepth2ImgPipeline", "StableDiffusionLatentUpscalePipeline", "StableDiffusionUpscalePipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    )),
    (Known(NONE, RESIDUALS), (
        "StableDiffusionAdapterPipeline", "StableDiffusionControlNetXSPipeline", "StableDiffusionXLControlNetXSPipeline",
    )),
    (Known(NONE, LABEL), ("StableUnCLIPImg2ImgPipeline",)),
    (Known(NONE, "it makes an embedding, not a picture"), ("KandinskyV22PriorEmb2EmbPipeline",)),
    (Known(REFUSED, "its UNet is called for one view of the panorama after another, and no call sees the whole picture"), (
        "StableDiffusionPanoramaPipeline",
    )),
    (Known(REFUSED, "its batch has a block for each edit, so that an adapter's image is in several of them; pass guidance= and "
                    'reference="adapter"'), ("LEditsPPPipelineStableDiffusionXL",)),
    (Known(REFUSED, "each layer's keys are 10 tokens of image_embeds, the text, and the layer's own pixels: a rule names the first 10, or "
                    "call its two pipelines yourself and trace the second"), (
        "KandinskyCombinedPipeline", "KandinskyImg2ImgCombinedPipeline", "KandinskyInpaintCombinedPipeline",
    )),
    (Known(REFUSED, "the tokens of its reference image stand inside the prompt, behind its first two: a rule names those keys"), (
        "BlipDiffusionControlNetPipeline",
    )),
    (Known(REFUSED, "its denoiser is pipe.image_unet, whose cross-attention reads CLIP's tokens: "
                    'i2am.trace(pipe.image_unet, scheduler=pipe.scheduler, reference="context", guidance="uncond-cond")'), (
        "VersatileDiffusionImageVariationPipeline",
    )),
    (Known(REFUSED, "its denoiser is pipe.image_unet, each block of which has a transformer for the picture's tokens and one for the "
                    "text's: trace that, with a rule"), ("VersatileDiffusionDualGuidedPipeline",)),
    (Known(REFUSED, "its denoiser is pipe.decoder, whose keys are 4 tokens of the picture, the text, and each layer's own pixels: trace "
                    "that, with scheduler=pipe.decoder_scheduler and a rule"), ("UnCLIPImageVariationPipeline",)),
    (Known(REFUSED, "text, the picture's one token and its latent are one sequence, and what is given is not what is generated: a rule "
                    "knows which by the way it is called"), ("UniDiffuserPipeline",)),
    (Known(REFUSED, "its UNet folds the frames into the batch, so that a call's rows are frames and not videos; its picture is stacked on "
                    "the channels"), ("PIAPipeline",)),
    (Known(REFUSED, "what it denoises is no picture: the latent of a shape"), ("ShapEImg2ImgPipeline",)),
    (Known(REFUSED, "its denoiser is a session of ONNX, and no attention can be seen in it"), (
        "OnnxStableDiffusionImg2ImgPipeline", "OnnxStableDiffusionInpaintPipeline", "OnnxStableDiffusionInpaintPipelineLegacy",
        "OnnxStableDiffusionUpscalePipeline",
    )),
)  # fmt: skip
