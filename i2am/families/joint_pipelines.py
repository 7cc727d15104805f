"""What is known of pipelines whose text, references and generated picture share one attention: how each one's pictures enter."""

from __future__ import annotations

from i2am.families.known import ADAPTER, NONE, REFUSED, WORKS, Known
from i2am.families.unet_pipelines import NOISE, ONLY

IN_ORDER = "each picture's tokens stand behind what is generated"
CLOZE = ("the pictures of a row lie side by side in one grid, so that neither what is generated nor one of the others is a stretch of "
         "tokens; a rule can take whole rows, which img_ids number from 1, and the last of which is generated")  # fmt: skip
QWEN = "behind what is generated, in the joint attention of every layer; the text's encoder sees it too, among the words"
CHANNELS = "its picture is stacked on the channels and seen by the text encoder, and has no tokens of its own"
JOINT: dict[str, Known] = {
    "VisualClozeGenerationPipeline": Known(REFUSED, CLOZE),
    "VisualClozePipeline": Known(REFUSED, f"{CLOZE}. It runs two models: trace its generation_pipe"),
    "FluxKontextPipeline": Known(WORKS, "the picture's tokens stand behind what is generated"),
    "FluxKontextInpaintPipeline": Known(WORKS, "image_reference's tokens, or else image's, stand behind what is generated"),
    "Flux2Pipeline": Known(WORKS, IN_ORDER),
    "Flux2KleinPipeline": Known(WORKS, IN_ORDER),
    "Flux2KleinInpaintPipeline": Known(WORKS, "the tokens of image and, behind them, of image_reference stand behind what is generated"),
    "Flux2KleinKVPipeline": Known(WORKS, "each picture's tokens stand in front of what is generated; after the first step, their keys do"),
    "LongCatImageEditPipeline": Known(WORKS, "the picture's tokens stand behind what is generated; the text encoder sees it too"),
    "BriaFiboEditPipeline": Known(WORKS, IN_ORDER),
    "BriaFibo2Pipeline": Known(WORKS, f"{IN_ORDER}; the text encoder sees them too. text_images it sees alone"),
    "ChromaPipeline": Known(ADAPTER, ONLY),
    "ChromaImg2ImgPipeline": Known(ADAPTER, NOISE),
    "ChromaInpaintPipeline": Known(ADAPTER, NOISE),
    "QwenImageEditPipeline": Known(WORKS, QWEN),
    "QwenImageEditInpaintPipeline": Known(WORKS, QWEN),
    "QwenImageEditPlusPipeline": Known(WORKS, QWEN),
    "QwenImageLayeredPipeline": Known(WORKS, QWEN + "; the whole picture and its layers are frames"),
    "QwenImage21Pipeline": Known(WORKS, "among the text, in front of what is generated; with use_kv_cache=False"),
    "ZImageOmniPipeline": Known(WORKS, "its latents stand in front of what is generated, its SigLIP features behind it: two references"),
    "Kandinsky5I2IPipeline": Known(
        NONE, "its picture is stacked on the channels and seen by the text encoder: it has no tokens of its own"
    ),
    "JoyImageEditPipeline": Known(WORKS, "between what is generated and the text; the text encoder sees it too, among the words"),
    "JoyImageEditPlusPipeline": Known(WORKS, "between what is generated and the text; the text encoder sees them too, among the words"),
}
