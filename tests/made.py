"""A feature set of made-up genes, and expression that follows its sites: to train on in a moment.

Larger than the toy zoo (`tests.toy`), from which networks could learn nothing. Genes are on
chromosomes 1 to 5 and 8; the first few have names of real ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from decode_zoo import Model
from decode_zoo.cohort.expression import Targets, make_targets
from decode_zoo.core.files import sha256_of
from decode_zoo.features.featureset import FeatureSet, Rows
from decode_zoo.features.pooling import SitePieces
from decode_zoo.features.spec import Binning, Track
from decode_zoo.networks.manifest import Split
from decode_zoo.networks.perceptron import PerceptronConfig
from decode_zoo.training.members import PerceptronFit
from decode_zoo.training.pipeline import Description, train_bundle

ID = "made-sites-v1"
N_GENES = 480
NAMED = ("APP", "SOD1", "PRNP", "MALAT1")
TISSUES = ("Liver", "Lung", "Spleen", "Testis")
CELLS = ("HepG2", "HEPG2", "Hep-G2_NC", "K562", "")
# How many tracks of each side follow sites of their own class; behind them stands one of another
# class, and one that hardly any gene has.
N_PROMOTER, N_RNA = 12, 8
SELECTION = Split(kinds=("tf", "rbp"), absent=("8",))


def make_tracks(prefix: str, kind: str, other: str, count: int) -> tuple[Track, ...]:
    """Return tracks of several cells and sources; the last but one is of another class."""
    sources = ["TFEA.ChIP, enhancers" if i % 4 == 3 else "ENCODE" for i in range(count)]
    usual = [
        Track(f"{prefix}{i}@{CELLS[i % 5]}", f"{prefix}{i}", kind, CELLS[i % 5], sources[i])
        for i in range(count)
    ]
    last = [Track(f"{prefix}-{name}", name, name, "", "ENCODE") for name in (other, kind)]
    return (*usual, *last)


def make_pieces(rng: np.random.Generator, n_tracks: int, longest: np.ndarray) -> SitePieces:
    """Return at most one site of each track on each gene."""
    part = np.array([0.4] * (n_tracks - 1) + [0.004])
    bound = rng.random((len(longest), n_tracks)) < part
    rows, tracks = np.nonzero(bound)
    lengths = rng.integers(20, 200, rows.size)
    starts = (rng.random(rows.size) * (longest[rows] - lengths)).astype(np.int64)
    indptr = np.concatenate(([0], np.cumsum(bound.sum(axis=1))))
    return SitePieces(indptr, tracks, starts, starts + lengths)


def make_features(folder: Path) -> FeatureSet:
    """Write the feature set to a folder."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(300, 3000, N_GENES)
    ids = [f"ENSG{i:011d}" for i in range(N_GENES)]
    rows = Rows(
        ids,
        ids,
        [*NAMED, *(f"G{i}" for i in range(len(NAMED), N_GENES))],
        ["protein_coding" if i % 3 else "lncRNA" for i in range(N_GENES)],
        [("1", "2", "3", "4", "5")[i % 5] if i % 20 else "8" for i in range(N_GENES)],
        [1] * N_GENES,
        [10_000] * N_GENES,
        lengths.tolist(),
    )
    layout = Binning()
    tracks = {
        "promoter": make_tracks("P", "tf", "histone", N_PROMOTER),
        "rna": make_tracks("R", "rbp", "mirna", N_RNA),
    }
    made = FeatureSet(layout, rows, tracks, {}, "0", lambda name: folder / name)
    pieces = {
        "promoter": make_pieces(rng, N_PROMOTER + 2, np.full(N_GENES, layout.window)),
        "rna": make_pieces(rng, N_RNA + 2, lengths),
    }
    exons = np.ones(N_GENES, np.int64), np.full(N_GENES, 10_000), lengths
    folder.mkdir(parents=True, exist_ok=True)
    made.write(folder, pieces, np.zeros((0, 3), np.int64), exons)
    return FeatureSet.load(folder)


def make_expression(features: FeatureSet) -> Targets:
    """Return expression of four tissues that follows binding at promoters, and noise."""
    rng = np.random.default_rng(1)
    roots = np.sqrt(features.sums("promoter")[0].toarray()[:, :N_PROMOTER])
    signal = (roots - roots.mean(0)) / roots.std(0)
    values = signal @ rng.normal(size=(N_PROMOTER, 4)) * 0.3 + rng.normal(size=(N_GENES, 4)) * 0.3
    values += 5 + 0.5 * signal[:, :1]
    return make_targets(pd.DataFrame(values, index=list(features.genes), columns=list(TISSUES)))


def make_zoo(folder: Path) -> FeatureSet:
    """Write a registry with the feature set, to be found by its id."""
    features = make_features(folder / "features" / ID)
    files = {
        path.name: {"sha256": sha256_of(path), "size": path.stat().st_size}
        for path in sorted((folder / "features" / ID).iterdir())
    }
    entry = {"kind": "features", "title": "Made up", "license": "CC0-1.0", "citation": "nobody"}
    registry = {"format_version": 1, "mirrors": [], "artifacts": {ID: {**entry, "files": files}}}
    (folder / "registry.yaml").write_text(yaml.safe_dump(registry), encoding="utf-8")
    return features


def describe(name: str) -> Description:
    """Return what a bundle that is trained on the made-up genes says of itself."""
    sources, data, command = ("made up",), {"x.tsv": "0" * 64}, ("pytest",)
    return Description(name, "a test", "CC0-1.0", "nobody", sources, ID, data, command)


def train_perceptron(features: FeatureSet, folder: Path) -> Model:
    """Train a perceptron on all of it, with the usual interplay of members."""
    return train_bundle(
        features,
        make_expression(features),
        folder,
        describe("sums-v1"),
        network=PerceptronConfig(encoder_width=16, dense_width=24, members=2),
        fit=PerceptronFit(seeds=(1, 2), epochs=30, batch_size=32, dense_dropout=0.1),
        selection=SELECTION,
    )


def write_matrix(targets: Targets, path: Path) -> Path:
    """Write the expression that targets are of, as log2(TPM + 0.25)."""
    log2 = targets.values[:, :-1] + targets.values[:, -1:]
    frame = pd.DataFrame(log2, pd.Index(targets.gene_ids, name="gene_id"), targets.names[:-1])
    frame.to_csv(path, sep="\t")
    return path
