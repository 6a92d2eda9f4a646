"""Fine-tuning: what is kept of the base, what is learned, what stopping half-way costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.errors import InputError, UsageError
from decode_zoo.expression import MEDIAN, Targets
from decode_zoo.layout import SIDES
from decode_zoo.perceptron import PerceptronConfig
from tests.made import describe
from tests.test_training import SELECTION

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

from decode_zoo.training.finetune import FinetuneFit, base_network, finetune_network
from decode_zoo.training.membership import check_membership
from decode_zoo.training.perceptron import PerceptronFit
from decode_zoo.training.pipeline import predict_part, train_bundle
from decode_zoo.training.transfer import (
    Transfer,
    cohort_dataset,
    finetune_bundle,
    unfinished_folder,
)

FIT = FinetuneFit(max_epochs=4, learning_rate=3e-3, batch_size=32, encoder_dropout=0.1)
ALONE = Transfer(membership=False)
PERSONS = 12
QUICK = ("--set", "max_epochs=1", "--no-membership-check")


@pytest.fixture(scope="module")
def base(features, targets, tmp_path_factory):
    return train_bundle(
        features,
        targets,
        tmp_path_factory.mktemp("base") / "base-v1",
        describe("base-v1"),
        network=PerceptronConfig(encoder_width=8, dense_width=12, members=2),
        fit=PerceptronFit(seeds=(1, 2), epochs=8, batch_size=32, dense_dropout=0.1),
        selection=SELECTION,
    )


@pytest.fixture(scope="module")
def cohort(targets):
    """Persons, each a mixture of the base's outputs."""
    rng = np.random.default_rng(1)
    fold = targets.values[:, :-1]
    persons = fold @ rng.normal(size=(fold.shape[1], PERSONS))
    persons += 0.3 * persons.std() * rng.normal(size=persons.shape)
    persons -= np.median(persons, axis=1, keepdims=True)
    names = (*(f"person{i}" for i in range(PERSONS)), MEDIAN)
    return Targets(targets.gene_ids, names, np.hstack([persons, targets.values[:, -1:]]))


@pytest.fixture(scope="module")
def dataset(base, cohort):
    return cohort_dataset(base, cohort)


