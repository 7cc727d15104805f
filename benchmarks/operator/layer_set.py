"""What one denoising step asks of a model's reference layers: attention alone, with its maps, and the eager two softmaxes.

    python -m benchmarks.operator.layer_set --families stableviton sdxl_ip_257

The layers are those of full-size models, found by running them on the meta device; inputs are random. All layers of a family
run one after another, each adding into buffers of its own; the ways to do it take turns. R2G and G2R are asked for, R2G alone
where the reference is one token. Flux's 57 layers are alike: one is timed, and the row says so and holds 57 times its time.
The numbers of every shape come first; a runner whose numbers are wrong gets no times, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring.command import command, positive, record
from benchmarks.measuring.measure import Run, interleaved, peak_bytes
from benchmarks.measuring.rows import Row, percentiles
from benchmarks.measuring.table import commit, place
from benchmarks.operator import judge
from benchmarks.operator.baselines import Unsupported
from benchmarks.operator.one_call import DTYPES, Runner, baseline, judged, ours
from benchmarks.operator.shapes import Range, Shape, arguments

RUNNERS: dict[str, Runner] = {"sdpa": partial(baseline, "sdpa"), "ours": partial(ours, "auto"), "eager": partial(baseline, "eager")}
EAGER_BYTES = 8e9  # the largest matrices that eager may store on a CPU, which has other work beside
SECONDS = 20.0  # a family; three rounds at least


class Seen(NamedTuple):
    """One attention call of a model."""

    layer: str
    query: torch.Size  # [B, heads, G, D]
    key: torch.Size


def calls(model: Any, *inputs: Any, **options: Any) -> list[Seen]:
    """Every attention call of one forward, whose layer is the module with the projections that ran last."""
    found: list[Seen] = []
    running: list[str] = []
    attention = F.scaled_dot_product_attention

    def seen(query: Tensor, key: Tensor, value: Tensor, *more: Any, **rest: Any) -> Tensor:
        found.append(Seen(running[-1], query.shape, key.shape))
        return attention(query, key, value, *more, **rest)

    for name, module in model.named_modules():
        if hasattr(module, "to_q"):
            module.register_forward_pre_hook(lambda *_, name=name: running.append(name))
    with patch.object(F, "scaled_dot_product_attention", seen):
        model(*inputs, **options)
    return found


def counted(found: Iterable[Seen], canvas: Range | None = None, tokens: Range | None = None) -> Counter[Shape]:
    """How many layers there are of each shape."""
    return Counter(Shape(call.query[2], call.key[2], call.query[3], call.query[1], "", canvas, tokens) for call in found)


def stableviton() -> Counter[Shape]:
    from i2am.models.stableviton.encoders import SpatialEncoder
    from i2am.models.stableviton.unet import stableviton_unet

    sample, token, timestep = torch.empty(1, 13, 64, 48), torch.empty(1, 1, 768), torch.empty(())
    features = SpatialEncoder()(sample, torch.empty(1, 4, 64, 48), timestep, token)
    return counted(call for call in calls(stableviton_unet(), sample, timestep, token, features) if call.layer.endswith("attn2"))


SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048, "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip


def sdxl(tokens: int) -> Counter[Shape]:
    """The adapter's own calls; the text's are beside them, in the same layers."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    unet: Any = UNet2DConditionModel(**SDXL)
    for name, layer in unet.named_modules():
        if name.endswith("attn2"):
            layer.set_processor(IPAdapterAttnProcessor2_0(layer.to_q.out_features, 2048, (tokens,)))
    context = torch.empty(1, 77, 2048), [torch.empty(1, 1, tokens, 2048)]
    added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
    found = calls(unet, torch.empty(1, 4, 128, 128), torch.empty(()), context, added_cond_kwargs=added)
    return counted(call for call in found if call.layer.endswith("attn2") and call.key[2] == tokens)


def kontext() -> Counter[Shape]:
    """512 text tokens, a 64x64 canvas and a 64x64 reference: all are queries, all are keys."""
    from diffusers import FluxTransformer2DModel

    flux: Any = FluxTransformer2DModel(guidance_embeds=True)
    found = calls(
        flux, hidden_states=torch.empty(1, 8192, 64), img_ids=torch.empty(8192, 3),
        encoder_hidden_states=torch.empty(1, 512, 4096), txt_ids=torch.empty(512, 3),
        pooled_projections=torch.empty(1, 768), timestep=torch.empty(1), guidance=torch.empty(1),
    )  # fmt: skip
    return counted(found, (512, 4608), (4608, 8704))


class Family(NamedTuple):
    """A model's reference layers, whether it is guided in one call ([uncond, cond]), and how many layers are timed (None: all)."""

    layers: Callable[[], Counter[Shape]]
    guided: bool
    timed: int | None
    why: str


