"""How special is what holds LAPTM5 and CD53 together: the same experiment on random pairs.

    python -m benchmarks.pair_control [--pairs 60] [--out docs/studies/pair_control.tsv]

Pairs of genes of chr1 with sites of SPI1, in models of persons and of tissues: how often is SPI1
the first regulator, and how large is its share.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import decode_zoo as dz
from decode_zoo.studies.knockouts import Knockout
from decode_zoo.studies.pairs import PairStudy, knock_out_pair

MODELS = (
    "lcl-person-v1",
    "gtex-heart-person-v1",
    "gtex-liver-person-v1",
    "gtex-brain-person-v1",
    "gtex-blood-person-v1",
    "gtex-tissue-v1",
)
REMOVALS = 3_000


def told(study: PairStudy, name: str) -> dict[str, float]:
    """Rank of a regulator by the size of its estimate, and its estimate."""
    table = study.regression
    size = table["estimate"].abs()
    own = (table["class"] == "TF") & (table["term"] == name)
    rank = float((size > size[own].iloc[0]).sum() + 1) if own.any() else np.nan
    return {"rank": rank, "estimate": float(table["estimate"][own].iloc[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("docs/studies/pair_control.tsv"))
    arguments = parser.parse_args()
    rows = []
    for name in MODELS:
        model = dz.load(name)
        folds = [output.name for output in model.manifest.outputs if output.kind == "fold_change"]
        knockout = Knockout.make(model, outputs=folds, precision="single")
        table = knockout.bound.features.rows
        spi1 = knockout.find("SPI1")
        genes = np.flatnonzero(
            (np.array(table.chroms) == "1") & (np.array(table.biotypes) == "protein_coding")
        )
        cells, feature = knockout.cells(genes)
        bound = genes[np.unique(cells.rows()[feature == spi1])]
        random = np.random.default_rng(0)
        found = []
        while len(found) < arguments.pairs:
            one, two = random.choice(bound, 2, replace=False).tolist()
            found.append(told(knock_out_pair(knockout, (one, two), removals=REMOVALS), "SPI1"))
        pair = tuple(knockout.bound.features.index.resolve(["LAPTM5", "CD53"]).rows.tolist())
        own = told(knock_out_pair(knockout, pair, removals=REMOVALS), "SPI1")
        ranks = np.array([item["rank"] for item in found])
        sizes = np.abs([item["estimate"] for item in found])
        rows.append(
            {
                "model": name,
                "genes_with_SPI1": len(bound),
                "random_pairs": len(found),
                "rank_LAPTM5_CD53": own["rank"],
                "estimate_LAPTM5_CD53": own["estimate"],
                "random_first": float((ranks == 1).mean()),
                "random_median_rank": np.median(ranks),
                "random_larger": float((sizes >= abs(own["estimate"])).mean()),
                "random_lost_like_it": float(
                    np.mean([item["estimate"] <= own["estimate"] for item in found])
                ),
            }
        )
        print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(arguments.out, sep="\t", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
