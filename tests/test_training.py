"""Training, export and parity, on made-up genes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import decode_zoo as dz
from benchmarks.baselines import fit_ridge
from decode_zoo.core.errors import InputError, MissingExtraError, UsageError, VerificationError
from decode_zoo.networks.decode import DecodeConfig
from decode_zoo.networks.manifest import MEDIAN
from decode_zoo.training.dataset import make_dataset
from decode_zoo.training.fit import FitConfig
from decode_zoo.training.model_card import check_publishable, write_card
from tests import made
from tests.made import SELECTION

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


@pytest.mark.parametrize(
    ("change", "selected", "error", "message"),
    [
        (
            lambda t: replace(t, gene_ids=[f"X{i}" for i in range(len(t.gene_ids))]),
            {},
            InputError,
            "no gene of the expression matrix",
        ),
        (lambda t: replace(t, values=np.zeros_like(t.values)), {}, InputError, "does not vary"),
        (lambda t: t, {"min_genes": 10**6}, InputError, "no promoter track"),
        (
            lambda t: t,
            {"kinds": ("tff",)},
            UsageError,
            "no tracks of kind tff; it has histone, mirna, rbp, tf",
        ),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(
    features, targets, change, selected, error, message
):
    with pytest.raises(error, match=message):
        make_dataset(features, change(targets), SMALL.kernels, replace(SELECTION, **selected))


@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime"])
def test_what_export_needs_is_asked_for_before_training(package, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    from decode_zoo.training.pipeline import train_bundle

    monkeypatch.setitem(sys.modules, package, None)
    description = made.describe("x-v1")
    with pytest.raises(MissingExtraError, match="cpu,train"):
        train_bundle(None, None, tmp_path / "x", description)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_ridge_of_the_benchmarks_against_the_normal_equations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 7)) + 3, rng.normal(size=(60, 2))
    fit = fit_ridge(x, y, x, y, [5.0])
    z = (x - x.mean(0)) / x.std(0)
    direct = np.linalg.solve(z.T @ z + 5 * np.eye(7), z.T @ (y - y.mean(0)))
    np.testing.assert_allclose(fit.predict(x), z @ direct + y.mean(0))
    assert fit_ridge(x, y, x, y, [1.0, 100.0]).alpha == 1.0


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
        ({"id": "gtex-tissue-v1"}, "id: gtex-tissue-v1 is a model of decode-zoo itself"),
        ({"license": " "}, "license: "),
        ({"citation": "two\nlines"}, "citation: "),
        ({"features": "My sites"}, "features: 'My sites' is no id"),
    ],
)
def test_what_could_not_be_published_is_not_trained(call, tmp_path, wrong, words):
    check_publishable(**ENTRY)
    entry = ENTRY | wrong
    with pytest.raises(InputError) as error:
        check_publishable(**entry)
    assert words in error.value.message
    if "features" in wrong:
        return
    # Nothing else is asked for first: neither TensorFlow nor the matrix.
    matrix = {"expression": tmp_path / "none.tsv", "scale": "tpm"}
    code, out, err = call("train", *as_options(entry | matrix), "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert f"Error: --{error.value.message}.\n" in err
    assert len(err.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault
@pytest.mark.parametrize("odd", [None, b"no facts\n", b"\xff\xfe"])
def test_the_prose_of_a_former_card_is_kept_if_it_can_be_used(tmp_path, toy, caplog, odd):
    new = shutil.copytree(toy / "models/toy-decode-v1", tmp_path / "new")
    (new / "CARD.md").unlink()
    write_card(new, tmp_path)
    first = (new / "CARD.md").read_text(encoding="utf-8")
    assert "To be written" in first
    (new / "CARD.md").unlink()
    prose = first.replace("To be written", "Ask us").replace("`toy-decode-v1`", "`another-v1`")
    (tmp_path / "CARD.md").write_bytes(odd or prose.encode())
    write_card(new, tmp_path)
    if odd is None:
        card = (new / "CARD.md").read_text(encoding="utf-8")
        assert card == first.replace("To be written", "Ask us")
    else:  # that costs no training
        assert not (new / "CARD.md").exists()
        assert "No card is written" in caplog.text


@pytest.mark.parametrize(("text", "told"), [("pass", "."), ("1 / 0", "?Traceback")])
def test_libraries_are_quiet_unless_they_fail(text, told):
    code = f"""if True:
        import os
        from decode_zoo.core.system import silence_stderr
        with silence_stderr(unless_it_fails=True):
            os.write(2, b"?")
            {text}
        os.write(2, b".")
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == (text != "pass")
    assert done.stderr.startswith(told)


