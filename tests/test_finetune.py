"""Fine-tuning: what is kept of the base, what is learned, what stopping half-way costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.cohort.expression import Targets
from decode_zoo.cohort.samples import read_sample_codes
from decode_zoo.core.errors import InputError, UsageError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.manifest import MEDIAN
from tests.made import describe, write_matrix

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from decode_zoo.training.checkpoints import Checkpoints
from decode_zoo.training.finetune import FinetuneFit, base_network, finetune_network
from decode_zoo.training.pipeline import predict_part
from decode_zoo.training.transfer import (
    Transfer,
    _code_prefix,
    _fingerprint,
    _validation_genes,
    check_membership,
    cohort_dataset,
    finetune_bundle,
    search_fit,
    unfinished_folder,
)

FIT = FinetuneFit(max_epochs=4, learning_rate=3e-3, batch_size=32, encoder_dropout=0.1)
SAMPLES = tuple(f"sample{i}" for i in range(12))


@pytest.fixture(scope="module")
def base(made_model):
    return made_model


@pytest.fixture(scope="module")
def cohort(targets):
    """Samples, each a mixture of the base's outputs."""
    rng = np.random.default_rng(1)
    fold = targets.values[:, :-1]
    samples = fold @ rng.normal(size=(fold.shape[1], len(SAMPLES)))
    samples += 0.3 * samples.std() * rng.normal(size=samples.shape)
    samples -= np.median(samples, axis=1, keepdims=True)
    values = np.hstack([samples, targets.values[:, -1:]])
    return Targets(targets.gene_ids, (*SAMPLES, MEDIAN), values)


@pytest.fixture(scope="module")
def dataset(base, cohort):
    return cohort_dataset(base, cohort)


@pytest.fixture(scope="module")
def network(base):
    return base_network(base, FIT)


@pytest.fixture(scope="module")
def tuned(base, cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "cohort-v1"
    return finetune_bundle(base, cohort, folder, describe("cohort-v1"), fit=FIT)


def test_genes_are_split_as_those_of_the_base(base, dataset):
    chroms = np.array(dataset.features.rows.chroms)[dataset.rows]
    assert set(chroms[dataset.split.test]) == {"1"}
    assert "1" not in set(chroms[dataset.split.training]) | set(chroms[dataset.split.validation])
    validation = {dataset.targets.gene_ids[i] for i in dataset.split.validation}
    assert validation == set(base.manifest.training.validation_genes)
    assert base.manifest.training.test_genes is None  # chromosomes say it
    for side in SIDES:
        known = [track.name for track in base.manifest.inputs[side].tracks]
        assert list(dataset.tracks[side]) == known


def test_published_models_name_the_genes_that_they_were_selected_by_and_tested_on():
    model = dz.load("gtex-tissue-v1")  # of before manifests had them
    genes = _validation_genes(model.manifest)
    assert len(genes) == model.manifest.training.genes["validation"]
    rows = [model.features.rows.gene_ids.index(gene) for gene in genes]
    assert not {model.features.rows.chroms[row] for row in rows} & {"1", "8"}
    training = dz.load("gtex-blood-person-v1").manifest.training
    assert len(training.test_genes) == training.genes["test"] == 280
    assert not set(training.test_genes) & set(training.validation_genes)


def test_a_fine_tuned_model_is_a_bundle_like_any_other(tuned, base):
    folder = tuned.locate("manifest.json").parent
    manifest = tuned.manifest
    assert [o.name for o in manifest.outputs] == [*SAMPLES, MEDIAN]
    assert manifest.training.base["id"] == base.id
    assert manifest.training.fit["learning_rate"] == FIT.learning_rate
    assert set(manifest.metrics["validation"]["by_output"]) == {o.name for o in manifest.outputs}
    assert manifest.spearman("test")[0] > 0.15  # of samples that the base has not seen
    again = dz.load(folder)
    assert again.check_known_answers(again.backend("onnxruntime", "cpu")) <= 1e-4
    assert np.isfinite(again.explain(["APP", "SOD1"], by="regulator").scores).all()
    assert not unfinished_folder(folder).exists()
    card = (folder / "CARD.md").read_text()
    assert "personal data" in card.lower()
    assert f"Fine-tuned from | `{base.id}`" in card


def test_frozen_layers_stay_as_they_are(network, dataset):
    for frozen in (0, 1, 2):
        fit = replace(FIT, frozen_layers=frozen, max_epochs=1)
        found, _ = finetune_network(dataset, network, fit)
        same = {
            name: np.array_equal(
                found.weights[f"member0/{name}"], network.weights[f"member0/{name}"]
            )
            for name in ("rna", "promoter", "dense0/kernel", "dense1/kernel")
        }
        layers = [same["rna"] and same["promoter"], same["dense0/kernel"], same["dense1/kernel"]]
        assert layers == [number < frozen for number in range(3)]
        for side in SIDES:
            np.testing.assert_array_equal(found.input_scale[side], network.input_scale[side])


def test_without_training_it_is_the_ridge_on_the_last_hidden_layer(network, dataset):
    """A step of next to nothing leaves what training starts from; all layers give the same."""
    rows, found = dataset.split.validation, []
    for frozen in (0, 3):
        fit = replace(FIT, frozen_layers=frozen, max_epochs=1, learning_rate=1e-12, weight_decay=0)
        found.append(predict_part(dataset, finetune_network(dataset, network, fit)[0], rows))
    np.testing.assert_allclose(found[0], found[1], rtol=0.05, atol=0.02)  # weights are rounded


# --- what is kept until a bundle is whole ---------------------------------------------


def test_training_that_was_stopped_comes_to_the_same(base, cohort, tuned, tmp_path, monkeypatch):
    kept, epochs = Checkpoints.save, []

    def save(self, seed, progress):
        kept(self, seed, progress)
        epochs.append(seed)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save)
    arguments = (base, cohort, tmp_path / "b", describe("cohort-v1"))
    alone = Transfer(membership=False)
    with pytest.raises(KeyboardInterrupt):
        finetune_bundle(*arguments, fit=FIT, transfer=alone)
    assert not (tmp_path / "b").exists()
    assert len(list(unfinished_folder(tmp_path / "b").iterdir())) == 1
    resumed = finetune_bundle(*arguments, fit=FIT, transfer=alone)
    assert len(epochs) == FIT.max_epochs
    for name in ("weights.npz", "model.onnx"):
        assert resumed.locate(name).read_bytes() == tuned.locate(name).read_bytes()
    assert resumed.manifest.training.repeats == tuned.manifest.training.repeats