@pytest.fixture(scope="module")
def tuned(base, cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "cohort-v1"
    return folder, finetune_bundle(base, cohort, folder, describe("cohort-v1"), fit=FIT)


@pytest.fixture(scope="module")
def plain(base, cohort, tmp_path_factory):
    """The same without a look at membership."""
    folder = tmp_path_factory.mktemp("plain") / "plain-v1"
    return finetune_bundle(base, cohort, folder, describe("plain-v1"), fit=FIT, transfer=ALONE)


def test_genes_are_split_as_those_of_the_base(base, dataset):
    chroms = np.array(dataset.features.rows.chroms)[dataset.rows]
    assert set(chroms[dataset.split.test]) == {"1"}
    assert "1" not in set(chroms[dataset.split.training]) | set(chroms[dataset.split.validation])
    validation = {dataset.targets.gene_ids[i] for i in dataset.split.validation}
    assert validation == set(base.manifest.training["validation_genes"])
    for side in SIDES:
        known = [track.name for track in base.manifest.inputs[side].tracks]
        assert list(dataset.tracks[side]) == known


def test_genes_that_the_first_models_were_selected_by_are_known():
    from decode_zoo.training.transfer import _validation_genes

    model = dz.load("gtex-tissue-v1")
    genes = _validation_genes(model.manifest)
    assert len(genes) == model.manifest.training["genes"]["validation"]
    rows = [model.features.rows.gene_ids.index(gene) for gene in genes]
    assert not {model.features.rows.chroms[row] for row in rows} & {"1", "8"}


def test_a_fine_tuned_model_is_a_bundle_like_any_other(tuned, base):
    folder, model = tuned
    manifest = model.manifest
    assert [o.name for o in manifest.outputs] == [*(f"person{i}" for i in range(PERSONS)), MEDIAN]
    assert manifest.training["base"]["id"] == base.id
    assert manifest.training["fit"]["learning_rate"] == FIT.learning_rate
    assert set(manifest.metrics["validation"]["by_output"]) == {o.name for o in manifest.outputs}
    again = dz.load(folder)
    assert again.check_known_answers(again.backend("onnxruntime", "cpu")) <= 1e-4
    scores = again.explain(["APP", "SOD1"], by="regulator")
    assert np.isfinite(scores.scores).all()
    assert not unfinished_folder(folder).exists()
    card = (folder / "CARD.md").read_text()
    assert "personal data" in card.lower()
    assert "Fine-tuned from | `base-v1`" in card


def test_it_learns_persons_that_the_base_has_not_seen(tuned):
    rho, _ = tuned[1].manifest.spearman("test")
    assert rho > 0.15


def test_frozen_layers_stay_as_they_are(base, dataset):
    network = base_network(base, FIT)
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


def test_without_training_it_is_the_ridge_on_the_last_hidden_layer(base, dataset):
    """A step of next to nothing leaves what training starts from; all layers give the same."""
    network = base_network(base, FIT)
    rows, found = dataset.split.validation, []
    for frozen in (0, 3):
        fit = replace(FIT, frozen_layers=frozen, max_epochs=1, learning_rate=1e-12, weight_decay=0)
        found.append(predict_part(dataset, finetune_network(dataset, network, fit)[0], rows))
    np.testing.assert_allclose(found[0], found[1], rtol=0.05, atol=0.02)  # weights are rounded


def test_training_that_was_stopped_comes_to_the_same(base, cohort, plain, tmp_path, monkeypatch):
    from decode_zoo.training.checkpoints import Checkpoints

    kept, epochs = Checkpoints.save, []

    def save(self, seed, progress):
        kept(self, seed, progress)
        epochs.append(seed)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", save)
    arguments = (base, cohort, tmp_path / "b", describe("plain-v1"))
    with pytest.raises(KeyboardInterrupt):
        finetune_bundle(*arguments, fit=FIT, transfer=ALONE)
    assert not (tmp_path / "b").exists()
    assert len(list(unfinished_folder(tmp_path / "b").iterdir())) == 1
    resumed = finetune_bundle(*arguments, fit=FIT, transfer=ALONE)
    assert len(epochs) == FIT.max_epochs
    for name in ("weights.npz", "model.onnx"):
        assert resumed.locate(name).read_bytes() == plain.locate(name).read_bytes()
    assert resumed.manifest.training["repeats"] == plain.manifest.training["repeats"]


def test_a_damaged_checkpoint_is_trained_anew(base, dataset, tmp_path):
    from decode_zoo.training.checkpoints import Checkpoints

    network, fit = base_network(base, FIT), replace(FIT, max_epochs=1)
    places = Checkpoints(tmp_path, {"a": 1})
    first, _ = finetune_network(dataset, network, fit, places)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-50])
    again, _ = finetune_network(dataset, network, fit, places)
    for name, array in first.weights.items():
        np.testing.assert_array_equal(array, again.weights[name])
    assert Checkpoints(tmp_path, {"a": 2}).load(1) is None


