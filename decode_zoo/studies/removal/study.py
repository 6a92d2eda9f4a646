"""Studies of removals: from models and genes to tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from decode_zoo.errors import InputError, UsageError
from decode_zoo.layout import SIDES
from decode_zoo.model import Model
from decode_zoo.provenance import plain, provenance
from decode_zoo.studies.findings import Findings, Format
from decode_zoo.studies.measured import as_list, find_pair, fold_changes, name_of
from decode_zoo.studies.removal.disruption import disrupt
from decode_zoo.studies.removal.knockout import (
    STRONGEST,
    By,
    Deltas,
    Effects,
    Knockout,
    Strongest,
    write_deltas,
)
from decode_zoo.studies.removal.pair import (
    PairStudy,
    RemoveFrom,
    across_models,
    disrupt_pair,
    knock_out_pair,
)
from decode_zoo.typing import IntArray, SingleArray

__all__ = ["study_disruption", "study_knockout", "study_pair"]

Progress = Callable[[int, int], object]

# Regulators of the heat map, genes of the picture by place.
_SHOWN, _DRAWN = 30, 6


def study_knockout(
    model: Model,
    genes: Iterable[str] | None,
    folder: Path,
    *,
    by: By = "regulator",
    outputs: Sequence[str] | None = None,
    regulators: Sequence[str] | None = None,
    double: Sequence[tuple[str, str]] = (),
    table_format: Format = "tsv",
    command: Sequence[str] = ("decode_zoo.studies.removal.study_knockout",),
    facts: Mapping[str, object] | None = None,
    progress: Progress = lambda done, total: None,
) -> Findings:
    """Knock out each regulator of each gene, one by one.

    All genes, outputs and regulators if none are named; ``RBP:YY1`` where classes share a name.
    Pairs in `double` are knocked out together, too. All changes go into ``deltas.tsv`` (or
    ``.parquet``) of the folder while the work goes on: a row a gene and regulator that has sites on
    it, a column an output.
    """
    knockout = Knockout.make(model, by=by, outputs=outputs)
    only = None if regulators is None else [knockout.find(name) for name in regulators]
    pairs = [(knockout.find(one), knockout.find(two)) for one, two in double]
    if any(one == two for one, two in pairs):
        raise UsageError("A pair to knock out together is twice the same.")
    rows, lost = _rows(knockout, genes)
    effects, strongest = Effects(knockout), Strongest(knockout)

    def seen() -> Iterator[Deltas]:
        done = 0
        for deltas in knockout.run(rows, only):
            effects.add(deltas)
            strongest.add(deltas)
            done += deltas.rows.size
            progress(done, rows.size)
            yield deltas

    write_deltas(folder / f"deltas.{table_format}", knockout, seen(), table_format)
    if not effects.present.any():
        raise InputError(
            "none of these genes has sites of what is to be knocked out",
            remedy="See which there are: decode-zoo explain --by track",
        )
    tables = {
        "regulators": ("Regulators, over the genes that have their sites", effects.to_frame()),
        "strongest": (f"Largest single changes (up to {STRONGEST:,})", strongest.to_frame()),
    }
    if pairs:
        tables["double"] = (
            "Double knock-outs: interaction is what both change beyond the sum of each",
            knockout.double(rows, pairs),
        )
    numbers = {
        "genes": rows.size,
        "not_knocked_out": lost,
        "knockouts": int(effects.present.sum()),
        "by": by,
        "outputs": knockout.output_names,
        "provenance": provenance(command, **knockout.origin, **(facts or {})),
    }
    return _knockout_findings(knockout, effects, tables, numbers, f"deltas.{table_format}")


def _knockout_findings(
    knockout: Knockout,
    effects: Effects,
    tables: Mapping[str, tuple[str, pd.DataFrame]],
    numbers: Mapping[str, Any],
    file: str,
) -> Findings:
    from decode_zoo.studies.removal import figures

    table, n_genes, names = tables["regulators"][1], numbers["genes"], knockout.output_names
    regulators = table[knockout.resolution.features.columns[-1]].astype(str).tolist()
    pictures = {"effects": ("Regulators of largest effect", figures.effects(table, n_genes))}
    if len(names) > 1:
        shown, means = knockout.folds, effects.means(effects.strongest[:_SHOWN])
        pictures["outputs"] = (
            "Mean change by output, regulators of largest effect",
            figures.by_output(regulators[:_SHOWN], [names[i] for i in shown], means[:, shown]),
        )
    return Findings(
        "knockout",
        f"Knock-outs of {len(table):,} regulators on {n_genes:,} genes",
        {
            "Model": knockout.model.id,
            "Genes": f"{n_genes:,}",
            "Knock-outs": f"{numbers['knockouts']:,}",
            "Outputs": f"{len(names):,}",
            "Strongest": regulators[0],
        },
        (
            "A change is the prediction without a regulator's sites minus the prediction with "
            "them, worked out exactly for each gene: what the model has learned, no experiment. "
            "Regulators that bind the same places share what they stand for, and each by itself "
            "then changes little.",
            f"All changes are in {file}: a row a gene and regulator, a column an "
            "output; what is not there has no sites and changes nothing.",
        ),
        tables,
        pictures,
        numbers,
        [
            f"{numbers['knockouts']:,} knock-outs on {n_genes:,} genes; not knocked out: "
            f"{len(numbers['not_knocked_out'])} names without sites or unknown"
        ],
    )


def study_pair(
    models: Sequence[Model],
    pair: tuple[str, str],
    *,
    by: By = "regulator",
    removals: int = 10_000,
    remove_from: RemoveFrom = "both",
    positions: bool = True,
    seed: int = 0,
    command: Sequence[str] = ("decode_zoo.studies.removal.study_pair",),
    progress: Progress = lambda done, total: None,
) -> Findings:
    """Ask models of persons which regulators and places hold two genes together.

    So many random removals of each kind, `remove_from` these genes (the original software: first);
    bins are removed, too, if `positions` are asked for.
    """
    if not models or len({model.id for model in models}) < len(models):
        raise UsageError("Name one model at least, and each once.")
    regulators, bins, origins = list[PairStudy](), list[PairStudy](), list[dict[str, Any]]()
    genes: dict[str, str] = {}
    for number, model in enumerate(models):
        folds = fold_changes(model)
        if not folds:
            raise UsageError(
                f"{model.id} predicts no fold changes.", remedy="Choose a model of persons."
            )
        knockout = Knockout.make(model, by=by, outputs=folds, precision="single")
        features = knockout.bound.features
        rows = find_pair(features, pair, InputError)
        genes = {features.rows.ids[row]: name_of(features, row) for row in rows}
        regulators.append(
            knock_out_pair(knockout, rows, removals=removals, remove_from=remove_from, seed=seed)
        )
        if positions:
            bins.extend(disrupt_pair(knockout, rows, removals=removals, seed=seed))
        origins.append(knockout.origin)
        progress(number + 1, len(models))
    numbers = {
        "pair": list(genes.values()),
        "genes": list(genes),
        "by": by,
        "removals": removals,
        "remove_from": remove_from,
        "seed": seed,
        "provenance": provenance(command, models=origins),
    }
    return _pair_findings(regulators, bins, genes, plain(numbers))


def _pair_findings(
    regulators: Sequence[PairStudy],
    bins: Sequence[PairStudy],
    genes: Mapping[str, str],
    numbers: Mapping[str, Any],
) -> Findings:
    from decode_zoo.studies.removal import figures

    ids, names = [study.model_id for study in regulators], list(genes.values())
    title = f"{names[0]} and {names[1]}"
    table = pd.concat([study.regression for study in regulators], ignore_index=True)
    across = across_models(table, len(ids))
    models = [study.to_row("regulators") for study in regulators]
    models += [study.to_row(f"bins of {names[i % 2]}") for i, study in enumerate(bins)]
    tables = {
        "models": ("Models", pd.DataFrame(models)),
        "across": ("Regulators over all models, by mean rank", across),
        "regression": ("Regression of co-expression on knock-outs", table),
    }
    pictures = {
        "removals": ("Co-expression after random knock-outs", figures.removals(regulators, title)),
        "regulators": ("Change of co-expression by knock-out", figures.terms(table, ids)),
    }
    if bins:
        by_bin = pd.concat([study.regression for study in bins], ignore_index=True)
        tables["intervals"] = ("Regression of co-expression on removed bins", by_bin)
        pictures["intervals"] = (
            "Change of co-expression by removal of a bin",
            figures.intervals(by_bin, genes, ids),
        )
    best, where = across.iloc[0], numbers["remove_from"]
    return Findings(
        "pair",
        f"{title}: what holds them together",
        {
            "Models": f"{len(ids)}",
            "Removals": f"{numbers['removals']:,} each",
            "Co-expression as predicted": ", ".join(f"{s.intact:.2f}" for s in regulators),
            "First regulator": f"{best['term']} ({best['significant']} of {len(ids)} models)",
        },
        (
            "Co-expression is Spearman's rho of both predictions over persons. "
            f"{numbers['removals']:,} times a random half of the regulators lost its sites "
            f"({'on both genes' if where == 'both' else f'on the {where} gene only'}); "
            "an estimate is by how much rho changes, on average over what else is gone, with that "
            "regulator's removal: below zero, it holds the genes together.",
            "Standard errors and p values are those of the simulation: more removals make them as "
            "small as one likes. They tell a change from none in this model, not whether the model "
            "is right; Bonferroni over the regulators of a model.",
        ),
        tables,
        pictures,
        numbers,
        [
            f"{row['model']}, {row['removed']}: rho {row['rho_intact']:.3f} with all sites, "
            f"{row['rho_after_removals']:.3f} after removals; {row['significant']} of "
            f"{row['terms']} matter"
            for row in models
        ],
    )


def study_disruption(
    model: Model,
    genes: Iterable[str] | None,
    *,
    outputs: Sequence[str] | None = None,
    command: Sequence[str] = ("decode_zoo.studies.removal.study_disruption",),
    facts: Mapping[str, object] | None = None,
    progress: Progress = lambda done, total: None,
) -> Findings:
    """Take each bin's sites away, gene by gene; all genes and outputs if none are named."""
    knockout = Knockout.make(model, outputs=outputs)
    rows, lost = _rows(knockout, genes)
    bins, sides = list[pd.DataFrame](), list[pd.DataFrame]()
    for found in disrupt(knockout, rows):
        bins.append(_by_place(knockout, found.row, found.bins, found.changes))
        both = pd.DataFrame({"side": list(SIDES)})
        sides.append(_by_place(knockout, found.row, both, found.whole))
        progress(len(bins), rows.size)
    if not any(map(len, bins)):
        raise InputError("none of these genes has sites with positions")
    numbers = {
        "genes": rows.size,
        "not_disrupted": lost,
        "outputs": knockout.output_names,
        "provenance": provenance(command, **knockout.origin, **(facts or {})),
    }
    tables = {
        "bins": ("Changes by bin", pd.concat(bins, ignore_index=True)),
        "sides": ("Changes if all sites with positions go", pd.concat(sides, ignore_index=True)),
    }
    return _disruption_findings(knockout, tables, plain(numbers))