def test_a_damaged_checkpoint_is_trained_anew(network, dataset, tmp_path):
    fit, places = replace(FIT, max_epochs=1), Checkpoints(tmp_path, {"a": 1})
    first, _ = finetune_network(dataset, network, fit, places)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    again, _ = finetune_network(dataset, network, fit, places)
    for name, array in first.weights.items():
        np.testing.assert_array_equal(array, again.weights[name])
    assert Checkpoints(tmp_path, {"a": 2}).load(1) is None


def test_other_data_or_another_split_is_another_training(dataset):
    own, told, split = _fingerprint(dataset), dataset.targets, dataset.split
    assert own == _fingerprint(replace(dataset))
    values = told.values.copy()
    values[3, 2] += 1e-9
    moved = replace(split, training=np.append(split.training, split.test[:1]), test=split.test[1:])
    others = [
        replace(dataset, targets=replace(told, values=values)),
        replace(dataset, targets=replace(told, names=("other", *told.names[1:]))),
        replace(dataset, split=moved),
    ]
    assert len({own, *map(_fingerprint, others)}) == 4


def test_a_training_that_diverges_is_told(network, dataset, tmp_path):
    with pytest.raises(UsageError, match=r"seed 1 diverged.*epoch 1 is (nan|inf)") as error:
        finetune_network(
            dataset, network, replace(FIT, learning_rate=1e30), Checkpoints(tmp_path, {})
        )
    assert "learning_rate below 1e+30" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_search_keeps_its_trials_and_the_best(network, dataset, tmp_path):
    optuna = pytest.importorskip("optuna")
    fit, journal = replace(FIT, max_epochs=1, learning_rate=5e-4), tmp_path / "search/journal"
    search_fit(dataset, network, fit, 1, journal, "mine")
    best = search_fit(dataset, network, fit, 3, journal, "mine")
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    found = optuna.load_study(study_name="mine", storage=optuna.storages.JournalStorage(backend))
    assert len(found.trials) == 3
    assert found.trials[0].params["learning_rate"] == pytest.approx(fit.learning_rate)
    assert best.learning_rate == found.best_params["learning_rate"]
    assert search_fit(dataset, network, fit, 3, journal, "mine") == best


# --- samples --------------------------------------------------------------------------