FAMILIES = {
    "stableviton": Family(stableviton, True, None, "StableVITON at 512x384: 16 UNet cross-attentions to one token, 9 warp blocks"),
    "sdxl_ip_257": Family(partial(sdxl, 257), True, None, "SDXL at 1024x1024 with an IP-Adapter of all CLIP tokens"),
    "sdxl_ip_16": Family(partial(sdxl, 16), True, None, "SDXL at 1024x1024 with IP-Adapter Plus"),
    "flux_kontext": Family(kontext, False, 1, "Flux Kontext at 1024x1024, a reference of the same size; joint attention"),
}


def layers_of(name: str) -> Counter[Shape]:
    with torch.device("meta"):
        return FAMILIES[name].layers()


def small(shape: Shape) -> Shape:
    """A miniature of a layer: lengths over 300 by 16, two heads."""

    def fewer(tokens: int) -> int:
        return tokens // 16 if tokens > 300 else tokens

    canvas, tokens = (None if part is None else (part[0] // 16, part[1] // 16) for part in (shape.canvas, shape.tokens))
    return Shape(fewer(shape.generated), fewer(shape.reference), shape.size, 2, shape.why, canvas, tokens)


def refuse_large(given: dict[str, Any]) -> None:
    query, key = given["query"], given["key"]
    need = 2 * query.shape[:3].numel() * key.shape[2] * query.element_size()
    if query.device.type == "cpu" and need > EAGER_BYTES:
        raise Unsupported(f"eager stores {need / 1e9:.0f} GB of matrices; on a CPU it is run up to {EAGER_BYTES / 1e9:.0f} GB")


def buffers(given: dict[str, Any]) -> dict[str, Any]:
    """The same call with buffers of its own; one token has no G2R map."""
    return {**given, "r2g": torch.zeros_like(given["r2g"]), "g2r": torch.zeros_like(given["g2r"]) if given["key"].shape[2] > 1 else None}


def worst(found: Iterable[dict[str, float]]) -> dict[str, float]:
    """The largest error of each output."""
    largest: dict[str, float] = {}
    for one in found:
        largest |= {name: max(error, largest.get(name, 0.0)) for name, error in one.items()}
    return largest


def run_all(runner: Runner, layers: Sequence[dict[str, Any]]) -> None:
    for given in layers:
        runner(given)


@torch.no_grad()
def measure(
    name: str, layers: Counter[Shape], dtype: torch.dtype, device: torch.device, repeats: int = 5, seconds: float = SECONDS
) -> Iterator[Row]:
    """One row per runner: the numbers of every shape, then memory, then the times of those whose numbers are right."""
    family, total = FAMILIES[name], sum(layers.values())
    batch, rows = (2, "half") if family.guided else (1, "all")
    given = {shape: buffers(arguments(shape, batch, dtype, device, rows)) for shape in layers}
    share = total / (family.timed or total)
    assert share == 1 or len(layers) == 1  # only layers that are alike stand for each other
    step = [given[shape] if i == 0 else buffers(given[shape]) for shape, count in layers.items() for i in range(int(count / share))]
    sums = sum(given["r2g"].nbytes + (0 if given["g2r"] is None else given["g2r"].nbytes) for given in step)
    shapes = [{"layers": count, **{n: v for n, v in shape._asdict().items() if n != "why"}} for shape, count in layers.items()]
    what = {"family": name, "layers": total, "timed_layers": len(step), "shapes": shapes, "batch": batch, "rows": rows,
            "dtype": str(dtype).removeprefix("torch."), "sums_mb": round(sums * share / 1e6, 3)}  # fmt: skip
    checked = {shape: judge.call_of(one) for shape, one in given.items()}
    true = {shape: judge.answer(call, torch.float64) for shape, call in checked.items()}
    limits = {shape: judge.allowed(call, true[shape]) for shape, call in checked.items()}
    done: dict[str, Row] = {}
    runs: dict[str, Run] = {}
    for runner, call in RUNNERS.items():
        row = done[runner] = {**what, "runner": runner}
        try:
            found = []
            for shape, one in given.items():
                if runner == "eager":
                    refuse_large(one)
                allowed = judge.allowed(checked[shape], true[shape], precise=False) if runner == "eager" else limits[shape]
                found.append(judged(runner, partial(call, one), one, true[shape], allowed))
            row["red"] = any(one["red"] for one in found)
            row["error_of"] = worst(one["error_of"] for one in found)
            row["shapes"] = [{**shape, "error_of": one["error_of"], "allowed": one["allowed"]} for shape, one in zip(shapes, found)]
            if not row["red"]:
                runs[runner] = partial(run_all, call, step)
                row["peak_mb"] = round(peak_bytes(runs[runner], device) / 1e6, 3)
        except (Unsupported, torch.OutOfMemoryError) as reason:
            row["skipped"] = str(reason).splitlines()[0]
    for runner, taken in interleaved(runs, repeats, device, seconds).items():
        done[runner] |= {"ms": percentiles([share * ms for ms in taken]), "repeats": len(taken)}
    for row in done.values():
        if "ms" in row and "ms" in done["sdpa"]:
            row["ratio"] = round(row["ms"]["p50"] / done["sdpa"]["ms"]["p50"], 4)
    yield from done.values()


def line(row: Row) -> str:
    """One row for a reader who is waiting."""
    what = f"{row['family']:<12} {row['layers']:>3} layers, {row['timed_layers']} timed  {row['runner']:<6}"
    if "skipped" in row:
        return f"{what} skipped: {row['skipped']}"
    if row["red"]:
        return f"{what} RED {row['error_of']}"
    result = f"{row['ms']['p50']:10.1f} ms {row.get('ratio', 0):6.2f} x {row['peak_mb']:9.1f} MB"
    return f"{what} {result}   error {max(row['error_of'].values()):.0e}"


HEAD = (
    "| layers of one step | SDPA alone, ms | ours with the maps: ms p20 / p50 / p80, x SDPA | eager: x SDPA "
    "| peak MB of a call: SDPA, ours, eager | MB of all sums | largest error, ours |"
)


def summary(rows: list[Row]) -> str:
    """A table per device and versions, a family a line; what was not run says why below it."""
    parts = []
    for where in dict.fromkeys(place(row) for row in rows):
        last = {(row["family"], row["runner"]): row for row in rows if place(row) == where}
        commits = ", ".join(dict.fromkeys(commit(row) for row in last.values()))
        parts.append(f"{where}; one image, random inputs; measured at {commits} with `python -m benchmarks.operator.layer_set`.\n")
        parts.append(HEAD + "\n|" + "---|" * (HEAD.count("|") - 1))
        families = list(dict.fromkeys(family for family, _ in last))
        parts += [cells({runner: last.get((family, runner), {}) for runner in RUNNERS}) for family in families]
        parts.append("")
        parts += [f"- not run: {runner} ({family}): {row['skipped']}" for (family, runner), row in last.items() if "skipped" in row]
    return "\n".join(parts).rstrip()


def cells(of: dict[str, Row]) -> str:
    """One family: the way SDPA, ours and eager did it, as far as there are rows of them."""
    row, ours = next(row for row in of.values() if row), of["ours"]
    sets = ", ".join(f"{s['layers']} of {s['generated']} x {s['reference']} ({s['heads']} x {s['size']})" for s in row["shapes"])
    timed = "" if row["timed_layers"] == row["layers"] else f"; {row['timed_layers']} timed, the time multiplied"
    guided = "guided, maps of the conditional half" if row["rows"] == "half" else "not guided"
    ratio = {runner: "red" if one.get("red") else f"{one['ratio']:.2f}" if "ratio" in one else "" for runner, one in of.items()}
    mine = ratio["ours"]
    if "ms" in ours:
        mine = " / ".join(f"{ours['ms'][p]:.0f}" for p in ("p20", "p50", "p80")) + f", {ratio['ours']}"
    floor = f"{of['sdpa']['ms']['p50']:.0f}" if "ms" in of["sdpa"] else ratio["sdpa"]
    peak = ", ".join(f"{one['peak_mb']:.0f}" if "peak_mb" in one else "-" for one in of.values())
    worst = f"{max(ours['error_of'].values()):.0e}" if "error_of" in ours else "-"
    return (f"| **{row['family']}**: {sets}; {row['dtype']}, {guided}{timed} | {floor} | {mine} | {ratio['eager'] or '-'} | {peak} "
            f"| {row['sums_mb']:.1f} | {worst} |")  # fmt: skip


def everything(given: argparse.Namespace) -> Iterator[Row]:
    """The rows of each family asked for."""
    for name in given.families:
        layers = layers_of(name)
        if given.quick:
            layers = Counter({small(shape): count for shape, count in layers.items()})
        for row in measure(name, layers, DTYPES[given.dtype], torch.device(given.device), given.repeats):
            yield {**row, "quick": given.quick}


def main(words: Sequence[str] | None = None) -> int:
    parser = command("layer_set", __doc__, "-layer-set")
    why = "; ".join(f"{name}: {family.why}" for name, family in FAMILIES.items())
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES, help=why)
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the same layers in miniature: a walk through, no measurement")
    given = parser.parse_args(words)
    positive(given, "repeats")
    return record(everything(given), line, given, "-layer-set", "diffusers")


if __name__ == "__main__":
    sys.exit(main())