def test_persons_are_kept_by_validation_and_named_by_codes(base, cohort, plain, tmp_path):
    transfer = Transfer(keep_above="median", anonymise=True, membership=False)
    coded = finetune_bundle(
        base, cohort, tmp_path / "coded", describe("coded-v1"), fit=FIT, transfer=transfer
    )
    names = pd.read_csv(tmp_path / "coded.codes.tsv", sep="\t")
    rho = pd.Series(plain.manifest.metrics["validation"]["by_output"]).drop(MEDIAN)
    assert set(names["person"]) == set(rho.index[rho > rho.median()])
    assert [o.name for o in coded.manifest.outputs] == [*names["code"], MEDIAN]
    assert coded.manifest.training["persons"] == {"fitted": PERSONS, "kept": PERSONS // 2}
    genes = ["APP", "SOD1", "PRNP"]
    expected, found = (model.predict(genes) for model in (plain, coded))
    np.testing.assert_allclose(found[names["code"]], expected[names["person"]], atol=1e-5)
    assert "person" not in (tmp_path / "coded/manifest.json").read_text().replace('"persons"', "")
    few = replace(transfer, keep_above=0.999)
    with pytest.raises(InputError, match="no person has a rho above"):
        finetune_bundle(base, cohort, tmp_path / "no", describe("no-v1"), fit=FIT, transfer=few)
    assert not (tmp_path / "no").exists()


def test_membership_is_told_where_it_can_be(tuned, base, dataset):
    found = tuned[1].manifest.training["membership"]
    assert (found["fitted"], found["held_out"]) == (8, 4)
    for area, low, high in (found["trained_genes"], found["other_genes"]):
        assert 0 <= low <= area <= high <= 1
    few = dataset.take_outputs(np.array([0, 1, 2, PERSONS]))
    assert check_membership(few, base_network(base, FIT), FIT) is None


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
    with pytest.raises(InputError, match="one of training, validation, test, not 'tset'"):
        cohort_dataset(base, cohort, {**split, cohort.gene_ids[1]: "tset"})
    with pytest.raises(InputError, match="no gene for training"):
        cohort_dataset(base, cohort, dict.fromkeys(cohort.gene_ids, "test"))
    with pytest.raises(InputError, match="left for validation"):
        cohort_dataset(base, cohort, dict.fromkeys(cohort.gene_ids, "training"))


def test_what_cannot_be_fine_tuned_is_refused(base, cohort, tmp_path):
    convolutions = dz.load("gtex-tissue-decode-v1")
    with pytest.raises(UsageError, match="only perceptrons"):
        finetune_bundle(convolutions, cohort, tmp_path / "x", describe("x-v1"))
    with pytest.raises(UsageError, match="4 cannot be frozen"):
        base_network(base, replace(FIT, frozen_layers=4))
    with pytest.raises(UsageError, match="for comparison"):
        Transfer(from_scratch=True)
    for name in ("learning_rate", "patience", "batch_size"):
        with pytest.raises(UsageError, match=name):
            FinetuneFit(**{name: 0})


def test_from_scratch_knows_nothing_of_the_base(base, cohort, tmp_path):
    anew = Transfer(from_scratch=True, membership=False)
    model = finetune_bundle(
        base, cohort, tmp_path / "new", describe("new-v1"), fit=FIT, transfer=anew
    )
    assert "epochs" in model.manifest.training["fit"]
    assert not np.array_equal(
        model.network.weights["member0/rna"], base.network.weights["member0/rna"]
    )


def test_a_search_keeps_its_trials_and_the_best(base, dataset, tmp_path):
    optuna = pytest.importorskip("optuna")
    from decode_zoo.training.transfer import search_fit

    fit, journal = replace(FIT, max_epochs=1, learning_rate=5e-4), tmp_path / "search/journal"
    network = base_network(base, fit)
    search_fit(dataset, network, fit, 1, journal, "mine")
    best = search_fit(dataset, network, fit, 3, journal, "mine")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal))
    )
    (study,) = optuna.get_all_study_summaries(storage)
    assert study.n_trials == 3
    trials = optuna.load_study(study_name="mine", storage=storage)
    assert trials.trials[0].params["learning_rate"] == pytest.approx(fit.learning_rate)
    assert best.learning_rate == trials.best_params["learning_rate"]
    assert search_fit(dataset, network, fit, 3, journal, "mine") == best


