"""Studies of removals: from models and genes to tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from decode_zoo.errors import InputError, UsageError
from decode_zoo.model import Model
from decode_zoo.provenance import plain, provenance
from decode_zoo.studies.findings import Findings, Format
from decode_zoo.studies.removal.disruption import disrupt
from decode_zoo.studies.removal.knockout import By, Deltas, Effects, Knockout
from decode_zoo.studies.removal.pair import PairStudy, RemoveFrom, disrupt_pair, knock_out_pair
from decode_zoo.studies.removal.tables import (
    STRONGEST,
    Strongest,
    across_models,
    bins_frame,
    double_frame,
    last_label,
    models_frame,
    regressions,
    rows_of_labels,
    sides_frame,
    write_deltas,
)

__all__ = ["study_disruption", "study_knockout", "study_pair"]

IntArray = npt.NDArray[np.int64]
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

    Parameters
    ----------
    model : Model
    genes : iterable of str, optional
        All genes of the feature set if not given.
    folder : Path
        Where ``deltas.tsv`` (or ``.parquet``) is written, while the work goes on: a row a gene and
        regulator that has sites on it, a column an output.
    by : {"class", "regulator", "track"}
    outputs : sequence of str, optional
        All if not given.
    regulators : sequence of str, optional
        What to knock out; everything if not given. ``RBP:YY1`` where classes share a name.
    double : sequence of (str, str)
        Pairs to knock out together, too.
    table_format : {"tsv", "parquet"}
    command, facts
        For the provenance.
    progress : callable
        Is told how many genes are done, and of how many.

    Raises
    ------
    UsageError
        If an output or a regulator is unknown, or the network does not pool exactly.
    InputError
        If no gene is known.
    """
    knockout = Knockout.make(model, by=by, outputs=outputs)
    only = None if regulators is None else [knockout.find(name) for name in regulators]
    pairs = [(knockout.find(one), knockout.find(two)) for one, two in double]
    if any(one == two for one, two in pairs):
        raise UsageError("A pair to knock out together is twice the same.")
    rows, lost = _rows(model, genes, knockout)
    n_features = len(knockout.resolution.features)
    effects: Effects | None = None
    strongest = Strongest()

    def seen() -> Iterator[Deltas]:
        nonlocal effects
        done = 0
        for deltas in knockout.run(rows, only):
            part = Effects.of(deltas, n_features)
            effects = part if effects is None else effects + part
            strongest.add(deltas)
            done += deltas.rows.size
            progress(done, rows.size)
            yield deltas

    write_deltas(folder / f"deltas.{table_format}", knockout, seen(), table_format)
    if effects is None or not effects.present.any():
        raise InputError(
            "none of these genes has sites of what is to be knocked out",
            remedy="See which there are: decode-zoo explain --by track",
        )
    table = effects.to_frame(knockout.resolution, knockout.outputs)
    found = strongest.to_frame(knockout)
    tables = {
        "regulators": ("Regulators, over the genes that have their sites", table),
        "strongest": (f"Largest single changes (up to {STRONGEST:,})", found),
    }
    if pairs:
        tables["double"] = (
            "Double knock-outs: interaction is what both change beyond the sum of each",
            double_frame(knockout, rows, pairs),
        )
    n_pairs = int(effects.present.sum())
    numbers = {
        "genes": rows.size,
        "not_knocked_out": lost,
        "knockouts": n_pairs,
        "by": by,
        "outputs": [output.name for output in knockout.outputs],
        "provenance": provenance(command, **_origin(knockout), **(facts or {})),
    }
    from decode_zoo.studies.removal import figures

    features = table.head(_SHOWN)
    places = rows_of_labels(knockout, features)
    means = effects.total[places] / effects.present[places, None]
    pictures = {"effects": ("Regulators of largest effect", figures.effects(table, rows.size))}
    if len(knockout.outputs) > 1:
        folds = [i for i, o in enumerate(knockout.outputs) if o.kind == "fold_change"]
        shown = folds or list(range(len(knockout.outputs)))
        pictures["outputs"] = (
            "Mean change by output, regulators of largest effect",
            figures.by_output(
                [str(name) for name in features[last_label(features)]],
                [knockout.outputs[i].name for i in shown],
                means[:, shown],
            ),
        )
    return Findings(
        "knockout",
        f"Knock-outs of {len(table):,} regulators on {rows.size:,} genes",
        {
            "Model": model.id,
            "Genes": f"{rows.size:,}",
            "Knock-outs": f"{n_pairs:,}",
            "Outputs": f"{len(knockout.outputs):,}",
            "Strongest": str(table[last_label(table)].iloc[0]),
        },
        (
            "A change is the prediction without a regulator's sites minus the prediction with "
            "them, worked out exactly for each gene: what the model has learned, no experiment. "
            "Regulators that bind the same places share what they stand for, and each by itself "
            "then changes little.",
            f"All changes are in deltas.{table_format}: a row a gene and regulator, a column an "
            "output; what is not there has no sites and changes nothing.",
        ),
        tables,
        pictures,
        numbers,
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

    Parameters
    ----------
    models : sequence of Model
        Outputs are persons.
    pair : (str, str)
        Ids or symbols of the genes.
    by : {"class", "regulator", "track"}
    removals : int
        Random removals, of each kind.
    remove_from : {"both", "first", "second"}
        Genes that lose a regulator's sites (the original software: first).
    positions : bool
        Whether to remove bins, too (needs the feature sets' positions).
    seed : int
    command : sequence of str
        For the provenance.
    progress : callable
        Is told how many models are done, and of how many.

    Raises
    ------
    UsageError
        If a model has too few outputs, the genes are the same, or removals are too few.
    InputError
        If a gene is unknown.
    ArtifactError
        If positions are needed and cannot be had.
    """
    if not models or len({model.id for model in models}) < len(models):
        raise UsageError("Name one model at least, and each once.")
    regulators, places, origins = list[PairStudy](), list[PairStudy](), list[dict[str, Any]]()
    genes: dict[str, str] = {}
    for number, model in enumerate(models):
        folds = [o.name for o in model.manifest.outputs if o.kind == "fold_change"]
        if not folds:
            raise UsageError(
                f"{model.id} predicts no fold changes.", remedy="Choose a model of persons."
            )
        knockout = Knockout.make(model, by=by, outputs=folds, precision="single")
        one, two = _pair_rows(knockout, pair)
        features = knockout.bound.features.rows
        genes = {
            features.ids[row]: features.symbols[row] or features.ids[row] for row in (one, two)
        }
        regulators.append(
            knock_out_pair(
                knockout, (one, two), removals=removals, remove_from=remove_from, seed=seed
            )
        )
        if positions:
            places.extend(disrupt_pair(knockout, (one, two), removals=removals, seed=seed))
        origins.append(_origin(knockout))
        progress(number + 1, len(models))
    ids, names = [model.id for model in models], list(genes.values())
    table = regressions(regulators)
    tables = {
        "models": ("Models", models_frame(regulators, places, names)),
        "across": ("Regulators over all models, by mean rank", across_models(table, len(models))),
        "regression": ("Regression of co-expression on knock-outs", table),
    }
    from decode_zoo.studies.removal import figures

    title = f"{names[0]} and {names[1]}"
    pictures = {
        "removals": ("Co-expression after random knock-outs", figures.removals(regulators, title)),
        "regulators": ("Change of co-expression by knock-out", figures.terms(table, ids)),
    }
    if positions:
        bins = regressions(places)
        tables["intervals"] = ("Regression of co-expression on removed bins", bins)
        pictures["intervals"] = (
            "Change of co-expression by removal of a bin",
            figures.intervals(bins, genes, ids),
        )
    best = tables["across"][1].iloc[0]
    return Findings(
        "pair",
        f"{title}: what holds them together",
        {
            "Models": f"{len(models)}",
            "Removals": f"{removals:,} each",
            "Co-expression as predicted": ", ".join(f"{s.intact:.2f}" for s in regulators),
            "First regulator": f"{best['term']} ({best['significant']} of {len(models)} models)",
        },
        (
            f"Co-expression is Spearman's rho of both predictions over persons. {removals:,} times "
            "a random half of the regulators lost its sites "
            f"({'on both genes' if remove_from == 'both' else f'on the {remove_from} gene only'}); "
            "an estimate is by how much rho changes, on average over what else is gone, with that "
            "regulator's removal: below zero, it holds the genes together.",
            "Standard errors and p values are those of the simulation: more removals make them as "
            "small as one likes. They tell a change from none in this model, not whether the model "
            "is right; Bonferroni over the regulators of a model.",
        ),
        tables,
        pictures,
        plain(
            {
                "pair": names,
                "genes": list(genes),
                "by": by,
                "removals": removals,
                "remove_from": remove_from,
                "seed": seed,
                "provenance": provenance(command, models=origins),
            }
        ),
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
    """Take the sites of each bin of each gene away, one by one.

    Parameters
    ----------
    model : Model
    genes : iterable of str, optional
        All genes of the feature set if not given.
    outputs : sequence of str, optional
        All if not given.
    command, facts
        For the provenance.
    progress : callable
        Is told how many genes are done, and of how many.

    Raises
    ------
    UsageError
        If an output is unknown, or the network does not pool exactly.
    InputError
        If no gene is known, or none has sites with positions.
    ArtifactError
        If the feature set's positions cannot be had.
    """
    knockout = Knockout.make(model, outputs=outputs)
    rows, lost = _rows(model, genes, knockout)
    names = [output.name for output in knockout.outputs]
    frames, wholes, drawn = list[pd.DataFrame](), list[pd.DataFrame](), list[pd.DataFrame]()
    features = knockout.bound.features.rows
    folds = [i for i, output in enumerate(knockout.outputs) if output.kind == "fold_change"]
    over = folds or list(range(len(names)))
    for done, found in enumerate(disrupt(knockout, rows), 1):
        frames.append(bins_frame(found, features, names))
        wholes.append(sides_frame(found, features, names))
        if len(drawn) < _DRAWN and len(found.bins):
            change = found.changes[:, over]
            # The largest in either direction tells more than a mean in which tissues cancel.
            pick = np.abs(change).argmax(axis=1)
            drawn.append(
                pd.DataFrame(
                    {
                        "gene": features.ids[found.row],
                        "side": found.bins["side"],
                        "bin": found.bins["bin"],
                        "change": change[np.arange(len(change)), pick],
                    }
                )
            )
        progress(done, rows.size)
    table = pd.concat(frames, ignore_index=True)
    if not len(table):
        raise InputError("none of these genes has sites with positions")
    from decode_zoo.studies.removal import figures

    shown = {str(part["gene"].iloc[0]): "" for part in drawn}
    symbols = dict(zip(features.ids, features.symbols, strict=True))
    shown = {gene: symbols[gene] or gene for gene in shown}
    what = "change of the output that changes most (log₂)" if len(over) > 1 else "change (log₂)"
    return Findings(
        "disrupt",
        f"Sites by place: {rows.size:,} genes, {len(table):,} bins",
        {
            "Model": model.id,
            "Genes": f"{rows.size:,}",
            "Bins with sites": f"{len(table):,}",
            "Outputs": f"{len(names):,}",
        },
        (
            "A change is the prediction without the sites of a bin minus the prediction with all "
            "sites, worked out exactly. Experiments of which only target genes are known have no "
            "places, so they stay; where they are many they hide what places matter.",
        ),
        {
            "bins": ("Changes by bin", table),
            "sides": (
                "Changes if all sites with positions go",
                pd.concat(wholes, ignore_index=True),
            ),
        },
        {
            "bins": (
                f"Changes along promoter and RNA of the first {len(shown)} genes",
                figures.bins(pd.concat(drawn, ignore_index=True), shown, what),
            )
        },
        plain(
            {
                "genes": rows.size,
                "not_disrupted": lost,
                "outputs": names,
                "provenance": provenance(command, **_origin(knockout), **(facts or {})),
            }
        ),
    )


def _origin(knockout: Knockout) -> dict[str, Any]:
    return knockout.model.provenance(knockout.bound, knockout.model.backend("numpy"))


def _rows(
    model: Model, genes: Iterable[str] | None, knockout: Knockout
) -> tuple[IntArray, dict[str, str]]:
    if isinstance(genes, str):
        raise UsageError("Give a list of genes, not a single string.", remedy=f"genes=[{genes!r}]")
    asked = model.rows_of(genes, knockout.bound)
    if not asked.rows.size:
        first = next(iter(asked.lost), "")
        raise InputError(
            f"none of {len(asked.lost)} genes is known, such as {first!r}",
            remedy=asked.hint or "Give Ensembl ids or symbols.",
        )
    return asked.rows, asked.lost


def _pair_rows(knockout: Knockout, pair: tuple[str, str]) -> tuple[int, int]:
    found = knockout.bound.features.index.resolve(list(pair))
    for name, row, status in zip(pair, found.rows, found.status, strict=True):
        if row < 0:
            raise InputError(
                f"{name!r} is not known ({status})", remedy="Give an Ensembl id or a symbol."
            )
    one, two = found.rows.tolist()
    if one == two:
        raise UsageError(f"{pair[0]} and {pair[1]} are one gene.")
    return one, two
