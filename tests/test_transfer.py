"""From a base to a cohort's bundle: what a training that was stopped may go on with, and names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.cohort.persons import read_codes
from decode_zoo.errors import InputError, UsageError

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from decode_zoo.training.transfer import _code_prefix, _fingerprint, cohort_dataset, finetune_bundle
from tests.made import describe
from tests.test_finetune import ALONE, FIT, base, cohort, dataset  # noqa: F401


def test_other_data_or_another_split_is_another_training(dataset):  # noqa: F811
    own = _fingerprint(dataset)
    assert own == _fingerprint(replace(dataset))
    told = dataset.targets
    values = told.values.copy()
    values[3, 2] += 1e-9
    split = dataset.split
    moved = replace(split, training=np.append(split.training, split.test[:1]), test=split.test[1:])
    names = ("other", *told.names[1:])
    others = [
        replace(dataset, targets=replace(told, values=values)),
        replace(dataset, targets=replace(told, names=names)),
        replace(dataset, split=moved),
    ]
    assert len({own, *map(_fingerprint, others)}) == 4


def test_a_base_that_was_split_by_gene_needs_a_split(base, cohort, tmp_path):  # noqa: F811
    genes = cohort.gene_ids
    parts = np.resize(["training", "validation", "training", "test"], len(genes))
    split = dict(zip(genes, parts.tolist(), strict=True))
    first = finetune_bundle(
        base,
        cohort,
        tmp_path / "first-v1",
        describe("first-v1"),
        fit=FIT,
        transfer=ALONE,
        split=split,
    )
    training = first.manifest.training
    assert len(training["test_genes"]) == training["genes"]["test"]
    assert {split[gene] for gene in training["test_genes"]} == {"test"}
    with pytest.raises(UsageError, match="split one by one"):
        cohort_dataset(first, cohort)
    assert len(cohort_dataset(first, cohort, split).split.test) == training["genes"]["test"]

    from decode_zoo.evaluation.comparison import held_out_genes
    from decode_zoo.studies.measured import tested_rows

    assert sorted(held_out_genes(first)) == training["test_genes"]
    rows = tested_rows(first, first.bind())
    assert sorted(first.features.rows.gene_ids[row] for row in rows) == training["test_genes"]


def test_chromosomes_say_which_genes_a_model_was_tested_on(base):  # noqa: F811
    assert "test_genes" not in base.manifest.training


def test_no_code_is_the_name_of_a_person():
    assert _code_prefix(["a", "P", "Px1"]) == "P"
    assert _code_prefix(["P1", "x"]) == "PP"
    assert _code_prefix(["P1", "PP12"]) == "PPP"


def test_settings_of_fine_tuning_are_not_for_training_from_scratch(call, tmp_path):
    code, _, err = call(
        "finetune", tmp_path, "--from-scratch", "--set", "max_epochs=1", "-o", tmp_path / "out"
    )
    assert code == 2
    assert "--set is for fine-tuning" in err


@pytest.mark.fault
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("person\tcode\nA\tP1\n", "its header must be"),
        ("code\tperson\nP1\n", "a code and a person"),
        ("code\tperson\nP1\tA\nP2\tA\n", "'A' is there twice"),
        ("code\tperson\nP1\tA\nP1\tB\n", "'P1' is there twice"),
        ("", "its header must be"),
    ],
)
def test_codes_that_are_none_are_refused(tmp_path, text, message):
    (tmp_path / "codes.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_codes(tmp_path / "codes.tsv")


def test_codes_are_read(tmp_path):
    (tmp_path / "codes.tsv").write_text("code\tperson\nP2\tA\nP1\tB\n")
    assert read_codes(tmp_path / "codes.tsv") == {"A": "P2", "B": "P1"}


def test_the_published_model_of_one_chromosome_names_its_test_genes():
    model = dz.load("gtex-blood-person-v1")
    training = model.manifest.training
    assert len(training["test_genes"]) == training["genes"]["test"] == 280
    assert not set(training["test_genes"]) & set(training["validation_genes"])


def test_traits_of_persons_with_codes(call, tmp_path):
    """The same study, whether persons have names or codes."""
    pytest.importorskip("pylimma")
    model = dz.load("gtex-heart-person-v1")
    random = np.random.default_rng(0)
    names = [f"donor{i}" for i in range(12)]
    outputs = [o.name for o in model.manifest.outputs if o.kind == "fold_change"][:12]
    genes = [
        gene
        for gene, chrom in zip(
            model.features.rows.gene_ids, model.features.rows.chroms, strict=True
        )
        if chrom == "1"
    ][:40]
    matrix = pd.DataFrame(random.normal(5, 1, (40, 12)), genes, names)
    matrix.to_csv(tmp_path / "x.tsv", sep="\t", index_label="gene_id")
    pd.DataFrame({"part": ["a", "b"] * 6}, names).to_csv(
        tmp_path / "p.tsv", sep="\t", index_label="person"
    )
    pd.DataFrame({"code": outputs, "person": names}).to_csv(
        tmp_path / "codes.tsv", sep="\t", index=False
    )
    common = (
        "study",
        "traits",
        "--model",
        "gtex-heart-person-v1",
        tmp_path / "x.tsv",
        "--persons",
        tmp_path / "p.tsv",
        "--trait",
        "part",
        "--permutations",
        5,
    )
    code, _, err = call(*common, "-o", tmp_path / "without")
    assert code == 4
    assert "no person of the table" in err
    code, _, err = call(*common, "--codes", tmp_path / "codes.tsv", "-o", tmp_path / "with")
    assert code == 0, err
    assert "12 persons" in err
    common = ("evaluate", tmp_path / "x.tsv", "--scale", "log2", "--model", "gtex-heart-person-v1")
    code, _, err = call(*common, "-o", tmp_path / "nobody")
    assert code == 4
    code, _, err = call(*common, "--codes", tmp_path / "codes.tsv", "-o", tmp_path / "evaluated")
    assert code == 0, err
    assert "12 are in both" in err