def test_samples_are_kept_by_validation_and_named_by_codes(base, cohort, tuned, tmp_path):
    transfer = Transfer(keep_above="median", anonymise=True, membership=False)
    coded = finetune_bundle(
        base, cohort, tmp_path / "coded", describe("coded-v1"), fit=FIT, transfer=transfer
    )
    codes = read_sample_codes(tmp_path / "coded.codes.tsv")
    rho = pd.Series(tuned.manifest.metrics["validation"]["by_output"]).drop(MEDIAN)
    assert set(codes) == set(rho.index[rho > rho.median()])
    assert [o.name for o in coded.manifest.outputs] == [*codes.values(), MEDIAN]
    assert coded.manifest.training.samples == {"fitted": 12, "kept": 6}
    genes = ["APP", "SOD1", "PRNP"]
    expected, found = (model.predict(genes) for model in (tuned, coded))
    np.testing.assert_allclose(found[list(codes.values())], expected[list(codes)], atol=1e-5)
    assert "sample" not in (tmp_path / "coded/manifest.json").read_text().replace('"samples"', "")
    few = replace(transfer, keep_above=0.999)
    with pytest.raises(InputError, match="no sample has a rho above"):
        finetune_bundle(base, cohort, tmp_path / "no", describe("no-v1"), fit=FIT, transfer=few)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("names", "prefix"),
    [(["a", "P", "Px1"], "P"), (["P1", "x"], "PP"), (["P1", "PP12"], "PPP")],
)
def test_no_code_is_the_name_of_a_sample(names, prefix):
    assert _code_prefix(names) == prefix


