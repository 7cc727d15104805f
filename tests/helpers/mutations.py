"""Faults to plant in a copy of the package, one replacement each, and the few checks that must notice them.

As a script it prints one JSON line per fault: what the checks said, empty where they passed. Each fault is tried in a forked
child, so that torch is imported once; the package is only ever imported by the children.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "i2am_kernels"


class Fault(NamedTuple):
    name: str
    backend: str
    file: str
    right: str  # stands in the file exactly once
    wrong: str


def narrow(forward: str) -> str:
    """L over the keys of the reference alone."""
    inside = "[:, :, slice(*call.reference)]"
    fields = f"key=call.key{inside}, value=call.value{inside}, mask=None, reference=(0, call.canvas[3])"
    return f"out, lse = {forward}(call)[0], {forward}(__import__('dataclasses').replace(call, {fields}))[1]"


NONE = [Fault("", backend, "op.py", "", "") for backend in ("streaming", "triton", "onchip")]
MEMBERS = "heads = slice(member * call.key.shape[1], (member + 1) * call.key.shape[1])"  # the keys of h % Hk
SWAP = "call.r2g, call.g2r,", "call.g2r[:, :, 0], call.r2g[:, :, None],"
S, K, Q, T = "streaming.py", "sweeps/keys.py", "sweeps/queries.py", "triton_backend.py"
PRODUCT = "product(keys, shifted, scratch)"
STREAMING = [
    Fault("drop the last key", "streaming", S, PRODUCT, f"{PRODUCT}.index_fill_(1, torch.tensor([-1]), -1e9)"),
    Fault("forget the scale", "streaming", S, "key * (call.scale * LOG2E)", "key * LOG2E"),
    Fault("skip the tail block", "streaming", S, PRODUCT, f"{PRODUCT} - 1e9 * (start + block >= reference)"),
    Fault("ignore rows", "streaming", S, "slice(*self.call.rows)\n        key,", "slice(0, self.call.canvas[0])\n        key,"),
    Fault("ignore the mask", "streaming", S, "torch.float32, LOG2E)", "torch.float32, LOG2E).zero_()"),
    Fault("leave out the column sums", "streaming", S, "share = sums / total", "share = sums * total.sign()"),
    Fault("trust a faint column", "streaming", S, "not self.trusted or self.lost(total):", "not self.trusted:"),
    Fault("forget what the exact columns weigh", "streaming", S, "torch.bmm(self.column_weight, tile.mT)", "tile.mT.sum(1, keepdim=True)"),
    Fault("read L off a lost key", "streaming", S, "least < FAR:", "least < -math.inf:"),
    Fault("overwrite G2R", "streaming", S, "part.of(call.g2r).add_(totals", "part.of(call.g2r).copy_(totals"),
    Fault("swap the maps", "streaming", "op.py", *SWAP),
    Fault("1/R instead of 1/G", "streaming", "call.py", "1.0 / generated, dtype", "1.0 / self.canvas[3], dtype"),
    Fault("normalise over the reference only", "streaming", S, "out, lse = forward(call)", narrow("forward")),
    Fault("cut the groups the other way", "streaming", "groups.py", "heads = slice(member, None, group)", MEMBERS),
]  # fmt: skip
START = "key = start_of(key, key_strides, b, h // GROUP, {}, UNIT)"
OTHER = "key = start_of(key, key_strides, b, h % (heads // GROUP), {}, UNIT)"
WALK = "range(0, {}, BLOCK_R):\n        here".format
TRITON = [
    Fault("swap the maps", "triton", "op.py", *SWAP),
    Fault("drop the last key", "triton", Q, "keys, mask=keys < keys_left, other=float", "keys, mask=keys < keys_left - 1, other=float"),
    Fault("forget the scale", "triton", Q, "biased(tile * scale,", "biased(tile * 1.4426950408889634,"),
    Fault("skip the tail tile", "triton", Q, WALK("reference"), WALK("reference - BLOCK_R + 1")),
    Fault("ignore rows", "triton", "arguments.py", "rows = slice(*call.rows)\n", "rows = slice(0, call.canvas[0])\n"),
    Fault("ignore the mask", "triton", "sweeps/pieces.py", "    if MASK_KIND > 0:", "    if MASK_KIND > 9:"),
    Fault("trust a faint column", "triton", K, "if tl.max(faint.to(tl.int32), 0) > 0:", "if tl.max(faint.to(tl.int32), 0) > 1:"),
    Fault("weigh P instead of C", "triton", K, "column_sums = weighed(raised,", "column_sums = weighed(tile,"),
    Fault("forget the exact columns' weights", "triton", K, "sums = weighed(tile, weight, rest,", "sums = weighed(tile, weight * 0, rest,"),
    Fault("add shares of columns as they are", "triton", K, "tl.sum(parts * means, 0)", "tl.sum(means, 0)"),
    Fault("trust words that are lost", "triton", Q, "if tl.min(norm, 0) - top < FAR:", "if tl.min(norm, 0) - top < -1.0e9:"),
    Fault("forget what C has over P", "triton", Q, "columnwise * factor[None, :]", "columnwise"),
    Fault("overwrite the buffers", "triton", K, "values += tl.load(pointers, mask=inside, other=0.0)", "values += 0.0"),
    Fault("1/R instead of 1/G", "triton", T, "LOG2E, 1.0 / generated,", "LOG2E, 1.0 / reference,"),
    Fault("1/R instead of 1/G in one tile", "triton", T, "LOG2E, 1.0 / canvas,", "LOG2E, 1.0 / tokens,"),
    Fault("take a library's nats for binary orders", "triton", "forward.py", "call.generated)], LOG2E", "call.generated)], 1.0"),
    Fault("keep old column sums as they are", "triton", "sweeps/one_tile.py", "column_sums * tl.exp2(top - new)[:, None]", "column_sums"),
    Fault("normalise over the reference only", "triton", T, "out, lse = launch_forward(call)", narrow("launch_forward")),
    Fault("take a group's other key head for columns", "triton", K, START.format("first"), OTHER.format("first")),
    Fault("take a group's other key head for rows", "triton", Q, START.format("0"), OTHER.format("0")),
]  # fmt: skip
V = "sweeps/onchip.py"
ONCHIP = [
    Fault("forget the scale", "onchip", V, "deps=[products[t]]) * scale", "deps=[products[t]])"),
    Fault("ignore the mask", "onchip", V, "scores += bias[None, :]", "scores += 0.0"),
    Fault("trust a faint column", "onchip", V, "gl.min(least, 0) < UNDERFLOW", "gl.min(least, 0) < 0.0"),
    Fault("add a faint column twice", "onchip", V, "gl.where(faint, 0.0, found)", "found"),
    Fault("overwrite G2R", "onchip", V, "gl.load(target, mask=inside, other=0.0) + ours", "ours"),
    Fault("overwrite R2G", "onchip", V, "values += gl.load(target, mask=there, other=0.0)", "values += 0.0"),
    Fault("leave out half of what a row is below the top", "onchip", V, "by_row) * half * half", "by_row) * half"),
    Fault("forget a column of a thread", "onchip", V, "+ g + h", "+ g"),
    Fault("count the last key again", "onchip", V, "gl.where(inside, even, 0.0)", "gl.where(inside, even, even)"),
    Fault("take a group's other key head", "onchip", V, "(h // GROUP)", "(h % (heads // GROUP))"),
    Fault("leave out what the queries weigh", "onchip", V, "weighed = weighed * weight[:, None]", "weighed = weighed * 1.0"),
    Fault("begin every share at the first key", "onchip", V, "begin = share * length", "begin = 0 * length"),
    Fault("1/R instead of 1/G", "onchip", "onchip.py", "1.0 / generated, 1.0 / reference", "1.0 / reference, 1.0 / reference"),
]  # fmt: skip


def checks(backend: str) -> None:
    """One case for every sort of fault, on each route of the backend, over buffers that already hold something."""
    from dataclasses import replace

    import torch
    from cases import ROUTES, Result, Route, by_hand, compare, cores, make, on_chip, onchip_where_it_can, run

    from i2am_kernels import triton_backend

    ROUTES["triton one program"] = Route("triton", ((triton_backend, "shares_in_waves", lambda *counts: 1),))
    ROUTES["triton onchip, one share"] = Route("triton", (*on_chip(), cores(0)), launch=onchip_where_it_can)
    routes = {"streaming": ["streaming blocks", "streaming"],
              "triton": ["triton own forward", "triton library forward split", "triton", "triton one program"],
              "onchip": ["triton onchip", "triton onchip, one share"]}[backend]  # fmt: skip
    torch.manual_seed(0)
    faint = torch.zeros(5, 40)
    faint[:, 3] = -300
    lone = make(heads=1, tokens=(40, 40), words=2, columns=2)
    lone.query[:, :, 1] *= 100  # one row whose scores lie far apart
    grouped = make(heads=4, tokens=(5, 40))
    grouped = replace(grouped, key=grouped.key[:, :2], value=grouped.value[:, :2], options={"enable_gqa": True})
    rising = make(heads=1, tokens=(40, 40))
    rising.query[:, :, 32:] *= 10  # the second block of queries has the larger scores
    for_one_visit = (  # which makes no column maps, and takes masks of the keys
        make(heads=1, tokens=(70, 40), weighted=True),
        make(heads=1, tokens=(70, 40), attn_mask=faint[:1]),
        make(heads=1, tokens=(70, 40), attn_mask=torch.rand(1, 40) > 0.4),
    )
    for case in (
        *(for_one_visit if backend == "onchip" else ()),
        lone,
        rising,
        make(heads=1, tokens=(5, 70)),
        make(heads=1, tokens=(5, 40), attn_mask=torch.rand(5, 40) > 0.4),
        make(heads=1, tokens=(5, 40), columns=2, attn_mask=faint),
        make(heads=1, tokens=(70, 40), words=2, columns=2),
        make(batch=2, heads=1, tokens=(7, 40), rows=(1, 2), generated=(1, 6), reference=(3, 37)),
        grouped,
    ):
        for route in routes:
            buffers = {name: buffer + 0.5 for name, buffer in case.buffers().items()}
            out, maps = run(case, route, buffers)
            maps = {name: buffer - 0.5 for name, buffer in maps.items()}
            compare(by_hand(case), Result(out, maps), route, more=1e-4)
            if not case.options:  # the truth shares the package's default weights; this sum does not
                close_sum(maps["g2r"].sum(-1))


def close_sum(total) -> None:
    assert (total - 1).abs().max() < 1e-4, f"the weights sum to {total.flatten().tolist()}"


def planted(fault: Fault, folder: Path) -> None:
    """A copy of the package with the fault in it."""
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / PACKAGE.name / fault.file
    text = path.read_text()
    if fault.right:
        assert text.count(fault.right) == 1, f"{fault.file} holds {fault.right!r} {text.count(fault.right)} times"
        path.write_text(text.replace(fault.right, fault.wrong))


def said(fault: Fault) -> str:
    """What the checks say about the fault: empty where they pass."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            planted(fault, Path(folder))
            sys.path.insert(0, folder)
            import i2am_kernels

            assert i2am_kernels.__file__.startswith(folder)
            sys.dont_write_bytecode = True
            checks(fault.backend)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1].name
        return f"{type(error).__name__} in {where}: {error}"
    return ""


def tried(faults: list[Fault]) -> list[str]:
    """The same in child processes, one for each fault, all at once."""
    children = []
    for fault in faults:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, said(fault).encode()[:4000])
            os._exit(0)
        os.close(writer)
        children.append((child, reader))
    messages = []
    for child, reader in children:
        with os.fdopen(reader, "rb") as pipe:
            message = pipe.read().decode(errors="replace")
        messages.append(message if os.waitpid(child, 0)[1] == 0 else f"the child died: {message}")
    return messages


if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "1"
    import interpreting
    import torch
    import torch._dynamo

    interpreting.without_repeats()
    torch.set_num_threads(1)
    faults = NONE + STREAMING + TRITON + ONCHIP
    for some in (faults[start : start + 2] for start in range(0, len(faults), 2)):
        for fault, message in zip(some, tried(some)):
            print(json.dumps([fault.backend, fault.name, message]), flush=True)
