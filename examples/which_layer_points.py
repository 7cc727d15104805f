"""Which layers and heads point at the truth? In the small world it is known: `python examples/which_layer_points.py --pairs 8`."""

import argparse

import i2am
from i2am.data.synthetic import draw, unit
from i2am.models.small import load
from i2am.score.pointing import pointing, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8, help="how many people to dress (default: 8)")
    parser.add_argument("--steps", type=int, default=5, help="denoising steps (default: 5)")
    asked = parser.parse_args()

    pairs = draw(asked.pairs, seed=7, size=(128, 96))
    pipe = load()
    with i2am.trace(pipe, specific=i2am.cells(16, 12)) as run:
        pipe(unit(pairs.person), pairs.mask[:, None].float(), unit(pairs.garment), unit(pairs.densepose), num_inference_steps=asked.steps)

    found = pointing(run.maps, pairs.truth)
    print(f"{'baseline: the same place on the garment':64} {found.baseline_accuracy:7.1%}")
    for row in table(run.maps, pairs.truth):
        if row["level"] in ("unified", "layer", "head"):
            name = (row["layer"] or "all layers") + ("" if row["head"] is None else f", head {row['head']}")
            print(f"{name:64} {row['accuracy']:7.1%}")


if __name__ == "__main__":
    main()
