"""What the repository publishes is in step with itself: registry, cards, README, sizes."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from conversion import publish
from conversion.gtex_tissue_v1 import BINDING, MIN_TPM
from decode_zoo.features.spec import SIDES
from decode_zoo.training.dataset import known_genes, make_dataset, split_genes
from decode_zoo.training.members import standardisation_of
from decode_zoo.zoo.registry import load_registry

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = ["gtex-tissue-v1", "gtex-tissue-chromatin-v1", "gtex-tissue-decode-v1"]
SAMPLES = [
    "lcl-person-v1",
    "gtex-heart-person-v1",
    "gtex-liver-person-v1",
    "gtex-brain-person-v1",
    "gtex-blood-person-v1",
]
CARD = (ROOT / "model_cards/gtex-tissue-decode-v1.md").read_text(encoding="utf-8")


def test_registry_describes_the_files_in_zoo():
    assert load_registry(ROOT / "registry.yaml") == publish.make_registry()


def test_cards_state_the_facts_of_the_artifacts():
    for path, text in publish.cards().items():
        assert path.read_text(encoding="utf-8") == text, f"run conversion/publish.py ({path.name})"


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
    assert line in README


@pytest.fixture(scope="module")
def tissues(shared):
    return dz.read_expression(shared / "data/expression/gtex_tissue_log2tpm.tsv.gz")


@pytest.mark.shared
@pytest.mark.parametrize("name", MODELS)
def test_the_training_never_saw_chr1_or_chr8(tissues, name):
    """Split and scales of the manifest, recomputed from the data without the held-out genes."""
    manifest = dz.load(name).manifest
    features = dz.load_features(manifest.features["id"])
    matrix = tissues.copy()
    chroms = dict(zip(features.rows.ids, features.rows.chroms, strict=True))
    where = np.array([chroms.get(gene, "") for gene in matrix.index])
    assert not (where == "8").any()
    selection = manifest.training.selection
    assert (selection.test, selection.absent) == (("1",), ("8",))
    limit = 2.0 if manifest.family == "decode" else MIN_TPM
    targets, rows = known_genes(features, dz.make_targets(matrix, min_tpm=limit))
    split, counts = split_genes(features, targets, rows, selection), manifest.training.genes
    for part in ("training", "validation", "test"):
        assert len(getattr(split, part)) == counts[part]
    assert targets.outputs(split.training) == manifest.outputs
    # Noise on chr1 changes nothing that training uses.
    held = np.random.default_rng(0).uniform(-2, 12, ((where == "1").sum(), matrix.shape[1]))
    matrix.loc[where == "1"] = held
    targets = dz.make_targets(matrix, min_tpm=limit)
    noisy = make_dataset(features, targets, manifest.network.kernels, selection)
    assert noisy.outputs == manifest.outputs
    scale = noisy.scale
    if manifest.family == "perceptron":
        inputs = standardisation_of(noisy, manifest.network.limit)
        scale = {side: inputs[side].scale for side in SIDES}
    for side, frozen in manifest.inputs.items():
        assert noisy.tracks[side] == tuple(track.name for track in frozen.tracks)
        assert tuple(scale[side]) == frozen.scale


@pytest.mark.parametrize("name", [*MODELS, *SAMPLES, "de-prior-v1"])
def test_models_answer_as_published_and_their_scores_add_up(name):
    model = dz.load(name)
    for backend in ("numpy", "onnxruntime"):
        assert model.check_known_answers(model.backend(backend, "cpu")) <= 1e-5
    assert max(model.manifest.parity.values()) <= 1e-5
    found = model.explain(["TP53", "ALB", "MALAT1", "XIST"], by="track")
    scale = np.array([output.scale for output in model.manifest.outputs])
    assert (np.abs(found.delta) / scale).max() <= 1e-5


def test_the_default_model_sees_binding_alone():
    manifest = dz.load(load_registry(ROOT / "registry.yaml").default_model).manifest
    kinds = {track.kind for frozen in manifest.inputs.values() for track in frozen.tracks}
    assert kinds == set(BINDING)


@pytest.mark.parametrize("name", ["gtex-tissue-v1", "gtex-tissue-chromatin-v1"])
def test_scores_on_readme_are_those_of_the_manifest(name):
    metrics = dz.load(name).manifest.metrics["test"]
    line = f"{metrics['fold_change_spearman']:.3f} / {metrics['median_spearman']:.3f}"
    (row,) = [row for row in README.splitlines() if row.startswith(f"| [`{name}`]")]
    assert line in row


@pytest.mark.parametrize(
    ("name", "promoter", "rna"), [("hg38-open-v1", 870, 1223), ("hg38-open-v2", 2953, 1227)]
)
def test_published_features_name_every_track(name, promoter, rna):
    features = dz.load_features(name)
    assert len(features) == 57992
    for side, count in (("promoter", promoter), ("rna", rna)):
        tracks = features.side_tracks[side]
        assert len({track.name for track in tracks}) == len(tracks) == count
        assert all(track.regulator and track.kind and track.source for track in tracks)
        assert all(len(track.sha256) == 64 for track in tracks)
    assert "SPI1@GM12878" in features.tracks("promoter")


COMPARED = {
    "gtex-tissue-v1": "ours",
    "this model": "ours",
    "kernel ridge regression": "kernel_ridge",
    "published network, mean of three": "decode_mean",
    "published network, best of three": "decode",
    "ridge regression": "ridge",
    "ridge regression on the same tracks": "ridge",
    "LightGBM, 8 tissues and the median": "lightgbm",
    "number of bound TF tracks": "bound_tf_count",
    "length of the RNA": "rna_length",
}
CONTROLS = {
    "RNA, shuffled": "rna_permuted",
    "promoter, shuffled": "promoter_permuted",
    "both, shuffled": "both_permuted",
    "tracks of HepG2": "without_hepg2",
    "targets by TFEA.ChIP": "without_tfea",
}
STATISTICS = ("mean of fold changes", "median_log2_tpm")


def chr1_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table of the comparison that are about chr1."""
    with path.open(encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream, delimiter="\t") if row["part"] == "test"]


