"""What docs/study-replication.md says of numbers is what its tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def text() -> str:
    path = DOCS / "study-replication.md"
    if not path.is_file():
        pytest.skip("needs a checkout")
    return path.read_text(encoding="utf-8").replace("**", "")


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(DOCS / "studies" / name, sep="\t")


def number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def spread(row: pd.Series, name: str, low: str, high: str) -> str:
    return f"{number(row[name])} ({number(row[low])} to {number(row[high])})"


def rows(text: str, first: str) -> list[list[str]]:
    """SparseInputs of the rows of any table whose first cell begins like that."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first}")]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]


def test_ablations(text):
    labels = {
        "intact": "intact",
        "rna_exchanged": "RNA of other genes",
        "promoter_exchanged": "promoter of other genes",
        "both_exchanged": "both of other genes",
    }
    for variant, label in labels.items():
        (cells,) = rows(text, label)
        for column, name in enumerate(("tissues", "persons"), 1):
            found = table(f"ablation/{name}-variants.tsv").set_index("variant").loc[variant]
            assert cells[column] == spread(found, "rho", "rho_low", "rho_high")
    found = table("ablation/tissues-comparisons.tsv").set_index(["first", "second"])
    between = found.loc["rna_exchanged", "promoter_exchanged"]
    assert spread(between, "difference", "difference_low", "difference_high") in text
    assert f"in {int(between['higher'])} of 53 tissues" in text


def test_lists(text):
    found = table("enrichment/lists.tsv").set_index(["classes", "list"])
    labels = {
        "mgi_essential": "lethal in mice",
        "clingen_level3_genes_2018_09_13": "ClinGen",
        "exac_pli: pLI > 0.99": "pLI > 0.99",
        "CEGv2_subset_universe": "essential in cells, CEGv2",
        "core_essentials_hart": "essential in cells, Hart",
    }
    for name, label in labels.items():
        (cells,) = rows(text, label)
        tf, rbp = found.loc["TF", name], found.loc["RBP", name]
        assert f"({int(tf['n'])}, {int(rbp['n'])})" in cells[0]
        values = (tf["auroc"], tf["auroc_given_sites"], rbp["auroc"], rbp["auroc_given_sites"])
        qs = (tf["q"], tf["q_given_sites"], rbp["q"], rbp["q_given_sites"])
        for cell, value, q in zip(cells[1:], values, qs, strict=True):
            area, told = re.fullmatch(r"(\S+) \((\S+)\)", cell).groups()
            assert area == number(value)
            assert float(told) == pytest.approx(q, rel=0.35)


def test_coexpression(text):
    found = table("coexpression/separation.tsv").set_index(["score", "pairs"])
    for score, label in (("prediction", "predicted rho"), ("tissue profiles", "rho over tissues")):
        (cells,) = rows(text, label)
        for cell, pairs in zip(cells[1:], ("either sign", "positive"), strict=True):
            assert cell == spread(found.loc[score, pairs], "auroc", "low", "high")
    for score, label in (("RNA length", "likeness of RNA"), ("tracks", "likeness of number")):
        (cells,) = rows(text, label)
        assert cells[1] == number(found.loc[(score, "either sign"), "auroc"])


def test_the_pair(text):
    models = table("pair/models.tsv")
    models = models[models["removed"] == "regulators"].set_index("model")
    control = table("pair_control.tsv").set_index("model")
    for name, row in models.iterrows():
        (cells,) = rows(text, str(name))
        assert cells[1:3] == [number(row["rho_intact"]), number(row["rho_after_removals"])]
        assert int(cells[4]) == control.loc[name, "rank_LAPTM5_CD53"] == 1
        # The control has fewer removals.
        told = float(cells[3].replace("−", "-"))
        assert told == pytest.approx(control.loc[name, "estimate_LAPTM5_CD53"], abs=0.003)
    assert table("pair/across.tsv")["term"][0] == "SPI1"
    low, high = 100 * control["random_first"].min(), 100 * control["random_first"].max()
    assert f"in {low:.0f} to {high:.0f}%" in text
    ranks = control["random_median_rank"]
    assert f"{ranks.min():.0f} to {ranks.max():.0f}" in text
