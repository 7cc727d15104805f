"""LDM-style attention (StableVITON, DCI-VTON, the original Paint-by-Example): `to_q, to_k, to_v, to_out, heads` and no processor.

Their forward is replaced on the instance by one that projects, calls the operator and projects back. Calls with arguments it does
not know (further masks, losses) go to the module's own forward and are refused where they should have been recorded.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from i2am.attach.sdpa import Tap

KNOWN = ("hint",)  # passed through every block by StableVITON; its attention modules ignore it


def is_ldm(module: nn.Module) -> bool:
    """The duck type."""
    return all(hasattr(module, name) for name in ("to_q", "to_k", "to_v", "to_out", "heads")) and not hasattr(module, "processor")


def install_ldm(tap: Tap, undo: ExitStack) -> None:
    """Replace the module's forward while the trace is on."""
    module: Any = tap.module
    original = module.forward

    def forward(x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        if context is None or not tap.trace.active:
            return original(x, context, mask, *args, **kwargs)
        unknown = [name for name, value in kwargs.items() if name not in KNOWN and value is not None]
        if args or unknown:
            raise ValueError(
                f"i2am: {tap.name} was called with {unknown or 'further positional arguments'}, which a trace does not know. "
                "Leave the layer out with layers=, or call i2am.Recorder inside its forward."
            )
        query, key, value = (
            project(states).unflatten(-1, (module.heads, -1)).transpose(1, 2)
            for project, states in ((module.to_q, x), (module.to_k, context), (module.to_v, context))
        )
        if mask is not None:
            mask = mask.flatten(1).bool()[:, None, None]  # true = attend, over the keys
        tap.calls, tap.entered = 0, True
        scale = getattr(module, "scale", None)
        out = tap.attend(query, key, value, mask, 0.0, False, None if scale is None else float(scale), False)
        return module.to_out(out.transpose(1, 2).flatten(2))

    module.__dict__["forward"] = forward
    undo.callback(module.__dict__.pop, "forward", None)