def cells_of(text: str, columns: int) -> list[list[str]]:
    """Rows of Markdown tables of so many columns, without emphasis."""
    rows = [
        line.replace("**", "").split("|")[1:-1]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return [[cell.strip() for cell in row] for row in rows if len(row) == columns]


def numbers_in(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", cell.replace("−", "-"))]


@pytest.mark.parametrize(
    ("text", "columns", "tables", "at_least"),
    [
        ("docs/accuracy.md", 4, "docs/accuracy/binding", 8),
        ("model_cards/gtex-tissue-v1.md", 3, "docs/accuracy/binding", 6),
        ("model_cards/gtex-tissue-chromatin-v1.md", 3, "docs/accuracy/chromatin", 2),
    ],
)
def test_scores_in_texts_are_those_of_the_comparison(text, columns, tables, at_least):
    scores = {
        (row["model"], row["statistic"]): [float(row[k]) for k in ("spearman", "low", "high")]
        for row in chr1_rows(ROOT / tables / "summary.tsv")
    }
    leads = {
        (row["other"], row["output"]): [float(row[k]) for k in ("difference", "low", "high")]
        for row in chr1_rows(ROOT / tables / "differences.tsv")
        if row["model"] == "ours"
    }
    found = 0
    for label, *cells in cells_of((ROOT / text).read_text(encoding="utf-8"), columns):
        model = COMPARED.get(label)
        if model is None:
            continue
        found += 1
        for cell, statistic in zip(cells[:2], STATISTICS, strict=True):
            assert numbers_in(cell) == pytest.approx(scores[model, statistic], abs=6e-4), label
        if cells[2:] and model != "ours":
            expected = [number for statistic in STATISTICS for number in leads[model, statistic]]
            assert numbers_in(cells[2]) == pytest.approx(expected, abs=6e-4), label
    assert found >= at_least


def test_controls_in_the_text_are_those_of_the_comparison():
    folder = ROOT / "docs/accuracy/binding"
    scores = {
        (row["model"], row["statistic"]): float(row["spearman"])
        for row in chr1_rows(folder / "summary.tsv")
    }
    losses = {
        (row["model"], row["output"]): [-float(row[k]) for k in ("difference", "high", "low")]
        for row in chr1_rows(folder / "differences.tsv")
        if row["other"] == "ours_retrained"
    }
    rows = [
        row
        for row in cells_of((ROOT / "docs/accuracy.md").read_text(encoding="utf-8"), 4)
        if row[0] in CONTROLS
    ]
    assert {row[0] for row in rows} == set(CONTROLS)
    for label, *cells, loss in rows:
        model = f"ours_{CONTROLS[label]}"
        for cell, statistic in zip(cells, STATISTICS, strict=True):
            assert numbers_in(cell) == pytest.approx([scores[model, statistic]], abs=6e-4), label
        expected = [number for statistic in STATISTICS for number in losses[model, statistic]]
        if numbers_in(loss):
            assert numbers_in(loss) == pytest.approx(expected, abs=6e-4), label


@pytest.mark.parametrize("name", ["binding", "chromatin"])
def test_the_comparison_is_of_the_published_models(name):
    model = {"binding": "gtex-tissue-v1", "chromatin": "gtex-tissue-chromatin-v1"}[name]
    metrics = dz.load(model).manifest.metrics["test"]
    scores = {
        row["statistic"]: row
        for row in chr1_rows(ROOT / f"docs/accuracy/{name}/summary.tsv")
        if row["model"] == "ours"
    }
    for statistic, key in zip(STATISTICS, ("fold_change_spearman", "median_spearman"), strict=True):
        assert float(scores[statistic]["spearman"]) == pytest.approx(metrics[key], abs=5e-4)
        assert int(scores[statistic]["n_genes"]) == metrics["n_genes"]
    assert f"{metrics['fold_change_spearman']:.3f} / {metrics['median_spearman']:.3f}" in README


def test_samples_are_scored_as_their_cards_and_docs_say():
    table = pd.read_csv(ROOT / "docs/persons/persons.tsv", sep="\t")
    docs = (ROOT / "docs/persons.md").read_text(encoding="utf-8")
    assert set(table["model"]) == set(SAMPLES)
    for name in SAMPLES:
        card = (ROOT / f"model_cards/{name}.md").read_text(encoding="utf-8")
        means = table[table["model"] == name].groupby("variant")["rho"].mean()
        for variant, label in (
            ("published", r"\*\*this (?:model|recipe)\*\*"),
            ("encoders frozen", "encoders frozen, as in the paper"),
            ("from scratch", "the same network from scratch"),
            ("ridge", "ridge regression on the same tracks"),
        ):
            found = re.search(rf"\| {label} \| \**(−?[\d.]+)\** ?[(|]", card)
            assert found, (name, label)
            assert float(found[1].replace("−", "-")) == pytest.approx(means[variant], abs=6e-4)
        found = re.search(rf"\| {name} \| \d+ \| [^|]+ \| \*\*([\d.]+)\*\*", docs)
        assert float(found[1]) == pytest.approx(means["published"], abs=6e-4)
        manifest = dz.load(name).manifest
        first = table[(table["model"] == name) & (table["fold"] == 1)].set_index("variant")
        rho, median = manifest.spearman("test")
        assert first.loc["published", "rho"] == pytest.approx(rho, abs=2e-4)
        assert f"{rho:.3f}" in README
        assert f"{median:.3f}" in README
        assert manifest.training.base["id"] == "gtex-tissue-v1"


def test_the_de_prior_is_scored_as_card_and_docs_say():
    table = pd.read_csv(ROOT / "docs/persons/de_prior.tsv", sep="\t").set_index("variant")
    rho, _ = dz.load("de-prior-v1").manifest.spearman("test")
    assert table.loc["published", "rho"] == pytest.approx(rho, abs=2e-4)
    assert f"| {rho:.3f} |" in README
    for path in ("model_cards/de-prior-v1.md", "docs/persons.md"):
        text = (ROOT / path).read_text(encoding="utf-8")
        for row in table.itertuples():
            assert f"({row.low:.3f} to {row.high:.3f})" in text.replace("−", "-"), (path, row.Index)
            assert f"({row.auroc_low:.3f} to {row.auroc_high:.3f})" in text, (path, row.Index)


@pytest.mark.shared
@pytest.mark.parametrize("name", [*SAMPLES, "de-prior-v1"])
def test_fine_tuning_kept_to_the_split_of_the_base(shared, name):
    from conversion.person_models import targets_of
    from decode_zoo.training.transfer import cohort_dataset

    base = dz.load("gtex-tissue-v1")
    targets, split, data = targets_of(name, shared / "data/expression", base.features)
    manifest = dz.load(name).manifest
    assert {key: manifest.training.data[key] for key in data} == data
    dataset = cohort_dataset(base, targets, split)
    validation = {dataset.targets.gene_ids[i] for i in dataset.split.validation}
    assert validation == set(manifest.training.validation_genes)
    chroms = np.array(dataset.features.rows.chroms)[dataset.rows]
    if name != "gtex-blood-person-v1":
        assert set(chroms[dataset.split.test]) == {"1"}
        assert "1" not in set(chroms[dataset.split.training])
    assert "8" not in set(chroms)
    for part in ("training", "validation", "test"):
        assert len(getattr(dataset.split, part)) == manifest.training.genes[part]


def test_errata_are_told_and_are_no_part_of_an_artifacts_meaning(
    call: Callable[..., tuple[object, str, str]],
) -> None:
    registry = load_registry(ROOT / "registry.yaml")
    told = registry.artifacts["hg38-open-v2"]
    assert "ENCODE-rE2G" in str(told.erratum)
    assert replace(told, erratum=None) == told
    assert f"erratum     {told.erratum}\n" in call("info", "hg38-open-v2")[1]
    for name, artifact in registry.artifacts.items():
        card = (ROOT / f"model_cards/{name}.md").read_text(encoding="utf-8")
        assert ("## Erratum" in card) == (artifact.erratum is not None), name