def _by_place(
    knockout: Knockout, row: int, labels: pd.DataFrame, changes: SingleArray
) -> pd.DataFrame:
    """Return the changes of a gene, a column an output."""
    rows = knockout.bound.features.rows
    gene = pd.DataFrame({"gene_id": rows.ids[row], "symbol": rows.symbols[row]}, index=labels.index)
    return pd.concat([gene, labels, pd.DataFrame(changes, columns=knockout.output_names)], axis=1)


def _disruption_findings(
    knockout: Knockout, tables: Mapping[str, tuple[str, pd.DataFrame]], numbers: Mapping[str, Any]
) -> Findings:
    from decode_zoo.studies.removal import figures

    table, n_outputs, folds = tables["bins"][1], len(knockout.outputs), knockout.folds
    shown = dict(zip(table["gene_id"], table["symbol"], strict=True))
    shown = {gene: shown[gene] or gene for gene in list(shown)[:_DRAWN]}
    drawn = table[table["gene_id"].isin(shown)]
    changes = drawn.iloc[:, -n_outputs:].to_numpy()[:, folds]
    # The largest in either direction tells more than a mean in which tissues cancel.
    largest = changes[np.arange(len(changes)), np.abs(changes).argmax(axis=1)]
    drawn = pd.DataFrame(
        {"gene": drawn["gene_id"], "side": drawn["side"], "bin": drawn["bin"], "change": largest}
    )
    what = "change of the output that changes most (log₂)" if len(folds) > 1 else "change (log₂)"
    return Findings(
        "disrupt",
        f"Sites by place: {numbers['genes']:,} genes, {len(table):,} bins",
        {
            "Model": knockout.model.id,
            "Genes": f"{numbers['genes']:,}",
            "Bins with sites": f"{len(table):,}",
            "Outputs": f"{n_outputs:,}",
        },
        (
            "A change is the prediction without the sites of a bin minus the prediction with all "
            "sites, worked out exactly. Experiments of which only target genes are known have no "
            "places, so they stay; where they are many they hide what places matter.",
        ),
        tables,
        {
            "bins": (
                f"Changes along promoter and RNA of the first {len(shown)} genes",
                figures.bins(drawn, shown, what),
            )
        },
        numbers,
        [
            f"{len(table):,} bins of {numbers['genes']:,} genes; left out: "
            f"{len(numbers['not_disrupted'])} names without sites or unknown"
        ],
    )


def _rows(knockout: Knockout, genes: Iterable[str] | None) -> tuple[IntArray, dict[str, str]]:
    """Find the rows of genes, all if none are named, and the status of what has no row."""
    asked = knockout.model.rows_of(as_list(genes), knockout.bound)
    if not asked.rows.size:
        first = next(iter(asked.lost), "")
        raise InputError(
            f"none of {len(asked.lost)} genes is known, such as {first!r}",
            remedy=asked.hint or "Give Ensembl ids or symbols.",
        )
    return asked.rows, asked.lost
