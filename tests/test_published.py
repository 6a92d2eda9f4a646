"""What the repository publishes is in step with itself: registry, cards, README, sizes."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

import decode_zoo as dz
from conversion import publish
from decode_zoo.registry import load_registry
from decode_zoo.training.dataset import Selection, make_dataset

ROOT = Path(__file__).resolve().parents[1]
CARD = (ROOT / "model_cards/gtex-tissue-decode-v1.md").read_text(encoding="utf-8")


def test_registry_describes_the_files_in_zoo():
    assert load_registry(ROOT / "registry.yaml") == publish.make_registry()


def test_cards_state_the_facts_of_the_artifacts():
    for path, text in publish.cards().items():
        assert path.read_text(encoding="utf-8") == text, f"run conversion/publish.py ({path.name})"


def test_a_card_without_its_block_is_an_error():
    with pytest.raises(dz.DecodeZooError, match="lacks the lines"):
        publish.with_facts("no block here", "facts")


def test_scores_on_card_and_readme_are_those_measured():
    path = ROOT / "docs/gtex-tissue-decode-v1.scores.tsv"
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for name, label in (
        ("decode", "this network"),
        ("decode_mean_of_repeats", "mean of the ten repeats"),
        ("ridge", "ridge regression"),
        ("bound_tf_count", "number of bound promoter tracks"),
    ):
        scores = {
            row["output"]: float(row["spearman"])
            for row in rows
            if row["model"] == name and row["part"] == "test"
        }
        median = scores.pop("median_log2_tpm")
        assert len(scores) == 53
        found = re.search(rf"\| {label}[^|]*\| ([\d.]+) \| ([\d.]+) \|", CARD)
        assert found, label
        assert float(found[1]) == pytest.approx(sum(scores.values()) / 53, abs=6e-4)
        assert float(found[2]) == pytest.approx(median, abs=6e-4)
    metrics = dz.load("gtex-tissue-decode-v1").manifest.metrics["test"]
    line = f"{metrics['fold_change_spearman']:.3f} / {metrics['median_spearman']:.3f}"
    assert line in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.shared
def test_the_training_never_saw_chr1_or_chr8(shared):
    """Split and scales of the manifest, recomputed from the data without the held-out genes."""
    manifest = dz.load("gtex-tissue-decode-v1").manifest
    features = dz.load_features("hg38-open-v1")
    matrix = dz.read_expression(shared / "data/expression/gtex_tissue_log2tpm.tsv.gz")
    chroms = dict(zip(features.rows.ids, features.rows.chroms, strict=True))
    where = np.array([chroms.get(gene, "") for gene in matrix.index])
    assert not (where == "8").any()
    recorded = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in manifest.training["selection"].items()
    }
    assert (recorded["test"], recorded["absent"]) == (("1",), ("8",))
    kernels = manifest.network.kernels
    whole = make_dataset(features, dz.make_targets(matrix), kernels, Selection(**recorded))
    counts = manifest.training["genes"]
    for part in ("training", "validation", "test"):
        assert len(getattr(whole.split, part)) == counts[part]
    # Noise on chr1 changes nothing that training uses.
    noisy = matrix.copy()
    held = np.random.default_rng(0).uniform(-2, 12, ((where == "1").sum(), matrix.shape[1]))
    noisy.loc[where == "1"] = held
    blind = make_dataset(features, dz.make_targets(noisy), kernels, Selection(**recorded))
    for dataset in (whole, blind):
        assert dataset.outputs == manifest.outputs
        for side, frozen in manifest.inputs.items():
            assert dataset.tracks[side] == tuple(track.name for track in frozen.tracks)
            assert tuple(dataset.scale[side]) == frozen.scale


def test_artifacts_keep_to_their_sizes():
    files = load_registry(ROOT / "registry.yaml").resolve("hg38-open-v1").files
    assert files["sites.npz"].size < 60e6
    assert files["pooled.npz"].size < 20e6


def test_published_features_name_every_track():
    features = dz.load_features("hg38-open-v1")
    assert len(features) == 57992
    for side, count in (("promoter", 870), ("rna", 1223)):
        tracks = features.side_tracks[side]
        assert len({track.name for track in tracks}) == len(tracks) == count
        assert all(track.regulator and track.kind and track.source for track in tracks)
        assert all(len(track.sha256) == 64 for track in tracks)
    assert "SPI1@GM12878" in features.tracks("promoter")
