"""The page on attributions and biology says what its files say."""

from __future__ import annotations

import re

import pandas as pd

from benchmarks.regulator_page import FOLDER, PAGE, page_tables, with_tables

TEXT = PAGE.read_text(encoding="utf-8")
# Prose without tables, on one line.
PROSE = " ".join(
    re.sub(r"<!-- (.+?): generated.*?<!-- end of \1 -->", "", TEXT, flags=re.S).split()
)


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.tsv", sep="\t", keep_default_na=False)


def test_tables_are_those_of_the_files():
    assert with_tables(TEXT, page_tables(FOLDER)) == TEXT, "run benchmarks/regulator_biology.py"


def test_figures_are_there_and_small():
    pictures = re.findall(r"!\[[^]]+\]\((.+?)\)", TEXT)
    assert {PAGE.parent / name for name in pictures} == set(FOLDER.glob("*.png"))
    assert all((PAGE.parent / name).stat().st_size < 150_000 for name in pictures)


def test_numbers_in_the_prose_are_those_of_the_files():
    facts = read("facts").set_index("name")["value"]
    masters = read("masters").query("genes == 'all'").set_index("label")
    controls = read("own_expression_controls").query("genes == 'all'").set_index("class")
    mirna = masters[masters["class"] == "miRNA"]
    wrong = (mirna["sign_as_expected"] == "no").sum()
    networks = read("networks")
    retrained = networks[networks["seed"] != networks["seed"][0]].set_index("class")
    alike = read("replication").set_index("class")["median_abs_rho_between_regulators"]
    tf, rbp = controls.loc["TF"], controls.loc["RBP"]
    verdicts = masters["verdict"].value_counts()
    together = read("sets").query("genes == 'all' and set == 'all'").iloc[0]
    said = (
        f"(p = {together['p_tissue']:.3f} and {together['p_matched']:.3f})",
        f"Of the {len(masters)} listed regulators {verdicts['both']} pass both tests and "
        f"{verdicts['neither']} pass neither",
        f"{wrong} of {len(mirna)} have the wrong sign",
        f"the {facts['genes_all']} genes of the GTEx table",
        f"The {facts['genes_chr1']} genes of chr1",
        f"{facts['organs']} in all",
        f"p = 1/{facts['organs']}",
        f"{facts['permutations']} times",
        f"({facts['expression_permutations']} permutations each",
        f"chance alone would pass about {0.05 * len(masters):.0f} of the {len(masters)}",
        f"({masters['n_bound']['FOXA1']} and {masters['n_bound']['FOXA2']} genes)",
        f"share {float(facts['shared_genes_percent_miR124']):.0f}% of their genes",
        f"{tf['significant']} TFs and {rbp['significant']} RBPs would look",
        f"permuted tissues ({tf['tissues_mean']:.1f} and {rbp['tissues_mean']:.1f})",
        f"does as well: {tf['regulators_mean']:.1f} and {rbp['regulators_mean']:.1f}.",
        f"the median is {retrained['median_rho_same_regulator']['TF'].median():.2f} for TFs",
        f"only {retrained['percent_recognised']['TF'].median():.0f}% are recognised",
        f"two of the {facts['tracks_HepG2']} HepG2 tracks",
        f"(bound or not) is {float(facts['median_phi_HepG2']):.2f}",
        f"one component holds {float(facts['first_component_percent_HepG2']):.0f}%",
        f"{alike['TF']:.2f} (TFs), {alike['RBP']:.2f} (RBPs) and {alike['miRNA']:.2f} (miRNAs)",
    )
    for words in said:
        assert words in PROSE


def test_claims_of_the_summary_hold():
    sets = read("sets").query("genes == 'all'").set_index("set")[["p_tissue", "p_matched"]]
    assert (sets.loc[["TF", "RBP"]] <= 0.05).all(axis=None)
    assert (sets.loc["miRNA"] > 0.5).all()
    networks = read("networks")
    of_tf = networks[networks["class"] == "TF"]
    assert len(of_tf) == 4
    assert (of_tf[["p_tissue", "p_matched"]] <= 0.05).all(axis=None)
    for passed in of_tf["passes_both"]:
        assert {"REST", "HNF4A", "SPI1", "RUNX3", "EBF1"} <= set(passed.split(","))
    counted = networks[networks["class"] != "miRNA"]
    assert (counted["regulators_p"].astype(float) > 0.05).all()
    assert (read("own_expression_controls")["regulators_p"] > 0.05).all()
    masters = read("masters").query("genes == 'all'").set_index("regulator")
    scores = masters.loc[["AAGGCAC", "UAAGGCA"], "mean_bound"]
    assert scores.prod() < 0
    for name in ("FOXA1", "FOXA2", "IRF4", "PAX5", "CEBPB", "MEF2A", "MEF2C", "NR5A1", "PPARG"):
        assert masters["verdict"][name] == "neither"
    examples = read("facts").set_index("name")["value"]
    assert (examples["example_highest"], examples["example_lowest"]) == ("CEBPB", "REST")
