"""Pictures of docs/attribution.md.

    python -m benchmarks.attribution_pictures [--output-dir docs/attribution]

ALB, and the genes of examples/liver.tsv, explained by gtex-tissue-v1. The pictures report-*.png
are parts of the page that `decode-zoo report --model gtex-tissue-v1 examples/liver.tsv` writes,
taken in a headless browser whose window is 1,280 pixels wide, and reduced to 256 colours by
`reduced`.
"""

from __future__ import annotations

import io
from pathlib import Path

import click
from matplotlib.figure import Figure
from PIL import Image

import decode_zoo as dz
from decode_zoo.genelist import read_gene_list

ROOT = Path(__file__).resolve().parent.parent


def reduced(picture: Image.Image) -> Image.Image:
    """Reduce to 256 colours, which takes a third of the room."""
    # The default method moves rare colours, such as those of a key, far away.
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    return picture.convert("RGB").quantize(256, method, kmeans=5, dither=dither)


def save(figure: Figure, path: Path) -> None:
    """Write a small PNG, without the version of matplotlib that would change its bytes."""
    whole = io.BytesIO()
    figure.savefig(whole, dpi=200, metadata={"Software": None})
    with Image.open(whole) as picture:
        reduced(picture).save(path, optimize=True)
    click.echo(f"{path}: {path.stat().st_size / 1000:.0f} kB")


@click.command()
@click.option("--output-dir", type=click.Path(path_type=Path), default=ROOT / "docs/attribution")
def main(output_dir: Path) -> None:
    """Draw one gene and a signature."""
    model = dz.load("gtex-tissue-v1")
    features = dz.load_features(ROOT / "zoo/features" / model.manifest.features["id"])
    alb = model.explain(["ALB"], by="position", features=features)
    liver = model.explain(read_gene_list(ROOT / "examples/liver.tsv"))
    output_dir.mkdir(parents=True, exist_ok=True)
    save(model.explain(["ALB"]).plot("bar", output="Liver"), output_dir / "bar.png")
    save(alb.plot("positions", output="Liver"), output_dir / "positions.png")
    save(liver.plot("heatmap"), output_dir / "heatmap.png")
    save(liver.plot("classes"), output_dir / "classes.png")


if __name__ == "__main__":
    main()