@pytest.fixture
def files(base, cohort, tmp_path):
    """The base and a prepared cohort, as folders."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    log2 = cohort.values[:, :-1] + cohort.values[:, -1:]
    frame = pd.DataFrame(log2, pd.Index(cohort.gene_ids, name="gene_id"), cohort.names[:-1])
    frame.to_csv(folder / "expression.tsv.gz", sep="\t")
    return base.locate("manifest.json").parent, folder


def test_from_the_command_line(call, files, tmp_path):
    folder, cohort = files
    command = ("finetune", cohort, "--base", folder, "-o", tmp_path / "My cohort", *QUICK)
    code, out, err = call(*command, "--repeats", 2)
    assert code == 0, err
    assert out.strip() == str(tmp_path / "My cohort")
    assert "test: Spearman's rho" in err
    manifest = dz.load(tmp_path / "My cohort").manifest
    assert manifest.id == "my-cohort-v1"
    assert manifest.training["mean_of_seeds"] == [1, 2]
    assert set(manifest.training["data"]) == {"expression.tsv.gz"}
    (tmp_path / "genes.txt").write_text("APP\n")
    _, out, _ = call("predict", "--model", tmp_path / "My cohort", tmp_path / "genes.txt")
    assert out.splitlines()[0].split("\t")[3:] == [*(f"person{i}" for i in range(12)), MEDIAN]
    assert call("test", tmp_path / "My cohort")[0] == 0
    assert call(*command)[0] == 2  # without --force


def test_a_split_file_is_read(call, files, cohort, tmp_path):
    folder, prepared = files
    parts = ["training", "validation", "test", "training"]
    lines = [f"{g}.3\t{parts[i % 4]}" for i, g in enumerate(cohort.gene_ids)]
    command = ("finetune", prepared, "--base", folder, "-o", tmp_path / "x", *QUICK)
    command += ("--split", tmp_path / "s.tsv")
    (tmp_path / "s.tsv").write_text("gene\tpart\n" + "\n".join(lines) + "\n")
    code, _, err = call(*command)
    assert code == 0, err
    training = dz.load(tmp_path / "x").manifest.training
    assert training["genes"]["test"] == len(lines) // 4
    assert "s.tsv" in training["data"]
    (tmp_path / "s.tsv").write_text("\n".join([*lines, lines[0]]) + "\n")
    code, _, err = call(*command, "--force")
    assert code == 4
    assert f"line {len(lines) + 1}" in err


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        (["--set", "frozen=1"], 2, "fine-tuning has no 'frozen'"),
        (["--keep-persons-above", "often"], 2, "'median' or a rho"),
        (["--quantity", "tpm"], 2, "nothing left to do"),
        (["--id", "Mine"], 2, "id"),
        (["--from-scratch", "--search", "3"], 2, "for comparison"),
        (["--base", "gtex-tissue-decode-v1"], 2, "only perceptrons"),
    ],
)
def test_what_is_typed_wrong_is_told(call, files, tmp_path, typed, code, words):
    folder, cohort = files
    found, _, err = call("finetune", cohort, "--base", folder, "-o", tmp_path / "x", *typed)
    assert (found, words in err) == (code, True), err
    assert not (tmp_path / "x").exists()


def test_a_matrix_needs_to_be_named(call, files, tmp_path):
    folder, cohort = files
    matrix = cohort / "expression.tsv.gz"
    command = ("finetune", "--base", folder, "-o", tmp_path / "x")
    code, _, err = call(*command, matrix)
    assert (code, "--quantity counts|tpm|log2" in err) == (2, True), err
    code, _, err = call(*command, tmp_path)
    assert (code, "has no expression.tsv.gz" in err) == (4, True), err


def test_a_training_that_diverges_is_told(base, dataset, tmp_path):
    from decode_zoo.training.checkpoints import Checkpoints

    fit = replace(FIT, learning_rate=1e30)
    with pytest.raises(UsageError, match=r"seed 1 diverged.*epoch 1 is (nan|inf)") as error:
        finetune_network(dataset, base_network(base, fit), fit, Checkpoints(tmp_path, {}))
    assert "learning_rate below 1e+30" in str(error.value)
    assert list(tmp_path.iterdir()) == []
