"""Pictures: what they show is what was explained, and every word of it can be read."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from decode_zoo.attribution.scores import MASK, Attribution, Level
from decode_zoo.core.errors import MissingExtraError, UsageError
from decode_zoo.features.spec import Binning
from decode_zoo.networks.manifest import Output

matplotlib = pytest.importorskip("matplotlib")
Text = pytest.importorskip("matplotlib.text").Text

GENES = ["ALB", "APOA1", "TTR", "HBB", "INS", "CD4", "CD53", "LAPTM5", "GAPDH", "ACTB"]
GENES += ["ENO1", "XIST", "TP53", "MYC", "SPI1", "GATA1", "JUN", "MUC1"]
KINDS = ("bar", "heatmap", "classes")


@pytest.fixture(scope="module")
def model(toy_models):
    return toy_models["decode"]


@pytest.fixture(scope="module")
def explained(model):
    return model.explain(GENES)


@pytest.fixture(scope="module")
def placed(model):
    return model.explain(["ALB", "XIST", "ACTB", "SNORD99"], by="position")


def attribution_of(
    scores, *, names=None, kinds=None, outputs=None, units=None, symbols=None, length=1234
):
    """Scores by position of genes × regulators × outputs, none of them missing; one bin each."""
    n, k, m = scores.shape
    kinds = (kinds or ["TF", "RBP"] * k)[:k]
    outputs = outputs or [f"Output_{i}" for i in range(m)]
    units = units or ["log2 fold change"] * m
    ids = [f"ENSG{i:011}" for i in range(n)]
    layout = Binning()
    known = ["TF", "RBP", "miRNA", "chromatin"]
    classes = [*known, *sorted(set(kinds) - set(known)), MASK]
    table = pd.DataFrame(
        {
            "class": pd.Categorical([*kinds, MASK], classes),
            "regulator": [*(names or [f"R{i}" for i in range(k)]), "exon"],
        }
    )
    table["track"] = table["regulator"] + "@cell"
    whole = np.concatenate([scores, np.full((n, 1, m), 0.01)], axis=1)
    on_rna = ~table["class"].isin(["TF", "chromatin"]).to_numpy()
    n_bins = np.where(on_rna, -(-length // layout.bin), 30)
    return Attribution(
        genes=pd.DataFrame({"gene_id": ids, "symbol": symbols or [f"GENE{i}" for i in range(n)]}),
        outputs=tuple(
            Output(name, unit, "median" if "TPM" in unit else "fold_change")
            for name, unit in zip(outputs, units, strict=True)
        ),
        resolution=Level("position", table, np.arange(k + 1), on_rna, layout),
        indptr=np.arange(n + 1, dtype=np.int64) * (k + 1),
        feature=np.tile(np.arange(k + 1, dtype=np.int32), n),
        bin=(np.tile(7 * np.arange(k + 1), n) % np.tile(n_bins, n)).astype(np.int32),
        scores=whole.reshape(-1, m).astype(np.float32),
        prediction=whole.sum(axis=1) + 0.5,
        reference=np.full(m, 0.5),
        sum_of_scores=whole.sum(axis=1),
        parents=tuple(ids),
        rna_lengths=(length,) * n,
    )


def texts_of(figure, dpi=200):
    """What is written when a figure is drawn, and where: left, bottom, right, top in inches."""
    figure.set_dpi(dpi)
    drawn = {}
    original = Text.draw

    def draw(self, renderer, *args, **options):
        if self.get_visible() and self.get_text().strip():
            drawn[self] = np.array(self.get_window_extent(renderer).extents) / dpi
        return original(self, renderer, *args, **options)

    with mock.patch.object(Text, "draw", draw):
        figure.canvas.draw()
    return drawn


def assert_readable(figure, dpi=100):
    width, height = figure.get_size_inches()
    assert width >= 3.49
    drawn = texts_of(figure, dpi)
    assert min(text.get_fontsize() for text in drawn) >= 6
    boxes, names = np.array(list(drawn.values())), [text.get_text() for text in drawn]
    inside = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] <= [width, height]).all(axis=1)
    assert inside.all(), [name for name, ok in zip(names, inside, strict=True) if not ok]
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    # A pixel of tolerance: boxes of texts are rounded up to whole ones.
    overlap = np.triu((high - low > 1.01 / dpi).all(axis=2), 1)
    assert not overlap.any(), [(names[i], names[j]) for i, j in np.argwhere(overlap)]


def words(figure):
    return [text.get_text() for text in texts_of(figure)]


# Every word can be read


@pytest.mark.parametrize("kind", [*KINDS, "positions"])
def test_every_word_of_a_picture_can_be_read(explained, placed, kind):
    several = placed.slice(1, 2) if kind == "positions" else explained
    for dpi in (72, 300):
        assert_readable(several.plot(kind), dpi)
    figure = placed.slice(0, 1).plot(kind)
    assert_readable(figure)
    figure.text(0.95, 0.5, "over the edge")
    with pytest.raises(AssertionError, match="over the edge"):
        assert_readable(figure)


def test_pictures_are_as_wide_as_columns():
    attribution = attribution_of(np.ones((1, 42, 3)))
    widths = {k: attribution.plot(k).get_size_inches()[0] for k in (*KINDS, "positions")}
    assert widths == pytest.approx({"bar": 3.5, "heatmap": 7.2, "classes": 3.5, "positions": 7.2})


LONG = "A_regulator_with a name $\\frac{1}{2}$ that nobody can have meant to give to one " * 3
BRAIN = [f"Brain_Nucleus_accumbens_basal_ganglia_{i}" for i in range(54)]
# Name: number of genes, regulators and outputs, what scores are multiplied with, and more.
ODD = {
    "zero regulators": ((2, 0, 4), 1, {}),
    "all zero": ((3, 6, 5), 0, {}),
    "one of each": ((1, 1, 1), 1, {"names": ["a$b$\nΩ–β₂"]}),
    "54 outputs": ((2, 60, 54), 1, {"outputs": BRAIN}),
    "many regulators": ((2, 60, 3), 1, {}),
    "long names": (
        (2, 9, 3),
        1,
        {
            "names": [f"{LONG}{i}" for i in range(9)],
            "outputs": [LONG] * 3,
            "symbols": [LONG] * 2,
            "units": ["parts per thousand of the largest " * 2] * 3,
        },
    ),
    "strange classes": (
        (20, 9, 3),
        1,
        {"kinds": [f"class number {i} of a long name" for i in range(9)]},
    ),
    "tiny, of a short RNA": ((2, 9, 3), 1e-12, {"length": 3}),
    "huge, of a long RNA": ((2, 9, 3), -1e12, {"length": 12_345_678}),
    "one far out": ((40, 9, 3), 1, {}),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("kind", [*KINDS, "positions"])
def test_odd_input_is_readable(case, kind):
    shape, factor, options = ODD[case]
    scores = np.random.default_rng(1).normal(size=shape) * factor
    if case == "one far out":
        scores[0, 0] = 1e6
    attribution = attribution_of(scores, **options)
    chosen = {"gene": attribution.genes["gene_id"][0]} if kind == "positions" else {}
    if case == "many regulators" and kind != "classes":
        chosen["k"] = 1000
    assert_readable(attribution.plot(kind, **chosen))


# What is shown is what was explained


def rows_of(axes):
    return [name.get_text() for name in axes.get_yticklabels()]


def heat_maps(figure):
    """The panels that have cells and names of rows."""
    return [axes for axes in figure.axes if axes.images and axes.get_yticklabels()]


def test_bars_are_mean_scores(explained):
    figure = explained.plot("bar", k=10)
    axes = figure.axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    shown = dict(zip(rows_of(axes), widths, strict=True))
    means = explained.summary().query("output == 'Lung' and `class` != 'mask'")
    best = means.loc[means["mean"].abs().sort_values(ascending=False).index[:10]]
    expected = dict(zip(best["regulator"], best["mean"], strict=True))
    assert shown == pytest.approx(expected, rel=1e-5)
    assert widths == sorted(widths, reverse=True)
    # By default the fold change that is farthest from the reference.
    shift = explained.prediction.mean(axis=0) - explained.reference
    assert abs(shift[1]) > abs(shift[0])
    assert "18 genes: Lung" in words(figure)
    counts = dict(zip(best["regulator"], best["n_genes"].astype(str), strict=True))
    beside = [text.get_text() for text in axes.texts if text.get_text().isdigit()]
    assert beside == [counts[name] for name in shown]


def test_the_equation_adds_up(explained):
    for genes, k in ((None, 12), (["ALB"], 5)):
        text = " ".join(words(explained.plot("bar", genes=genes, k=k)))
        equation = text[text.index("rediction ") + 10 : text.index(" (RNA length)")]
        left, right = equation.replace("−", "-").split(" = ")
        parts = right.replace("- ", "-").replace("+ ", "").split()
        numbers = [float(part) for part in parts if part.lstrip("-")[0].isdigit()]
        assert sum(numbers) == pytest.approx(float(left), abs=0.03)


def test_cells_of_the_heatmap_are_mean_scores(explained):
    figure = explained.plot("heatmap", k=10)
    axes = heat_maps(figure)[0]
    outputs = [name.replace(" ", "_") for name in rows_of(axes)]
    regulators = [text.get_text() for text in axes.get_xticklabels()]
    means = explained.summary().query("`class` != 'mask' and output != 'median_log2_tpm'")
    wide = means.pivot_table(index="output", columns="regulator", values="mean", observed=True)
    best = wide.abs().mean().sort_values(ascending=False).index[:10]
    assert sorted(regulators) == sorted(best)
    assert sorted(outputs) == sorted(wide.index)
    np.testing.assert_allclose(
        axes.images[0].get_array(), wide.loc[outputs, regulators], rtol=1e-4, atol=1e-7
    )
    low, high = axes.images[0].get_clim()
    assert low == -high


def test_outputs_that_are_alike_lie_side_by_side():
    random = np.random.default_rng(3)
    organs = random.normal(size=(2, 9))[np.arange(12) % 3 % 2].T
    scores = organs + 0.1 * random.normal(size=(2, 9, 12))
    names = [f"{'Brain' if i % 3 % 2 else 'Other'}_{i}" for i in range(12)]
    figure = attribution_of(scores, outputs=names).plot("heatmap")
    shown = [name[:5] for name in rows_of(heat_maps(figure)[0])]
    assert shown in (sorted(shown), sorted(shown, reverse=True))


def test_units_are_not_mixed():
    units = ["log2 fold change", "log2 fold change", "log2 TPM"]
    scores = np.ones((2, 3, 3))
    attribution = attribution_of(scores, outputs=["a", "b", "median"], units=units)
    assert "median" not in words(attribution.plot("heatmap"))
    assert "2 outputs together" in words(attribution.plot("classes"))
    alone = attribution_of(scores[:, :, 2:], outputs=["median"], units=units[2:])
    assert "median" in words(alone.plot("heatmap"))


def test_positions_are_where_the_bins_are_and_totals_those_of_regulators(placed):
    table = placed.to_frame().query("symbol == 'ALB' and output == 'Liver' and `class` != 'mask'")
    figure = placed.plot("positions", gene="ALB", output="Liver")
    for classes, n_bins, start in ((["TF", "chromatin"], 30, -2000), (["RBP", "miRNA"], 34, 0)):
        own = table[table["class"].isin(classes)]
        totals = own.groupby("regulator", observed=True)["score"].sum()
        axes = next(a for a in heat_maps(figure) if totals.abs().idxmax() in rows_of(a))
        names, cells = rows_of(axes), figure.axes[figure.axes.index(axes) + 1].images[0]
        assert set(names) == set(totals.abs().nlargest(8).index)
        assert cells.get_extent()[:2] == [start, start + 100 * n_bins]
        for name, row in zip(names, cells.get_array(), strict=True):
            one = own[own["regulator"] == name]
            np.testing.assert_allclose(
                row, np.bincount(one["bin"], one["score"], n_bins), rtol=1e-4
            )
            assert f"{totals[name]:+.3f}".replace("-", "−") in words(figure)
    # Of a long RNA, bins are joined, and nothing is lost.
    table = placed.to_frame().query("symbol == 'XIST' and output == 'Lung'")
    figure = placed.plot("positions", gene="XIST", output="Lung")
    assert "nt from the 5' end (bins of 200)" in words(figure)
    panels = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    cells = next(cells for cells in panels if cells.shape[-1] == 100)
    total = table[table["class"].isin(["RBP", "miRNA"])]["score"].sum()
    assert cells.sum() == pytest.approx(total, abs=1e-6)


def test_transcripts_are_called_so():
    one = attribution_of(np.ones((2, 3, 2)), symbols=["ALB", "ALB"])
    both = replace(one, genes=one.genes.rename(columns={"gene_id": "transcript_id"}))
    written = words(both.plot("bar", genes=["ALB"]))
    assert "transcripts" in written
    assert "2 transcripts: Output 0" in written
    with pytest.raises(UsageError, match="one gene, not of 2"):
        both.plot("positions", gene="ALB")


def test_violins_show_sums_of_classes(model, explained):
    figure = explained.plot("classes", output="Liver")
    table = model.explain(GENES, by="class", outputs=["Liver"]).to_frame()
    wide = table.groupby(["gene_id", "class"], observed=True)["score"].sum().unstack(fill_value=0)
    shares = 100 * wide.abs().div(wide.abs().sum(axis=1), axis=0)
    for axes, expected, error in zip(figure.axes, (wide, shares), (1e-4, 1e-2), strict=True):
        medians = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        assert medians == pytest.approx(list(expected.median()), abs=error)


# A good neighbour


def saved(figure, form):
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "decode-zoo"}):
        figure.savefig(stream, format=form, metadata=dates.get(form))
    return stream.getvalue()


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_scores_give_the_same_bytes_in_any_style(explained, model, form):
    """As bars of some genes of a list, and of these alone; the user's own style stays."""
    theirs = {"font.size": 30, "axes.facecolor": "black", "text.usetex": True, "lines.linewidth": 9}
    expected = saved(model.explain(["ALB", "TTR"]).plot("bar", output="Lung"), form)
    with matplotlib.rc_context(theirs):
        before = dict(matplotlib.rcParams)
        figure = explained.plot("bar", genes=["TTR", "ENSG00000163631"], output="Lung")
        assert dict(matplotlib.rcParams) == before
    assert saved(figure, form) == expected


