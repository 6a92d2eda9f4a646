"""Knock-outs: how fast, against running the whole network again for each.

    python -m benchmarks.knockouts [--all] [--mirror zoo]

Single knock-outs of a sample of genes (with --all, of all genes), and 10,000 random removals of a
pair of genes over all models of persons.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial

import numpy as np

import decode_zoo as dz
from decode_zoo.networks.backends import BLOCK
from decode_zoo.studies.knockouts import Knockout
from decode_zoo.studies.pairs import disrupt_pair, knock_out_pair

PERSONS = ("lcl", "gtex-heart", "gtex-liver", "gtex-brain", "gtex-blood")
PAIR = ("LAPTM5", "CD53")


def whole_network(knockout: Knockout, row: int, features: np.ndarray) -> float:
    """Seconds to predict a row with the back end, once for each of some features gone."""
    model, bound = knockout.model, knockout.bound
    sums = {side: part.dense() for side, part in bound.pooled(np.array([row])).items()}
    n = 1 + bound.n_tracks["promoter"]
    backend = model.backend()
    began = time.perf_counter()
    for start in range(0, features.size, BLOCK):
        part = features[start : start + BLOCK]
        block = {side: np.repeat(values, BLOCK, axis=0) for side, values in sums.items()}
        for i, feature in enumerate(part):
            gone = np.flatnonzero(knockout.resolution.of_channel == feature)
            block["promoter"][i, :, gone[gone < n]] = 0
            block["rna"][i, :, gone[gone >= n] - n] = 0
        backend.run(block)
    return time.perf_counter() - began


def single(say: Callable[..., None], every: bool) -> None:
    knockout = Knockout.make(dz.load("gtex-tissue-v1"))
    sample = np.arange(0, len(knockout.bound.features), 200)
    began, count, last = time.perf_counter(), 0, None
    for last in knockout.run(sample):
        count += last.features.size
    ours = (time.perf_counter() - began) / count
    row = int(knockout.bound.features.index.resolve(["TP53"]).rows[0])
    (deltas,) = knockout.run(np.array([row]))
    whole_network(knockout, row, deltas.features[:BLOCK])  # opens the back end
    theirs = whole_network(knockout, row, deltas.features) / deltas.features.size
    say(
        f"single: {1e6 * ours:.0f} us a knock-out of {len(knockout.outputs)} outputs; the whole "
        f"network again {1e6 * theirs:.0f} us: {theirs / ours:.1f} times as long"
    )
    if every:
        began, count = time.perf_counter(), 0
        for deltas in knockout.run(np.arange(len(knockout.bound.features))):
            count += deltas.features.size
        took = time.perf_counter() - began
        say(f"all {len(knockout.bound.features):,} genes: {count:,} knock-outs, {took:.0f} s")


def pairs(say: Callable[..., None]) -> None:
    total = places = 0.0
    for name in PERSONS:
        model = dz.load(f"{name}-person-v1")
        folds = [output.name for output in model.manifest.outputs if output.kind == "fold_change"]
        knockout = Knockout.make(model, outputs=folds, precision="single")
        rows = tuple(knockout.bound.features.index.resolve(list(PAIR)).rows.tolist())
        began = time.perf_counter()
        study = knock_out_pair(knockout, rows)
        took = time.perf_counter() - began
        total += took
        first = study.regression.iloc[0]
        began = time.perf_counter()
        disrupt_pair(knockout, rows)
        placed = time.perf_counter() - began
        places += placed
        say(
            f"{model.id}: 10,000 knock-outs of {'-'.join(PAIR)} {took:.1f} s (first: "
            f"{first['term']}), 2 x 10,000 of bins {placed:.1f} s"
        )
    say(f"all {len(PERSONS)} models: {total:.1f} s by regulator, {places:.1f} s by place")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="Knock out on all genes, too.")
    arguments = parser.parse_args()
    say = partial(print, flush=True)
    pairs(say)
    single(say, arguments.all)
    say(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
