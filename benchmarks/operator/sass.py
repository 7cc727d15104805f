"""A kernel's machine code taken apart with the tools that come with Triton: what it needs of a multiprocessor, and its loops."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import triton


def tool(name: str) -> str:
    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name)


def taken_apart(binary: bytes) -> tuple[dict[str, int], list[str]]:
    """Registers, stack and local bytes, and the instructions in order (labels end with a colon)."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage = subprocess.run([tool("cuobjdump"), "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
        code = subprocess.run([tool("nvdisasm"), "-c", "-ndf", file.name], capture_output=True, text=True, check=True).stdout
    resources = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    lines = (re.sub(r"/\*.*?\*/", "", line).strip() for line in code.splitlines())
    return resources, [line for line in lines if line.endswith(";") or re.fullmatch(r"\.L\w+:", line)]


def loops(code: list[str]) -> Iterator[list[str]]:
    """The bodies of the loops: from a label to the branch back to it. Behind the last exit wait those who are let in later: no loops."""
    labels = {line[:-1]: index for index, line in enumerate(code) if line.endswith(":")}
    last = max((index for index, line in enumerate(code) if not line.endswith(":") and mnemonic(line) == "EXIT"), default=len(code))
    for index, line in enumerate(code[:last]):
        target = re.search(r"\bBRA\S*\s.*?`?\(?(\.L\w+)\)?", line)
        if target and labels.get(target.group(1), index) < index:
            yield [entry for entry in code[labels[target.group(1)] : index + 1] if not entry.endswith(":")]


def main_loop(bodies: list[list[str]], sweep: str) -> list[str]:
    """The loop over all scores. The guard's is another one with products, and keeps a maximum, as the forward sweep's only one does.

    The one tile writes the output in its loop, and its guard writes nothing. The queries' second visit makes the words alone, and is the
    shorter.
    """
    counted = lambda body, name: sum(name in mnemonic(line) for line in body)  # noqa: E731
    if sweep == "one_tile_sweep":
        return max((body for body in bodies if counted(body, "STG")), key=lambda body: counted(body, "EX2"))
    if sweep == "queries_sweep":
        return max(bodies, key=len)
    return min(bodies, key=lambda body: (counted(body, "FMNMX"), counted(body, "EX2")))


def mnemonic(line: str) -> str:
    return re.sub(r"^@!?\w+\s+", "", line.lstrip("{ ")).split()[0].rstrip(";")
