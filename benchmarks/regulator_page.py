"""Tables of docs/attribution-biology.md, from the files of benchmarks/regulator_biology.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/attribution-biology.md"
FOLDER = ROOT / "docs/attribution-biology"

SHORT = {
    "Cells_EBV_transformed_lymphocytes": "EBV lymphocytes",
    "Cells_Transformed_fibroblasts": "fibroblasts",
    "Esophagus_Gastroesophageal_Junction": "Esophagus GEJ",
    "Small_Intestine_Terminal_Ileum": "Small Intestine",
}


def markdown(header: str, rows: Iterable[Iterable[object]]) -> str:
    """Table of a page."""
    names = header.split("|")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _p(value: float) -> str:
    return f"{value:.4f}" if value < 0.001 else f"{value:.3f}"


def _organs(joined_names: str) -> str:
    return ", ".join(SHORT.get(name, name.replace("_", " ")) for name in joined_names.split(","))


def _verdicts(masters: pd.DataFrame) -> str:
    """Who passes what, by name."""
    words = {
        "both": "pass both tests",
        "tissue": "pass by tissue only",
        "regulator": "pass among regulators only",
        "neither": "fail both",
    }
    lines = [
        f"- **{(own := masters[masters['verdict'] == verdict]).shape[0]} {text}**: "
        f"{', '.join(own['label'])}."
        for verdict, text in words.items()
    ]
    wrong = masters[masters["sign_as_expected"] == "no"]
    return "\n".join(
        [*lines, f"- **{len(wrong)} have the wrong sign**: {', '.join(wrong['label'])}."]
    )


def page_tables(folder: Path) -> dict[str, str]:
    """Tables of the page, by name, from the TSV files."""
    masters, sets, absent, controls, replicated, unmapped, networks = (
        pd.read_csv(folder / f"{name}.tsv", sep="\t", keep_default_na=False)
        for name in (
            "masters",
            "sets",
            "absent",
            "own_expression_controls",
            "replication",
            "unmapped",
            "networks",
        )
    )
    # The published network comes first; compared with itself it says nothing.
    first = networks["seed"].iloc[0]
    others = networks[networks["seed"] != first]
    of_all = masters[masters["genes"] == "all"]
    chr1 = masters[masters["genes"] == "chr1"].set_index(["class", "regulator"])
    lines = []
    for _, row in of_all.iterrows():
        held = chr1.loc[(row["class"], row["regulator"])]
        lines.append(
            [
                row["label"],
                _organs(row["organs"]),
                row["n_bound"],
                f"{row['mean_bound']:+.4f}",
                " / ".join(f"{row[f'percentile_{of}']:.0f}" for of in ("mean", "bound", "abs")),
                f"{row['percentile_matched']:.0f} ({_p(row['p_regulator'])})",
                row["best_tissue_rank"],
                f"{row['percentile_tissue']:.0f} ({_p(row['p_tissue'])})",
                f"{held['percentile_matched']:.0f}; {held['percentile_tissue']:.0f}; "
                f"{held['verdict']}",
            ]
        )
    return {
        "sets": markdown(
            "set|genes|regulators (groups)|tissue percentile|95% of null|p|"
            "percentile among matched|95% of null|p",
            [
                [
                    row["set"],
                    row["genes"],
                    f"{row['n']} ({row['groups']})",
                    f"{row['percentile_tissue']:.1f}",
                    f"{row['null_high_tissue']:.1f}",
                    _p(row["p_tissue"]),
                    f"{row['percentile_matched']:.1f}",
                    f"{row['null_high_matched']:.1f}",
                    _p(row["p_matched"]),
                ]
                for _, row in sets.iterrows()
            ],
        ),
        "verdicts": _verdicts(of_all),
        "masters": markdown(
            "regulator|expected in|genes bound|mean score of those there|"
            "percentile in class: mean / bound / absolute|among matched (p)|"
            "best rank of 53|tissue percentile (p)|chr1: matched; tissue; passes",
            lines,
        ),
        "absent": ", ".join(absent["label"]) + ".",
        "own expression": markdown(
            "class|genes|regulators|significant|positive|negative|median rho|"
            "tissues permuted: mean (95%)|p|regulators permuted: mean (95%)|p|empirical FDR",
            [
                [
                    row["class"],
                    row["genes"],
                    row["n"],
                    row["significant"],
                    row["positive"],
                    row["negative"],
                    f"{row['median_rho']:+.3f}",
                    f"{row['tissues_mean']:.1f} ({row['tissues_q95']:.0f})",
                    _p(row["tissues_p"]),
                    f"{row['regulators_mean']:.1f} ({row['regulators_q95']:.0f})",
                    _p(row["regulators_p"]),
                    f"{float(row['empirical_fdr']):.2f}",
                ]
                for _, row in controls.iterrows()
            ],
        ),
        "unmapped": "; ".join(
            f"{why}: {', '.join(group['regulator'].unique())}"
            for why, group in unmapped.groupby("lost")
        )
        + ".",
        "replication": markdown(
            "compared with|class|regulators|same regulator, median rho|"
            "another regulator, median rho|recognised, %",
            [
                [
                    what,
                    row["class"],
                    row["n"],
                    f"{row['median_rho_same_regulator']:.2f}",
                    f"{row['median_rho_other_regulator'] + 0:.2f}".replace("-0.00", "0.00"),
                    f"{row['percent_recognised']:.0f}",
                ]
                for what, row in [
                    *(("genes of chr1", row) for _, row in replicated.iterrows()),
                    *((f"network of seed {row['seed']}", row) for _, row in others.iterrows()),
                ]
            ],
        ),
        "networks": markdown(
            "network|class|tissue percentile (p)|percentile among matched (p)|"
            "own expression: significant|regulators permuted: mean (p)|pass both tests",
            [
                [
                    "published" if row["seed"] == first else f"seed {row['seed']}",
                    row["class"],
                    f"{row['percentile_tissue']:.1f} ({_p(row['p_tissue'])})",
                    f"{row['percentile_matched']:.1f} ({_p(row['p_matched'])})",
                    row["significant"],
                    f"{float(row['regulators_mean']):.1f} ({_p(float(row['regulators_p']))})"
                    if row["regulators_mean"]
                    else "",
                    row["passes_both"].replace(",", ", ") or "none",
                ]
                for _, row in networks.iterrows()
            ],
        ),
    }


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """Replace the generated tables on the page, which stand between marker lines."""
    for name, text in tables.items():
        begin = f"<!-- {name}: generated by benchmarks/regulator_biology.py -->"
        end = f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"the page lacks the lines {begin!r} and {end!r}")
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page