def test_pyplot_is_left_alone():
    code = "import sys, decode_zoo.pages.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib(explained, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("decode_zoo.pages.plots")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"decode-zoo\[explain\]"):
        explained.plot()


@pytest.mark.parametrize(
    ("of", "kind", "options", "message"),
    [
        ("explained", "pie", {}, "no picture 'pie'"),
        ("explained", "bar", {"k": 0}, "at least 1"),
        ("explained", "bar", {"output": "Moon"}, "no output 'Moon'"),
        ("explained", "bar", {"genes": ["NOPE"]}, "'NOPE' is not among"),
        ("explained", "bar", {"genes": "ALB"}, "not a single string"),
        ("explained", "bar", {"genes": []}, "empty"),
        ("explained", "positions", {}, "by regulator have no positions"),
        ("placed", "positions", {}, r"one gene, not of 4.\nChoose one, such as gene='ENSG"),
        ("placed", "positions", {"gene": "NOPE"}, "not among"),
        ("placed", "positions", {"gene": "ALB", "k": 0}, "at least 1"),
        ("nothing", "bar", {}, "No gene was explained"),
        ("nothing", "heatmap", {}, "No gene was explained"),
        ("nothing", "classes", {}, "No gene was explained"),
    ],
)
def test_what_cannot_be_drawn_is_refused(explained, placed, of, kind, options, message):
    attribution = {"explained": explained, "placed": placed, "nothing": explained.slice(0, 0)}[of]
    with pytest.raises(UsageError, match=message):
        attribution.plot(kind, **options)
