"""Compiled models run uncompiled while somebody has to see inside of them: several may, and end in any order."""

from __future__ import annotations

import sys
from typing import Any

import torch


class Eager:
    """torch's stance, changed for the first who wants it and given back after the last."""

    def __init__(self) -> None:
        self.wanted = 0
        self.stance: Any = None

    def begin(self) -> None:
        self.wanted += 1
        if self.stance is None and "torch._dynamo" in sys.modules:
            self.stance = torch.compiler.set_stance("force_eager")

    def end(self) -> None:
        self.wanted -= 1
        if not self.wanted and self.stance is not None:
            self.stance.__exit__(None, None, None)
            self.stance = None


eager = Eager()