# --- with TensorFlow -----------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(features, targets, tmp_path_factory):
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    from decode_zoo.training.pipeline import train_bundle

    folder = tmp_path_factory.mktemp("bundle") / "small-v1"
    return folder, train_bundle(
        features,
        targets,
        folder,
        made.describe("small-v1"),
        network=SMALL,
        fit=FitConfig(seeds=(1, 2), max_epochs=4),
        selection=SELECTION,
    )


def test_a_bundle_is_whole_and_its_implementations_agree(bundle):
    folder, model = bundle
    names = {path.name for path in folder.iterdir()}
    assert names == {"CARD.md", "manifest.json", "model.onnx", "weights.npz"}
    parity = model.manifest.parity
    assert max(parity[k] for k in ("keras_onnx", "keras_numpy", "onnx_numpy")) <= 1e-5
    assert parity["full_pooled_keras_float32"] <= 1e-4
    assert parity["full_pooled_numpy_float64"] <= 1e-10
    log = model.manifest.training.repeats
    assert [repeat["seed"] for repeat in log] == [1, 2]
    best = min(log, key=lambda repeat: repeat["validation_loss"])
    assert model.manifest.training.best_seed == best["seed"]
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

    (repeat,) = fit_repeats(dataset, SMALL, FitConfig(seeds=(1,), max_epochs=4))
    log = bundle[1].manifest.training.repeats[0]
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
    matrix = made.write_matrix(targets, folder / "x.tsv")

    def words(name, *options):
        given = ENTRY | {"id": f"{name}-v1", "kinds": "rbp,tf", "test-chrom": "1"}
        given |= {"expression": matrix, "scale": "log2tpm"}
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


def test_train_makes_what_is_published_as_it_is(training, made_zoo, tmp_path, call):
    trained, told = training
    # Which differences of back ends are worth a word depends on the processor.
    lines = [line for line in told.splitlines() if " differ by " not in line]
    assert [line.partition(":")[0] for line in lines] == ["seed 1", "validation", "test"]
    manifest = dz.load(trained).manifest
    assert (manifest.family, manifest.training.best_seed) == ("decode", 1)
    assert manifest.network == DecodeConfig(rna_channels=4, promoter_channels=4, dense_width=8)
    assert manifest.training.fit["max_epochs"] == 1
    (tmp_path / "genes.txt").write_text("APP\n")
    _, out, _ = call("predict", "--model", trained, tmp_path / "genes.txt")
    assert out.splitlines()[0].split("\t")[-1] == MEDIAN
    zoo = shutil.copytree(made_zoo, tmp_path / "zoo")  # it holds the sites
    code, out, err = call("publish", trained, "--to", zoo)
    assert (code, err) == (0, "")
    assert "known answers, onnxruntime-cpu" in out
    # Publishing found no fact on the card that it would put otherwise.
    card = (zoo / "models/mine-v1/CARD.md").read_text(encoding="utf-8")
    assert card == (trained / "CARD.md").read_text(encoding="utf-8")


def test_train_makes_a_perceptron_if_no_family_is_named(train, call):
    typed = ["--repeats", "2", *settings(encoder_width=4, dense_width=8, epochs=1)]
    folder, words = train("sums", *typed)
    code, _, err = call(*words)
    assert code == 0, err
    model = dz.load(folder)
    manifest = model.manifest
    config = manifest.network
    assert (manifest.family, manifest.training.mean_of_seeds) == ("perceptron", (1, 2))
    assert (config.members, config.encoder_width, config.dense_width) == (2, 4, 8)
    assert manifest.training.fit["epochs"] == 1
    command = manifest.training.command
    assert list(command[command.index("--repeats") :][: len(typed)]) == typed
    assert model.check_known_answers(model.backend("onnxruntime", "cpu")) <= 1e-4
