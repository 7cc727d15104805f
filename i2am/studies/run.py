"""A list of prompts painted with word maps: who paints what, what is done already, and what goes wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from i2am.common.checks import refuse, said
from i2am.common.outputs import write_whole
from i2am.data.prompts import Asked, check, numbered, read_prompts
from i2am.evaluation import batches, processes, shards
from i2am.evaluation.options import FILE, fingerprint, results_folder, write_options
from i2am.models.folder import pipeline_of
from i2am.studies import refused
from i2am.studies.calls import Calls, size_of
from i2am.studies.options import Options
from i2am.studies.painted import Painted, files
from i2am.studies.painter import Around, Painter, Seen

LINE = {"id": str, "seed": int}
AGAIN = "its prompt is painted again"
LEFT_OUT = "left-out.json"


def paint(
    prompts: str | Path | Sequence[Asked] | Sequence[str],
    model: Any,
    *,
    out: str | Path,
    options: Options = Options(),
    batch_size: int | str = "auto",
    words: refused.Words = None,
    keep_going: bool = False,
    cpu: bool = False,
    together: bool = False,
    around: Around | None = None,
    about: Mapping[str, Any] | None = None,
    seen: Seen | None = None,
) -> list[Painted]:
    """Paint every prompt of a list with its word maps; returns the pictures in the list's order. Started again with the same `out`, it
    goes on. Under accelerate launch or torchrun every process paints a part, and all return the same.

    prompts: a file that `read_prompts` reads, or what it returns, or texts. model: see `i2am.models.folder.pipeline_of`.
    batch_size: "auto" or a number. words: that every prompt, or the prompt of an id, must have. keep_going: prompts that cannot be painted
    are named, counted and left out (`left_out` reads them); else they stop the run before it starts.
    together: prompts of one `group` are painted in one call. around: a function of the pipeline whose context each call runs in. about:
    what else the pictures depend on, for who starts again with the same folder. seen: gets the first prompt and its picture's size before
    anything is written, and may refuse them.
    """
    state, ours = processes.started(cpu)
    batches.check_batch_size(batch_size)
    if state.is_main_process:
        results_folder(out, "study")
    out, everything = Path(out), as_asked(prompts)
    asked = everything[: options.limit]
    calls = Calls(pipeline_of(model, options.dtype), options)
    wrong = refused.problems(asked, calls, words, progress=state.is_main_process)
    if not keep_going:
        refused.refuse_all(asked, wrong)
    processes.move_pipeline(calls.pipe, state.device)
    options_now = described(options, calls, model, everything, {**(about or {}), "together": together})
    with processes.in_plain_words(out), contextlib.ExitStack() as stack:
        processes.quiet(calls.pipe, stack)
        painter = Painter(calls, asked, out, state.device, keep_going, tqdm.write, around or contextlib.nullcontext, whole=together)
        good = [i for i in range(len(asked)) if i not in wrong]
        if new := not (out / FILE).is_file() and bool(good):
            painter.look_first(asked[good[0]], seen)  # what is refused leaves no folder that holds others to its options
        with state.main_process_first():
            write_options(out, options_now)
            for path in files(out, asked[0]).values():
                path.parent.mkdir(exist_ok=True)
        shard = shards.Shard(out / "shards", state.process_index)
        stack.callback(shard.close)
        done = done_already(shards.read(out / "shards", LINE, AGAIN), asked, out)
        processes.gathered([], state)  # nobody writes before all have read
        if state.is_main_process:
            if wrong:
                tqdm.write(f"i2am: left out:\n{refused.in_words(asked, wrong)}")
            if why := calls.why_alone([asked[i] for i in good]):
                tqdm.write(f"i2am: {why}: prompts are painted one at a time.")
        if left := [i for i in good if i not in done or "failed" in done[i]]:
            if not new:
                painter.look_first(asked[good[0]], seen)
            size = processes.agreed_size(batch_size, out, lambda n: painter.peak(n, alike(asked, calls, left)), state)
            todo = shards.todo(chunks([kind(asked[i], i, calls, together) for i in good], good, None if together else size), done)
            run(painter, todo, shard, done, state)
        state.wait_for_everyone()
        rows = shards.read(out / "shards", LINE, AGAIN)
        lost = {asked[i].id: why for i, why in wrong.items()}
        lost |= {asked[i].id: row["failed"] for i, row in sorted(rows.items()) if i < len(asked) and "failed" in row}
        if state.is_main_process:
            write_whole(out / LEFT_OUT, lambda part: part.write_text(json.dumps(lost, indent=1, ensure_ascii=False) + "\n", "utf-8"))
        state.wait_for_everyone()
    processes.ended(state, ours)
    return [painted(asked[i], out, rows[i]) for i in good if "failed" not in rows[i]]


def is_first() -> bool:
    """Whether this process is the one that writes what is written once."""
    return os.environ.get("RANK", "0") == "0"


def left_out(out: str | Path) -> dict[str, str]:
    """The prompts of a run that were not painted, by id, and why."""
    return json.loads((Path(out) / LEFT_OUT).read_text(encoding="utf-8"))


def as_asked(prompts: Any) -> list[Asked]:
    """The list, each id once."""
    if isinstance(prompts, (str, Path)):
        return read_prompts(prompts)
    if not isinstance(prompts, Sequence) or not prompts or len({isinstance(one, str) for one in prompts}) > 1:
        refuse("prompts", "a file, or a list of texts or of Asked", said(prompts), "i2am.data.prompts.read_prompts reads one.")
    found = numbered(prompts) if isinstance(prompts[0], str) else list(prompts)
    if not all(isinstance(one, Asked) for one in found):
        refuse("prompts", "a list of texts or of Asked", said(prompts), "i2am.data.prompts.read_prompts reads a file of them.")
    check(found)
    return found


def run(painter: Painter, left: list, shard: shards.Shard, done: dict[int, shards.Row], state: Any) -> None:
    """Paint this process's chunks."""

    def rows(mine: Sequence[Sequence[int]]) -> Iterator[list[shards.Row]]:
        for chunk in mine:
            yield painter.rows(chunk)

    processes.record(rows, left, shard, done, state, "painting")