@pytest.mark.fault
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample\tcode\nA\tP1\n", "its header must be"),
        ("code\tsample\nP1\n", "a code and a sample"),
        ("code\tsample\nP1\tA\nP2\tA\n", "'A' is there twice"),
        ("code\tsample\nP1\tA\nP1\tB\n", "'P1' is there twice"),
    ],
)
def test_codes_that_are_none_are_refused(tmp_path, text, message):
    (tmp_path / "codes.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_sample_codes(tmp_path / "codes.tsv")


def test_verbs_take_samples_with_codes(call, tuned, cohort, tmp_path):
    pytest.importorskip("pylimma")
    donors = [f"donor{i}" for i in range(12)]
    pd.DataFrame({"code": SAMPLES, "sample": donors}).to_csv(
        tmp_path / "codes.tsv", sep="\t", index=False
    )
    write_matrix(replace(cohort, names=(*donors, MEDIAN)), tmp_path / "x.tsv")
    lines = [f"{name}\t{'ab'[i % 2]}\n" for i, name in enumerate(donors)]
    (tmp_path / "p.tsv").write_text("sample\tpart\n" + "".join(lines))
    model, codes = tuned.locate("manifest.json").parent, ("--codes", tmp_path / "codes.tsv")
    samples = ("--samples", tmp_path / "p.tsv", "--trait", "part", "--permutations", 5)
    for verb, told in (
        (("study", "traits", "--model", model, tmp_path / "x.tsv", *samples), "12 samples"),
        (("evaluate", tmp_path / "x.tsv", "--scale", "log2", "--model", model), "12 are in both"),
    ):
        code, _, err = call(*verb, "-o", tmp_path / f"{verb[0]}-without")
        assert code == 4, err
        code, _, err = call(*verb, *codes, "-o", tmp_path / f"{verb[0]}-with")
        assert (code, told in err) == (0, True), err


def test_membership_is_told_where_it_can_be(tuned, network, dataset):
    found = tuned.manifest.training.membership
    assert (found["fitted"], found["held_out"]) == (8, 4)
    for area, low, high in (found["trained_genes"], found["other_genes"]):
        assert 0 <= low <= area <= high <= 1
    few = dataset.take_outputs(np.array([0, 1, 2, 12]))
    assert check_membership(few, network, FIT) is None


def test_a_split_by_gene_is_kept_to(base, cohort):
    rng = np.random.default_rng(0)
    parts = rng.choice(["training", "validation", "test"], len(cohort.gene_ids), p=[0.6, 0.2, 0.2])
    split = dict(zip(cohort.gene_ids, parts, strict=True))
    del split[cohort.gene_ids[0]]
    dataset = cohort_dataset(base, cohort, split)
    assert cohort.gene_ids[0] not in dataset.targets.gene_ids
    for part in ("training", "validation", "test"):
        genes = {dataset.targets.gene_ids[i] for i in getattr(dataset.split, part)}
        assert genes == {gene for gene, own in split.items() if own == part}
    for wrong, message in (
        ({**split, cohort.gene_ids[1]: "tset"}, "one of training, validation, test, not 'tset'"),
        (dict.fromkeys(cohort.gene_ids, "test"), "no gene for training"),
        (dict.fromkeys(cohort.gene_ids, "training"), "left for validation"),
    ):
        with pytest.raises(InputError, match=message):
            cohort_dataset(base, cohort, wrong)


def test_what_cannot_be_fine_tuned_is_refused(base, cohort, toy_models, tmp_path):
    with pytest.raises(UsageError, match="only perceptrons"):
        finetune_bundle(toy_models["decode"], cohort, tmp_path / "x", describe("x-v1"))
    with pytest.raises(UsageError, match="4 cannot be frozen"):
        base_network(base, replace(FIT, frozen_layers=4))
    for name in ("learning_rate", "patience", "batch_size"):
        with pytest.raises(UsageError, match=name):
            FinetuneFit(**{name: 0})


def test_from_scratch_knows_nothing_of_the_base(base, cohort, tmp_path):
    anew = Transfer(from_scratch=True, membership=False)
    model = finetune_bundle(
        base, cohort, tmp_path / "new", describe("new-v1"), fit=FIT, transfer=anew
    )
    assert "epochs" in model.manifest.training.fit
    assert not np.array_equal(
        model.network.weights["member0/rna"], base.network.weights["member0/rna"]
    )


# --- on the command line --------------------------------------------------------------


@pytest.fixture
def files(base, cohort, tmp_path):
    """The base and a prepared cohort, as folders."""
    (tmp_path / "cohort").mkdir()
    write_matrix(cohort, tmp_path / "cohort/expression.tsv.gz")
    return base.locate("manifest.json").parent, tmp_path / "cohort"


def test_a_cohort_and_a_split_by_gene_become_a_model(call, files, cohort, tmp_path):
    folder, prepared = files
    output, parts = tmp_path / "My cohort", ["training", "validation", "test", "training"]
    split = {gene: parts[i % 4] for i, gene in enumerate(cohort.gene_ids)}
    lines = [f"{gene}.3\t{part}\n" for gene, part in split.items()]
    (tmp_path / "s.tsv").write_text("gene\tpart\n" + "".join(lines))
    command = ("finetune", prepared, "--base", folder, "--split", tmp_path / "s.tsv")
    command += ("--set", "max_epochs=1", "--no-membership-check", "--repeats", 2, "-o", output)
    code, out, err = call(*command)
    assert (code, out.strip(), "test: Spearman's rho" in err) == (0, str(output), True), err
    model = dz.load(output)
    training = model.manifest.training
    assert (model.id, training.mean_of_seeds) == ("my-cohort-v1", (1, 2))
    assert set(training.data) == {"expression.tsv.gz", "s.tsv"}
    assert len(training.test_genes) == training.genes["test"] == len(lines) // 4
    assert {split[gene] for gene in training.test_genes} == {"test"}
    (tmp_path / "genes.txt").write_text("APP\n")
    _, out, _ = call("predict", "--model", output, tmp_path / "genes.txt")
    assert out.splitlines()[0].split("\t")[3:] == [*SAMPLES, MEDIAN]
    assert call("test", output)[0] == 0
    assert call(*command)[0] == 2  # without --force
    (tmp_path / "s.tsv").write_text("".join([*lines, lines[0]]))
    code, _, err = call(*command, "--force")
    assert (code, f"line {len(lines) + 1}" in err) == (4, True), err

    # Its own split says nothing of other genes, but which it was tested on is known.
    with pytest.raises(UsageError, match="split one by one"):
        cohort_dataset(model, cohort)
    from decode_zoo.studies.evaluation import held_out_genes
    from decode_zoo.studies.measured import tested_rows

    assert sorted(held_out_genes(model)) == list(training.test_genes)
    rows = tested_rows(model, model.bind())
    assert sorted(model.features.rows.gene_ids[row] for row in rows) == list(training.test_genes)


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        (["cohort", "--set", "frozen=1"], 2, "fine-tuning has no 'frozen'"),
        (["cohort", "--keep-samples-above", "often"], 2, "'median' or a rho"),
        (["cohort", "--quantity", "tpm"], 2, "nothing left to do"),
        (["cohort", "--id", "Mine"], 2, "id"),
        (["cohort", "--from-scratch", "--search", "3"], 2, "for comparison"),
        (["cohort", "--from-scratch", "--set", "max_epochs=1"], 2, "--set is for fine-tuning"),
        (["cohort/expression.tsv.gz"], 2, "--quantity counts|tpm|log2"),
        (["."], 4, "has no expression.tsv.gz"),
    ],
)
def test_what_is_typed_wrong_is_told(call, files, tmp_path, typed, code, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, _, err = call("finetune", "--base", files[0], "-o", "x", *typed)
    assert (found, words in err) == (code, True), err
    assert not (tmp_path / "x").exists()
