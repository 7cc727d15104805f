"""`i2am demo`: see it work."""

from __future__ import annotations

import argparse
from typing import Any

from i2am.cli.open_page import add_open, opens
from i2am.cli.parsers import command


def add_demo(commands: Any) -> None:
    parser = command(commands, "demo", demo, help="see it work: the embedded model, its maps and a page",
                     about="Paint held-out try-on pairs with the embedded model, and write pictures, maps, scores and a page.",
                     stopped="What {out} may hold is not whole. The same command begins anew.",
                     examples=["", "--out other --count 3 --steps 20"])  # fmt: skip
    parser.add_argument("--out", default="demo", metavar="FOLDER", help="a new folder, or an earlier demo's (default: demo)")
    parser.add_argument("--count", type=int, default=8, help="pictures (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs and the noise (default: 0)")
    parser.add_argument("--steps", type=int, default=10, help="of the sampler (default: 10)")
    parser.add_argument("--model", metavar="FOLDER", help="another small model, such as a checkpoint (default: the shipped one)")
    add_open(parser)


def demo(parsed: argparse.Namespace) -> None:
    from i2am.cli.demo_pictures import demo
    from i2am.cli.quiet_libraries import quiet

    with quiet():
        demo(parsed.out, count=parsed.count, seed=parsed.seed, steps=parsed.steps, model=parsed.model, open_browser=opens(parsed))
