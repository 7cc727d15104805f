"""A traced run of the embedded model, and everything there is to look at: `python examples/trace_and_look.py --out look`."""

import argparse
from pathlib import Path

import i2am
from i2am.data.synthetic import draw, unit
from i2am.models.small import load
from i2am.show.pictures import levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("look"), help="the folder for the pictures (default: look)")
    parser.add_argument("--pairs", type=int, default=2, help="how many people to dress (default: 2)")
    parser.add_argument("--steps", type=int, default=5, help="denoising steps (default: 5)")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)

    pairs = draw(asked.pairs, seed=7, size=(128, 96))
    garments = unit(pairs.garment)
    pipe = load()

    # one run gives every level, for every image of the batch
    with i2am.trace(pipe, generated_mask=pairs.mask.float(), specific=i2am.cells(16, 12)) as run:
        images = pipe(
            unit(pairs.person), pairs.mask[:, None].float(), garments, unit(pairs.densepose), num_inference_steps=asked.steps
        ).images

    maps = run.maps.with_pictures(images, garments)
    print(maps)

    # the layer that points (see which_layer_points.py); the mean of all layers is dominated by coarse ones
    fine = "up_blocks.1.attentions.1*"
    for direction in ("r2g", "g2r"):
        maps.overlay(direction=direction, layers=fine)[0].save(asked.out / f"{direction}.png")
    levels(maps, "r2g", image=images[0]).save(asked.out / "levels.png")
    page = i2am.view(maps, asked.out / "run.html")
    print(f"open {page}")


if __name__ == "__main__":
    main()
