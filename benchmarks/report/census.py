"""Every pipeline of the installed diffusers that takes a picture, and what becomes of it: `python -m benchmarks.report.census`.

Writes docs/models/census.md. The pipelines are read from diffusers' files, so that none is missed for a package that is not installed;
what is said of them is `i2am.families.pipelines.KNOWN`.
"""

from __future__ import annotations

import ast
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report.tables import ROOT
from i2am.families.pipelines import ADAPTER, KNOWN, NONE, PICTURES, REFUSED, VERDICTS, WORKS

PAGE = ROOT / "docs" / "models" / "census.md"
HEADINGS = {
    WORKS: "Attention sees the reference, and a rule knows where: write what the last column says.",
    ADAPTER: "Attention sees the image of an IP-Adapter that is loaded. What else is taken has no tokens of its own.",
    NONE: "No token is the picture's own, so there is nothing to attribute to: `trace(pipe)` says so. Word maps need no picture: "
    "`trace(pipe, words=True)` where the prompt's tokens are known.",
    REFUSED: "Attention sees the picture, or may, and no rule knows where: `trace(pipe)` refuses these by name. "
    "`i2am.explain(pipe, ...)` shows what a [rule](adding.md) needs.",
}


def pipelines() -> dict[str, list[str]]:
    """Each pipeline's class in diffusers' files, with the parameters of its call."""
    spec = find_spec("diffusers")
    assert spec is not None
    assert spec.origin is not None
    found = {}
    for file in sorted((Path(spec.origin).parent / "pipelines").rglob("*.py")):
        for cls in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(cls, ast.ClassDef) and "Pipeline" in cls.name:
                calls = [part for part in cls.body if isinstance(part, ast.FunctionDef) and part.name == "__call__"]
                if calls:
                    taken = calls[0].args
                    found[cls.name] = [one.arg for one in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
    return found


def pictures(parameters: list[str]) -> list[str]:
    return [name for name in parameters if name in PICTURES]


def page() -> str:
    """The page that the data makes."""
    found = pipelines()
    taking = sum(bool(pictures(parameters)) for parameters in found.values())
    counts = {kind: sum(known.kind == kind for known in KNOWN.values()) for kind in VERDICTS}
    lines = [
        "# Every pipeline that takes a picture",
        "",
        f"diffusers {version('diffusers')} has {len(found)} pipelines; {taking} take a picture or a video in their call, and a few more "
        "what a prior made of one. This is what becomes of each; `i2am families --pipeline NAME` prints a line of it. The page is written "
        "by `python -m benchmarks.report.census` from what the tracer itself goes by.",
        "",
        "| | pipelines |", "|---|---|",
        *(f"| [{verdict}](#{anchor(verdict)}) | {counts[kind]} |" for kind, verdict in VERDICTS.items()),
    ]  # fmt: skip
    for kind, verdict in VERDICTS.items():
        lines += ["", f"## {verdict[0].upper()}{verdict[1:]}", "", HEADINGS[kind], ""]
        with_line = kind in (WORKS, ADAPTER)
        lines += ["| pipeline | its pictures | how they enter |" + " write |" * with_line, "|---|---|---|" + "---|" * with_line]
        for name in sorted(name for name, known in KNOWN.items() if known.kind == kind):
            known = KNOWN[name]
            taken = ", ".join(f"`{one}`" for one in pictures(found.get(name, []))) or "none in its call"
            write = f" `{known.write.replace('|', chr(92) + '|')}` |" * with_line
            lines.append(f"| {name} | {taken} | {known.how} |{write}")
    return "\n".join(lines) + "\n"


def anchor(verdict: str) -> str:
    return verdict.lower().replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(KNOWN)} pipelines")
