"""Training, export and parity, on made-up genes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.errors import InputError, MissingExtraError, UsageError, VerificationError
from decode_zoo.expression import MEDIAN
from decode_zoo.network import DecodeConfig
from decode_zoo.training.baselines import bound_counts, fit_ridge, log_sums
from decode_zoo.training.dataset import Selection, make_dataset
from decode_zoo.training.fit import FitConfig
from tests import made

SELECTION = Selection(kinds=("tf", "rbp"), absent=("8",))
SMALL = DecodeConfig(rna_channels=8, promoter_channels=6, dense_width=10)


@pytest.fixture(scope="module")
def dataset(features, targets):
    return make_dataset(features, targets, SMALL.kernels, SELECTION)


def test_inputs_are_frozen_from_training_genes(dataset, features):
    training = dataset.rows[dataset.split.training]
    assert {features.rows.chroms[i] for i in training} == {"2", "3", "4", "5"}
    for side, tracks in dataset.tracks.items():
        columns = features.columns(side, tracks)
        annotated = (features.sums(side)[0][training][:, columns] > 0).sum(axis=0)
        assert annotated.min() >= 30
        assert {features.side_tracks[side][i].kind for i in columns} <= {"tf", "rbp"}
        left = set(features.tracks(side)) - set(tracks)
        assert left  # tracks with fewer genes, and other kinds
        # The scale is the largest bin, counted here from full matrices.
        some = training[:60]
        largest = features.matrix(some, side)[:, :, 1 + columns].max(axis=(0, 1))
        np.testing.assert_array_equal(features.largest_bin(some, side)[columns], largest)
        assert (dataset.scale[side][1:] >= largest).all()
        assert dataset.scale[side][0] == 100


def test_pooled_and_full_inputs_agree(dataset):
    part = dataset.split.validation[:5]
    for side, sums in dataset.pooled(part).items():
        full = dataset.full(part)[side]
        for k in range(sums.shape[1]):
            np.testing.assert_allclose(full[:, k:].sum(axis=1), sums[:, k], rtol=1e-5, atol=1e-4)


def test_no_common_gene_is_an_error(features, targets):
    strangers = replace(targets, gene_ids=[f"X{i}" for i in range(len(targets.gene_ids))])
    with pytest.raises(InputError, match="no gene of the expression matrix"):
        make_dataset(features, strangers, SMALL.kernels, SELECTION)
    with pytest.raises(InputError, match="no promoter track"):
        make_dataset(features, targets, SMALL.kernels, replace(SELECTION, min_genes=10**6))


def test_kinds_that_no_track_has_are_named(features, targets):
    with pytest.raises(UsageError, match="no tracks of kind tff; it has histone, mirna, rbp, tf"):
        make_dataset(features, targets, SMALL.kernels, replace(SELECTION, kinds=("tff",)))


def test_expression_that_does_not_vary_is_refused(features, targets):
    flat = replace(targets, values=np.zeros_like(targets.values))
    with pytest.raises(InputError, match="does not vary"):
        make_dataset(features, flat, SMALL.kernels, SELECTION)


@pytest.mark.parametrize("package", ["tf2onnx", "onnx", "onnxruntime"])
def test_what_export_needs_is_asked_for_before_training(package, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    from decode_zoo.training.pipeline import train_bundle

    monkeypatch.setitem(sys.modules, package, None)
    description = made.describe("x-v1")
    with pytest.raises(MissingExtraError, match="cpu,train"):
        train_bundle(None, None, tmp_path / "x", description)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"learning_rate": -1}, {"max_epochs": 0}, {"seeds": ()}]
)
def test_settings_that_train_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        FitConfig(**wrong)
    with pytest.raises(UsageError, match="rna_layers"):
        DecodeConfig(rna_layers=0)


def test_ridge_against_the_normal_equations(dataset):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 7)) + 3, rng.normal(size=(60, 2))
    fit = fit_ridge(x, y, x, y, [5.0])
    z = (x - x.mean(0)) / x.std(0)
    direct = np.linalg.solve(z.T @ z + 5 * np.eye(7), z.T @ (y - y.mean(0)))
    np.testing.assert_allclose(fit.predict(x), z @ direct + y.mean(0))
    assert fit_ridge(x, y, x, y, [1.0, 100.0]).alpha == 1.0
    features = log_sums(dataset, dataset.split.validation)
    n_promoter, n_rna = (len(dataset.tracks[side]) for side in ("promoter", "rna"))
    assert features.shape[1] == 1 + n_promoter + n_rna
    counts = bound_counts(dataset, dataset.split.validation)
    np.testing.assert_array_equal(counts[:, 0], (features[:, 1 : 1 + n_promoter] > 0).sum(axis=1))


# --- what publishing will ask ---------------------------------------------------------

ENTRY = {
    "id": "mine-v1",
    "title": "Ours",
    "license": "CC0-1.0",
    "citation": "nobody",
    "features": made.ID,
}


def as_options(values):
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def settings(**values):
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.fault
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"id": "mine"}, "id: the id 'mine' has no version"),
        ({"id": "Mine-v1"}, "id: 'Mine-v1' is no id"),
        ({"id": ""}, "id: "),
        ({"id": "gtex-tissue-v1"}, "id: gtex-tissue-v1 is a model of decode-zoo itself"),
        ({"id": "gtex-tissue-decode-v1"}, "is a model of decode-zoo itself"),
        ({"title": ""}, "title: "),
        ({"license": " "}, "license: "),
        ({"citation": ""}, "citation: "),
        ({"citation": "two\nlines"}, "citation: "),
        ({"features": "My sites"}, "features: 'My sites' is no id"),
    ],
)
def test_what_could_not_be_published_is_not_trained(call, tmp_path, wrong, words):
    from decode_zoo.training.entry import check_entry

    check_entry(**ENTRY)
    entry = ENTRY | wrong
    with pytest.raises(InputError) as error:
        check_entry(**entry)
    assert words in error.value.message
    if entry["features"] != ENTRY["features"]:
        return
    # Nothing else is asked for first: neither TensorFlow nor the matrix.
    matrix = {"expression": tmp_path / "none.tsv", "scale": "tpm"}
    code, out, err = call("train", *as_options(entry | matrix), "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert f"Error: --{error.value.message}.\n" in err
    assert len(err.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault
def test_the_prose_of_a_former_card_is_kept_and_its_facts_are_new(tmp_path):
    from decode_zoo.training.entry import write_card
    from tests.test_publish import CARD, PUBLISHED, TOY

    new, old = tmp_path / "new", tmp_path / "old"
    for name in (new, old):
        name.mkdir()
    for file in ("manifest.json", "weights.npz", "model.onnx"):
        shutil.copy(TOY / "models" / PUBLISHED / file, new)
    write_card(new, old)
    assert "To be written" in (new / "CARD.md").read_text(encoding="utf-8")
    (old / "CARD.md").write_text(CARD, encoding="utf-8")
    (new / "CARD.md").unlink()
    write_card(new, old)
    card = (new / "CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# Ours")
    assert card.endswith("Ask us.\n")
    assert f"| Id | `{PUBLISHED}` |" in card


@pytest.mark.fault
@pytest.mark.parametrize("odd", [b"no facts\n", b"\xff\xfe"])
def test_a_former_card_that_cannot_be_used_costs_no_training(tmp_path, caplog, odd):
    from decode_zoo.training.entry import write_card
    from tests.test_publish import PUBLISHED, TOY

    shutil.copytree(TOY / "models" / PUBLISHED, tmp_path / "new")
    (tmp_path / "new" / "CARD.md").unlink()
    (tmp_path / "CARD.md").write_bytes(odd)
    write_card(tmp_path / "new", tmp_path)
    assert not (tmp_path / "new" / "CARD.md").exists()
    assert "No card is written" in caplog.text


@pytest.mark.parametrize("text", ["", "1 / 0"])
def test_libraries_are_quiet_unless_they_fail(text):
    code = """
        import os
        from decode_zoo.quiet import quiet
        with quiet(unless_it_fails=True):
            os.write(2, b"!")
        with quiet(unless_it_fails=True):
            os.write(2, b"?")
            {}
        os.write(2, b".")
        """
    code = textwrap.dedent(code).format(text or "pass")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == bool(text)
    assert done.stderr.startswith("?Traceback" if text else ".")


# --- with TensorFlow -----------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(features, targets, tmp_path_factory):
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    from decode_zoo.training.pipeline import train_bundle

    folder = tmp_path_factory.mktemp("bundle") / "small-v1"
    fit = FitConfig(seeds=(1, 2), max_epochs=4)
    model = train_bundle(
        features,
        targets,
        folder,
        made.describe("small-v1"),
        network=SMALL,
        fit=fit,
        selection=SELECTION,
    )
    return folder, model


def test_a_bundle_is_whole_and_its_implementations_agree(bundle):
    folder, model = bundle
    names = {path.name for path in folder.iterdir()}
    assert names == {"CARD.md", "manifest.json", "model.onnx", "weights.npz"}
    parity = model.manifest.parity
    assert max(parity[k] for k in ("keras_onnx", "keras_numpy", "onnx_numpy")) <= 1e-5
    assert parity["full_pooled_keras_float32"] <= 1e-4
    assert parity["full_pooled_numpy_float64"] <= 1e-10
    log = model.manifest.training["repeats"]
    assert [repeat["seed"] for repeat in log] == [1, 2]
    best = min(log, key=lambda repeat: repeat["validation_loss"])
    assert model.manifest.training["best_seed"] == best["seed"]
    assert best["history"]["val_loss"][best["best_epoch"] - 1] == best["validation_loss"]
    assert set(model.manifest.metrics) == {"validation", "test"}
    again = dz.load(folder)
    table = again.predict(["APP", "SOD1"])
    assert list(table.columns[3:]) == [*made.TISSUES, MEDIAN]
    assert again.check_known_answers(again.backend("onnxruntime", "cpu")) <= 1e-5


def test_the_graph_is_clean(bundle):
    import onnx

    folder, model = bundle
    graph = onnx.load(folder / "model.onnx")
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.graph.input}
    assert set(inputs) == {"rna", "promoter"}
    for side, (batch, bins, channels) in inputs.items():
        assert (batch.dim_param, bins.dim_param) == ("batch", f"{side}_bins")
        assert channels.dim_value == 1 + len(model.manifest.inputs[side].tracks)
    assert [value.name for value in graph.graph.output] == ["prediction"]
    metadata = {item.key: item.value for item in graph.metadata_props}
    assert metadata["id"] == "small-v1"
    assert json.loads(metadata["outputs"]) == model.outputs


def test_the_same_network_gives_the_same_graph(bundle, tmp_path):
    """Whatever the order that Python's hashing gives the converter."""
    from decode_zoo.training.export import export_onnx

    folder, model = bundle
    code = (
        "import sys; from pathlib import Path; import decode_zoo as dz; "
        "from decode_zoo.training.export import export_onnx; "
        "export_onnx(dz.load(sys.argv[1]).network, Path(sys.argv[2]), {'decode_zoo': '0'})"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "other.onnx")],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    export_onnx(model.network, tmp_path / "here.onnx", {"decode_zoo": "0"})
    assert (tmp_path / "here.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


def test_a_graph_that_differs_is_refused(bundle, dataset):
    from decode_zoo.training.export import check_parity

    folder, model = bundle
    weights = dict(model.network.weights)
    weights["outputs/bias"] = weights["outputs/bias"] + np.float32(1e-3)
    other = replace(model.network, weights=weights)
    genes = dataset.split.validation[:20]
    pooled, full, same = dataset.pooled(genes), dataset.full(genes), np.arange(20)
    assert check_parity(model.network, folder / "model.onnx", full, pooled, same)
    with pytest.raises(VerificationError, match="keras_onnx"):
        check_parity(other, folder / "model.onnx", full, pooled, same)


def test_training_repeats_exactly(bundle, dataset):
    from decode_zoo.training.fit import fit_repeats

    _, model = bundle
    fit = FitConfig(seeds=(1,), max_epochs=4)
    (repeat,) = fit_repeats(dataset, SMALL, fit)
    log = model.manifest.training["repeats"][0]
    assert repeat.history["val_loss"] == log["history"]["val_loss"]


def test_relu_convolutions_train_on_full_matrices(features, targets, tmp_path):
    pytest.importorskip("tf2onnx")
    from decode_zoo.training.pipeline import train_bundle

    few = targets.take(np.arange(0, len(targets.gene_ids), 3))
    config = replace(SMALL, conv_relu=True, rna_channels=4, promoter_channels=4)
    model = train_bundle(
        features,
        few,
        tmp_path / "relu",
        made.describe("relu-v1"),
        network=config,
        fit=FitConfig(seeds=(1,), max_epochs=1),
        selection=replace(SELECTION, min_genes=3),
    )
    assert model.manifest.pooling == "none"
    assert max(model.manifest.parity.values()) <= 1e-5
    a, b = (
        model.predict(["APP", "SOD1", "PRNP"], backend=name).iloc[:, 3:].to_numpy()
        for name in ("numpy", "onnxruntime")
    )
    scale = np.array([output.scale for output in model.manifest.outputs])
    assert np.abs((a - b) / scale).max() <= 1e-5
    alone = model.predict(["SOD1"], backend="onnxruntime").iloc[:, 3:].to_numpy()
    np.testing.assert_array_equal(alone[0], b[1])


# --- from the command line, to where others fetch it -------------------------------------


@pytest.fixture(scope="module")
def train(features, targets, tmp_path_factory):
    """The words of ``decode-zoo train`` for a bundle by its name, and the bundle's folder."""
    pytest.importorskip("tf2onnx")
    folder = tmp_path_factory.mktemp("trained")
    log2 = targets.values[:, :-1] + targets.values[:, -1:]
    frame = pd.DataFrame(log2, targets.gene_ids, targets.names[:-1])
    frame.to_csv(folder / "x.tsv", sep="\t", index_label="gene_id")

    def words(name, *options):
        given = ENTRY | {"id": f"{name}-v1", "kinds": "rbp,tf", "test-chrom": "1"}
        given |= {"expression": folder / "x.tsv", "scale": "log2tpm"}
        return folder / name, ["train", *options, "-o", folder / name, *as_options(given)]

    return words


@pytest.fixture(scope="module")
def training(train):
    """A bundle that a process of its own trained, and what that said on standard error."""
    small = settings(dense_width=8, rna_channels=4, promoter_channels=4, max_epochs=1)
    folder, words = train("mine", "--family", "decode", "--repeats", 1, *small)
    command = [sys.executable, "-m", "decode_zoo", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def test_train_says_no_more_than_what_it_does(training):
    # Which differences of back ends are worth a word depends on the processor.
    lines = [line for line in training[1].splitlines() if " differ by " not in line]
    assert [line.partition(":")[0] for line in lines] == ["seed 1", "validation", "test"]


def test_train_from_the_command_line(training, call, tmp_path):
    trained, _ = training
    (tmp_path / "genes.txt").write_text("APP\n")
    _, out, _ = call("predict", "--model", trained, tmp_path / "genes.txt")
    assert out.splitlines()[0].split("\t")[-1] == MEDIAN
    manifest = dz.load(trained).manifest
    assert (manifest.family, manifest.training["best_seed"]) == ("decode", 1)
    assert manifest.network == DecodeConfig(rna_channels=4, promoter_channels=4, dense_width=8)
    assert manifest.training["fit"]["max_epochs"] == 1


def test_train_makes_a_perceptron_if_no_family_is_named(train, call):
    typed = ["--repeats", "2", *settings(encoder_width=4, dense_width=8, epochs=1)]
    folder, words = train("sums", *typed)
    code, _, err = call(*words)
    assert code == 0, err
    model = dz.load(folder)
    manifest = model.manifest
    config = manifest.network
    assert (manifest.family, manifest.training["mean_of_seeds"]) == ("perceptron", [1, 2])
    assert (config.members, config.encoder_width, config.dense_width) == (2, 4, 8)
    assert manifest.training["fit"]["epochs"] == 1
    command = manifest.training["command"]
    assert command[command.index("--repeats") :][: len(typed)] == typed
    assert model.check_known_answers(model.backend("onnxruntime", "cpu")) <= 1e-4
    table = model.predict(["APP", "SOD1"])
    assert np.isfinite(table.iloc[:, 3:].to_numpy()).all()


def test_what_was_trained_is_published_fetched_and_predicts_the_same(
    training, made_zoo, tmp_path, call, monkeypatch
):
    from tests.server import serving

    trained, _ = training
    (tmp_path / "genes.tsv").write_text("APP\nSOD1\nPRNP\n")
    predict = ("predict", tmp_path / "genes.tsv", "--model")
    code, expected, err = call(*predict, trained)
    assert code == 0, err
    zoo = shutil.copytree(made_zoo, tmp_path / "zoo")  # it holds the sites
    code, out, err = call("publish", trained, "--to", zoo)  # as it is
    assert (code, err) == (0, "")
    # Publishing found no fact on the card that it would put otherwise.
    card = (zoo / "models/mine-v1/CARD.md").read_text(encoding="utf-8")
    assert card == (trained / "CARD.md").read_text(encoding="utf-8")
    assert "known answers, onnxruntime-cpu" in out
    with serving(zoo) as url:
        monkeypatch.setenv("DECODE_ZOO_REGISTRY", f"{url}/registry.yaml")
        assert f"\tto fetch\t{url}/registry.yaml\tOurs\n" in call("ls")[1]
        assert call("fetch", "mine-v1")[0] == 0
    # The server is gone: what follows rests on what was fetched.
    assert call("verify", "mine-v1")[1] == "mine-v1\t4 of 4 files here, verified\n"
    code, out, _ = call("test", "mine-v1")
    assert (code, out.count("mine-v1\t")) == (0, 2)
    assert call(*predict, "mine-v1")[:2] == (0, expected)
