"""What a pipeline is made of: its denoiser, its scheduler, and what it declares of its reference."""

from __future__ import annotations

from typing import Any

from torch import nn

from i2am.common.checks import is_grid, refuse, said, whole_number
from i2am.maps.tokens import AnyGrid

DENOISERS = ("unet", "transformer", "unet_vton", "transformer_vton")  # the last two in try-on projects, beside a garment's own
SECOND = "transformer_2"  # takes over from the transformer during a run (Wan 2.2)


def unwrapped(module: Any) -> nn.Module:
    """The module behind torch.compile or a parallel wrapper."""
    while True:
        inner = getattr(module, "_orig_mod", None) or (module.module if isinstance(module, nn.parallel.DistributedDataParallel) else None)
        if inner is None:
            return module
        module = inner


def denoisers_of(pipe: Any) -> list[nn.Module]:
    """The pipeline's UNet or transformer, and the one that takes over from it during a run, if there is one."""
    found = [name for name in DENOISERS if isinstance(getattr(pipe, name, None), nn.Module)]
    found = found or [name for name in ("prior",) if isinstance(getattr(pipe, name, None), nn.Module)]  # Stable Cascade's first stage
    if len(found) == 1:
        second = getattr(pipe, SECOND, None) if found == ["transformer"] else None
        return [unwrapped(module) for module in (getattr(pipe, found[0]), second) if isinstance(module, nn.Module)]
    modules = [name for name, value in parts_of(pipe).items() if isinstance(value, nn.Module)]
    refuse("pipe", "a pipeline with a unet or a transformer, or a denoiser module", type(pipe).__name__ if modules else said(pipe),
           f"Pass the module and scheduler=pipe.scheduler. Its modules: {', '.join(modules) or 'none'}.")  # fmt: skip


def parts_of(pipe: Any) -> dict[str, Any]:
    """What a pipeline is made of, by name."""
    components = getattr(pipe, "components", None)
    return {**(components if isinstance(components, dict) else {}), **getattr(pipe, "__dict__", {})}


def scheduler_of(pipe: Any) -> Any:
    """The pipeline's scheduler: `scheduler`, or under another name the one part that sets timesteps and takes steps."""
    if getattr(pipe, "scheduler", None) is not None:
        return pipe.scheduler
    found = {id(part): (name, part) for name, part in parts_of(pipe).items() if hasattr(part, "set_timesteps") and hasattr(part, "step")}
    if len(found) == 1:
        return next(part for _, part in found.values())
    names = [name for name, _ in found.values()]
    got = f"{len(names)} in {type(pipe).__name__}: {', '.join(names)}" if names else f"none in {type(pipe).__name__}"
    refuse("scheduler", "given or the pipeline's own", got, f"Pass the one that steps, scheduler=pipe.{names[0]}." if names else
           "Pass scheduler=..., or use i2am.Recorder in your own loop.")  # fmt: skip


def placed_reference(pipe: Any, grid: AnyGrid | None, special: int) -> tuple[AnyGrid | None, int]:
    """The reference's grid and leading tokens without a place: what the user said, else what the pipeline declares."""
    if grid is not None and not is_grid(grid):
        refuse(
            "reference_grid", "(height, width) in tokens, of a video (frames, height, width)", said(grid), "Special tokens do not count."
        )
    whole_number("special", special, 0, "It is the number of leading tokens without a place; a CLS token counts 1.")
    declared = getattr(pipe, "reference_tokens", (None, 0)) if grid is None else (grid, special)
    return declared[0], special or declared[1]
