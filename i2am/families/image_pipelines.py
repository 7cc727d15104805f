"""What is known of pipelines whose picture stands beside what is generated, inside the prompt, or among an image model's own tokens."""

from __future__ import annotations

from i2am.families.known import WORKS, Known

ENCODER = "; the prompt's encoder sees it too"
IMAGES: dict[str, Known] = {
    "DreamLitePipeline": Known(WORKS, "to the right of what is generated, in one latent" + ENCODER),
    "DreamLiteMobilePipeline": Known(WORKS, "to the right of what is generated, in one latent" + ENCODER),
    "OmniGenPipeline": Known(WORKS, "inside the prompt, where it names them; rows of a batch need them at the same places"),
    "GlmImagePipeline": Known(WORKS, "its keys, kept since before the first step, stand in front of every layer's; the prior sees it too"),
    "KandinskyPipeline": Known(WORKS, "image_embeds are the first keys of every layer, then the text"),
    "KandinskyImg2ImgPipeline": Known(WORKS, "image_embeds are the first keys of every layer, then the text; image is noised"),
    "KandinskyInpaintPipeline": Known(WORKS, "image_embeds are the first keys of every layer, then the text; image enters by channels"),
    "BlipDiffusionPipeline": Known(WORKS, "the subject's tokens stand inside the prompt; behind them the words have seen it too"),
    "StableDiffusionGLIGENTextImagePipeline": Known(WORKS, "a token for each box, among the keys of *.fuser.attn, while its fuser is on"),
    "StableCascadePriorPipeline": Known(
        WORKS, "the last keys of every layer, some for each image; what is generated is the decoder's latent"
    ),
}
