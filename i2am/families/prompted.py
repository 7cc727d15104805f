"""Text-to-image transformers whose prompt and picture are one sequence."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.crossing import patched
from i2am.families.family import Block, Family, Found, cells, generated, length_of, sequence, text
from i2am.maps.tokens import Seen


def text_first(seen: Seen) -> Found:
    """[text, generated] (CogView3 and 4), behind tokens of the model's own (AuraFlow's registers)."""
    if seen.index:
        return None
    made, length = generated(patched(seen)), length_of(seen)
    own = getattr(seen.denoiser, "register_tokens", None)
    registers = own.shape[1] if isinstance(own, Tensor) else 0
    return sequence(seen, [Block("register", registers), text(length), made])


def prx(seen: Seen) -> Found:
    """Keys [text, generated], queries [generated]."""
    made = generated(patched(seen))
    return None if seen.index else sequence(seen, [text(length_of(seen)), made], [made])


def behind_negative(pipe: Any, ids: Tensor, length: int) -> Tensor | None:
    """PRX: one call of the encoder reads the negative prompts and, behind them, the prompts."""
    rows = ids[len(ids) // 2 :] if pipe.do_classifier_free_guidance else ids
    return rows if rows.shape[1] == length else None


def nucleus(seen: Seen) -> Found:
    """Keys [generated, text], queries [generated]; `img_shapes` has the (frames, height, width) in tokens."""
    shapes = seen.inputs.get("img_shapes")
    if seen.index or not shapes:
        return None
    first = shapes[0] if isinstance(shapes[0], (list, tuple)) else shapes
    _, height, width = first[0] if isinstance(first[0], (list, tuple)) else first
    made = generated((int(height), int(width)))
    return sequence(seen, [made, text(length_of(seen))], [made])


def hunyuan_image(seen: Seen) -> Found:
    """[generated, text]; where letters are to be drawn, the tokens of both encoders that count come first."""
    made, length = generated(patched(seen)), length_of(seen)
    if getattr(seen.denoiser, "context_embedder_2", None) is not None:
        length += length_of(seen, "encoder_hidden_states_2")
    return None if seen.index else sequence(seen, [made, text(length)])


def hidream(seen: Seen) -> Found:
    """[generated, T5's text, Llama's last, Llama's of the layer]: other pictures than square ones are padded to `max_seq`."""
    if seen.index:
        return None
    grid, square = patched(seen), latent_is_square(seen)
    padding = 0 if square else seen.denoiser.max_seq - cells(grid)
    length = length_of(seen, "encoder_hidden_states_t5")
    llama = seen.inputs.get("encoder_hidden_states_llama3")
    if isinstance(llama, Tensor):  # [layers, batch, tokens, width]
        length += 2 * llama.shape[2]
    return sequence(seen, [generated(grid), Block("padding", padding), text(length)])


def latent_is_square(seen: Seen) -> bool:
    """Whether the denoiser was called with a square latent."""
    states = seen.inputs["hidden_states"]
    return states.shape[-1] == states.shape[-2]


def lumina2(seen: Seen) -> Found:
    """[text, generated]; a prompt's padding is cut off, so each row has its own length, and rows of one call must agree."""
    mask = seen.inputs.get("encoder_attention_mask")
    if seen.index or not isinstance(mask, Tensor):
        return None
    lengths = sorted({int(count) for count in mask.sum(1).tolist()})
    if len(lengths) > 1:
        refuse(f"the prompts of {seen.layer}", "of one length, as the picture begins behind each one's last token", f"{lengths} tokens",
               "Generate prompts of different lengths one by one.")  # fmt: skip
    return sequence(seen, [text(lengths[0]), generated(patched(seen))])


def joined(name: str, module: Any) -> bool:
    """Refiners look at the prompt, or at the picture, alone."""
    return "refiner" not in name and "context_embedder" not in name


FAMILIES = (
    Family("AuraFlow", ("AuraFlowTransformer2DModel",), text_first, "registers, text, generated"),
    Family("CogView", ("CogView3PlusTransformer2DModel", "CogView4Transformer2DModel"), text_first, "text, generated"),
    Family("PRX", ("PRXTransformer2DModel",), prx, "text, generated", written=behind_negative),
    Family("Nucleus", ("NucleusMoEImageTransformer2DModel",), nucleus, "generated, text"),
    Family("HunyuanImage", ("HunyuanImageTransformer2DModel",), hunyuan_image, "generated, text", joined),
    Family("HiDream", ("HiDreamImageTransformer2DModel",), hidream, "generated, text"),
    Family("Lumina 2", ("Lumina2Transformer2DModel",), lumina2, "text, generated", joined),
)