def kind(one: Asked, place: int, calls: Calls, together: bool) -> Hashable:
    """What prompts of one call have in common."""
    if not calls.together(one):
        if together and one.group:
            refuse("a pipeline for prompts that are painted together", "one that takes several at a time", type(calls.pipe).__name__,
                   f"{calls.why_alone([one])}.")  # fmt: skip
        return place
    if together:
        return one.group or place
    return None if one.image is None else size_of(one)


def chunks(kinds: Sequence[Hashable], places: Sequence[int], size: int | None) -> list[list[int]]:
    """The places of each kind, in order, cut at multiples of size."""
    found: dict[Hashable, list[int]] = {}
    for one, place in zip(kinds, places):
        found.setdefault(one, []).append(place)
    return [some[first : first + (size or len(some))] for some in found.values() for first in range(0, len(some), size or len(some))]


def alike(asked: Sequence[Asked], calls: Calls, left: Sequence[int]) -> list[Asked]:
    """Prompts to try a batch with: those that go with the first one."""
    first = kind(asked[left[0]], left[0], calls, False)
    return [asked[i] for i in left[: batches.LARGEST] if kind(asked[i], i, calls, False) == first]


def described(options: Options, calls: Calls, model: Any, everything: Sequence[Asked], more: Mapping[str, Any]) -> dict[str, Any]:
    """The options as JSON, with fingerprints of the model and of the list."""
    listing = hashlib.sha256()
    for one in everything:
        picture = None if one.image is None else contents(one.image)
        listing.update(f"{one.id}\t{one.prompt}\t{one.seed}\t{picture}\t{one.group}\n".encode())
    found = {name: value for name, value in asdict(options).items() if name != "limit"}  # more of the same prompts may follow
    name = str(model) if isinstance(model, (str, Path)) else type(model).__name__
    about = {"model": name, "weights": fingerprint(calls.pipe), "prompts": len(everything), "list": listing.hexdigest()[:16]}
    try:
        return json.loads(json.dumps({**found, **more, **about}, allow_nan=False))
    except (TypeError, ValueError):
        refuse("arguments", "numbers, texts and truth values", said(dict(options.arguments)), "What a run was made with is written down.")


def contents(picture: Path) -> str | None:
    """A hash of a picture to begin from, wherever it lies; none where it cannot be read."""
    try:
        return hashlib.sha256(picture.read_bytes()).hexdigest()
    except OSError:
        return None


def done_already(rows: Mapping[int, shards.Row], asked: Sequence[Asked], out: Path) -> dict[int, shards.Row]:
    """The lines of prompts that are asked for and whose files are there; what somebody deleted is painted again."""
    found = {i: row for i, row in rows.items() if i < len(asked)}
    for i, row in found.items():
        for name, own in (("id", asked[i].id), ("prompt", asked[i].prompt)):
            if row.get(name, own) != own:
                refuse(f"the lines in {out / 'shards'}", f"of this list, whose prompt {i} has the {name} {own!r}", repr(row[name]),
                       "Give the list that was painted, or choose another folder.")  # fmt: skip
    kept = ("image", "maps", "reference")
    return {i: row for i, row in found.items()
            if "failed" in row or all(files(out, asked[i])[name].is_file() for name in kept[: 3 if row.get("beside") else 2])}  # fmt: skip


def painted(one: Asked, out: Path, row: shards.Row) -> Painted:
    where = files(out, one)
    reference = where["reference"] if where["reference"].is_file() else None
    return Painted(one, where["image"], where["maps"], int(row["seed"]), reference)
