"""Pictures of docs/attribution.md.

    python -m benchmarks.attribution_pictures [--output-dir docs/attribution]

ALB, and the genes of examples/liver.tsv, explained by gtex-tissue-v1. The pictures report-*.png
are sections of the page that `decode-zoo report --model gtex-tissue-v1 examples/liver.tsv` writes,
taken in a headless Chromium (on the path, with chromedriver) 1,280 pixels wide.
"""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from pathlib import Path

import click
from matplotlib.figure import Figure
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

import decode_zoo as dz
from decode_zoo.features.genes import read_gene_list
from decode_zoo.pages.report import write_report

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ("genes", "predictions", "regulators", "one")
WIDTH = 1280


def reduced(picture: Image.Image) -> Image.Image:
    """Reduce to 256 colours, which takes a third of the room."""
    # The default method moves rare colours, such as those of a key, far away.
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    return picture.convert("RGB").quantize(256, method, kmeans=5, dither=dither)


def save(png: bytes, path: Path) -> None:
    """Write a small PNG."""
    with Image.open(io.BytesIO(png)) as picture:
        reduced(picture).save(path, optimize=True)
    click.echo(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def png_of(figure: Figure) -> bytes:
    """Draw a figure, without the version of matplotlib that would change its bytes."""
    whole = io.BytesIO()
    figure.savefig(whole, dpi=200, metadata={"Software": None})
    return whole.getvalue()


def sections_of(page: Path) -> dict[str, bytes]:
    """Take a picture of each section of a report, the last one with ALB in liver."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "force-prefers-reduced-motion",
    ):
        options.add_argument(f"--{argument}")
    service = Service(executable_path=shutil.which("chromedriver"))
    with webdriver.Chrome(service=service, options=options) as browser:

        def resize(height: int) -> None:
            metrics = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

        resize(900)
        browser.get(page.as_uri())
        WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#account svg"))
        gene, output = browser.find_elements(By.CSS_SELECTOR, "#one-controls select")
        Select(gene).select_by_visible_text("ALB (ENSG00000163631)")
        Select(output).select_by_visible_text("Liver")
        browser.execute_script("document.activeElement.blur()")
        # In a window as high as the page nothing is scrolled, so the links on top cover nothing.
        resize(browser.execute_script("return document.documentElement.scrollHeight"))
        pictures = {}
        for name in SECTIONS:
            top, height = browser.execute_script(
                "const { top, height } = document.getElementById(arguments[0])"
                ".getBoundingClientRect(); return [Math.round(top), Math.round(height)]",
                name,
            )
            clip = {"x": 0, "y": top, "width": WIDTH, "height": height, "scale": 1}
            shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip})
            pictures[name] = base64.b64decode(shot["data"])
        return pictures


@click.command()
@click.option("--output-dir", type=click.Path(path_type=Path), default=ROOT / "docs/attribution")
def main(output_dir: Path) -> None:
    """Draw one gene, a signature, and the report of the signature."""
    model = dz.load("gtex-tissue-v1")
    features = dz.load_features(ROOT / "zoo/features" / model.manifest.features["id"])
    alb = model.explain(["ALB"], by="position", features=features)
    genes = read_gene_list(ROOT / "examples/liver.tsv")
    liver = model.explain(genes)
    output_dir.mkdir(parents=True, exist_ok=True)
    figures = {
        "bar": model.explain(["ALB"]).plot("bar", output="Liver"),
        "positions": alb.plot("positions", output="Liver"),
        "heatmap": liver.plot("heatmap"),
        "classes": liver.plot("classes"),
    }
    for name, figure in figures.items():
        save(png_of(figure), output_dir / f"{name}.png")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_report(model, genes, page)
        for name, png in sections_of(page).items():
            save(png, output_dir / f"report-{name}.png")


if __name__ == "__main__":
    main()
