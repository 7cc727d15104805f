"""Where every patch of the painted picture comes from on the garment: `python examples/where_patches_come_from.py --out field`."""

import argparse
from pathlib import Path

from PIL import Image

import i2am
from i2am.data.synthetic import draw, unit
from i2am.models.small import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("field"), help="the folder for the pictures (default: field)")
    parser.add_argument("--pairs", type=int, default=3, help="how many people to dress (default: 3)")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps (default: 10)")
    parser.add_argument("--seed", type=int, default=20_261_121, help="of the pairs (default: the held-out ones)")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)

    pairs = draw(asked.pairs, seed=asked.seed, size=(128, 96))
    garments = unit(pairs.garment)
    pipe = load()

    with i2am.trace(pipe, generated_mask=pairs.mask.float(), field=True) as run:
        images = pipe(
            unit(pairs.person), pairs.mask[:, None].float(), garments, unit(pairs.densepose), num_inference_steps=asked.steps
        ).images

    maps = run.maps.with_pictures(images, garments)
    field = maps.field("g2r")
    field.arrows()[0].save(asked.out / "arrows.png")
    sheets = field.sheet()
    page = Image.new("RGB", (sheets[0].width, sum(one.height for one in sheets)))
    for i, one in enumerate(sheets):
        page.paste(one, (0, i * one.height))
    page.save(asked.out / "field.jpg", quality=82)
    away = field.away(maps.field("r2g"))
    print(f"{(away < 1).float().mean():.0%} of the patches come home within one patch, {field.spread.median():.2f} is the median spread")
    print(f"open {i2am.view(maps, asked.out / 'run.html')}")


if __name__ == "__main__":
    main()
