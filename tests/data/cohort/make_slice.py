"""Derive the small real cohort of the tests from the folder of raw data.

    python tests/data/cohort/make_slice.py DATA

Standard library only, and nothing of decode_zoo: the slice must not inherit its mistakes.
"""

from __future__ import annotations

import gzip
import random
import sys
from pathlib import Path

PERSONS_OF_A_SEX = 7
GENES, SILENT = 900, 60
# XIST, RPS4Y1, DDX3Y, KDM5D, EIF1AY
SEX_GENES = (
    "ENSG00000229807",
    "ENSG00000129824",
    "ENSG00000067048",
    "ENSG00000012817",
    "ENSG00000198692",
)
HERE = Path(__file__).resolve().parent


def read(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [line.rstrip("\n").split("\t") for line in stream]


def main(data: Path) -> None:
    folder = data / "expression" / "person"
    counts, persons = (read(folder / f"lcl_yri69.{name}.tsv.gz") for name in ("counts", "persons"))
    sex = persons[0].index("sex")
    chosen = [
        row[0]
        for kind in ("female", "male")
        for row in [row for row in persons[1:] if row[sex] == kind][:PERSONS_OF_A_SEX]
    ]
    columns = [0, *(counts[0].index(name) for name in chosen)]
    rows = [[row[i] for i in columns] for row in counts[1:]]
    sums = {row[0]: sum(map(int, row[1:])) for row in rows}
    dice = random.Random(0)
    expressed = sorted(gene for gene, total in sums.items() if total > 40 * len(chosen))
    silent = sorted(gene for gene, total in sums.items() if total < len(chosen))
    kept = {*dice.sample(expressed, GENES), *dice.sample(silent, SILENT), *SEX_GENES}
    table = [[counts[0][i] for i in columns], *(row for row in rows if row[0] in kept)]
    text = "".join("\t".join(row) + "\n" for row in table)
    (HERE / "counts.tsv.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    # Batch and age are made up, for regression on something.
    lines = ["person\tsex\tbatch\tage"]
    for place, name in enumerate(chosen):
        kind = "female" if place < PERSONS_OF_A_SEX else "male"
        lines.append(f"{name}\t{kind}\t{'abc'[place % 3]}\t{20 + 7 * place % 50}")
    (HERE / "persons.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
