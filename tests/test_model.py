"""Models from the zoo: gene lists, feature sets of one's own, known answers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.core.errors import ArtifactError, InputError, UsageError, VerificationError
from decode_zoo.core.files import sha256_of
from decode_zoo.features.featureset import Rows
from decode_zoo.features.pooling import SitePieces
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.manifest import fingerprint_of


@pytest.fixture(scope="module")
def model(toy_models):
    return toy_models["perceptron"]


def test_the_lines_of_the_readme():
    """And no more of biology than that outputs are not mixed up; accuracy is on the card."""
    model = dz.load("gtex-tissue-v1")
    table = model.predict(["TP53", "ENSG00000139618"])
    assert list(table.columns) == ["gene_id", "symbol", "status", *model.outputs]
    assert table["gene_id"].tolist() == ["ENSG00000141510", "ENSG00000139618"]
    assert table["symbol"].tolist() == ["TP53", "BRCA2"]
    assert (len(model.outputs), model.outputs[-1]) == (54, "median_log2_tpm")
    table = model.predict(["ALB", "HBB", "TTR"], outputs=["Liver", "Brain_Cortex"])
    assert list(table.columns[3:]) == ["Liver", "Brain_Cortex"]
    assert (table["Liver"] > table["Brain_Cortex"]).sum() >= 2
    assert dz.load("gtex-tissue").id == model.id
    assert dz.load("gtex-tissue-decode").id == "gtex-tissue-decode-v1"


def test_every_row_is_answered(toy_model):
    table = toy_model.predict(["TP53", "ENSG00000139618.15", "nope", "TP53", "ENSG00000141510.3"])
    twice = "duplicate_of:ENSG00000141510"
    assert table["status"].tolist() == ["ok", "ok", "unknown_gene", twice, twice]
    assert table["gene_id"][2] == "nope"
    values = table[toy_model.outputs].to_numpy()
    assert np.isnan(values[2]).all()
    assert np.isfinite(values[[0, 1, 3, 4]]).all()
    np.testing.assert_array_equal(values[3], values[0])
    assert toy_model.predict([]).shape == (0, 3 + len(toy_model.outputs))
    assert (
        len(repr(toy_model)) + len(repr(toy_model.features)) + len(repr(toy_model.manifest)) < 600
    )


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m.predict("TP53"), UsageError, "not a single string"),
        (lambda m: m.predict(["TP53"], features="hg39-open-v1"), ArtifactError, "hg38-open"),
        (lambda m: m.features.pooled("TP53", "rna"), UsageError, "list of genes"),
        (lambda m: m.predict(["TP53"], device="gpu"), UsageError, "There is no device"),
        (lambda m: m.predict(["TP53"], backend="tensorrt"), UsageError, "There is no back end"),
        (lambda m: m.predict(["TP53"], outputs=["Livr"]), UsageError, "no output 'Livr'"),
        (lambda m: dz.load("gtex-tisue-v1"), ArtifactError, "gtex-tissue"),
        (lambda m: dz.load("hg38-open-v1"), ArtifactError, "feature set"),
        (lambda m: dz.load_features("gtex-tissue-v1"), ArtifactError, "model"),
    ],
)
def test_wrong_calls(model, call, error, words):
    with pytest.raises(error, match=words):
        call(model)


# -- bundles -------------------------------------------------------------------------------------


@pytest.fixture
def copied(model, toy_zoo, tmp_path):
    """A bundle in a folder of its own, and a way to change its manifest."""
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("manifest.json", "weights.npz", "model.onnx"):
        shutil.copy(model.locate(name), folder / name)

    def change(**changes):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps({**manifest, **changes}))
        return manifest

    return folder, change


def test_swapped_weights_fail(model, copied):
    """Weights of another network under the right names, at last even with matching hashes."""
    folder, change = copied
    arrays = dict(model.network.weights)
    name = "member0/outputs/bias"
    arrays[name] = arrays[name][::-1].copy()
    np.savez_compressed(folder / "weights.npz", **arrays)
    with pytest.raises(VerificationError, match=r"weights\.npz is not the file"):
        dz.load(folder)
    change(files={name: sha256_of(folder / name) for name in ("weights.npz", "model.onnx")})
    swapped = dz.load(folder)
    with pytest.raises(VerificationError, match="known answers"):
        swapped.check_known_answers(swapped.backend("numpy"))


def test_swapped_labels_fail(copied):
    """In the manifest alone, and at last wherever the manifest names them."""
    folder, change = copied
    manifest = change()
    outputs, answers = manifest["outputs"], manifest["known_answers"]
    outputs[:2] = outputs[1::-1]
    change(outputs=outputs)
    with pytest.raises(VerificationError, match="known answers that name other outputs"):
        dz.load(folder)
    answers["outputs"][:2] = answers["outputs"][1::-1]
    change(known_answers=answers)
    with pytest.raises(VerificationError, match="other than those of its fingerprint"):
        dz.load(folder)
    tracks = {side: [t["name"] for t in manifest["inputs"][side]["tracks"]] for side in SIDES}
    change(fingerprint=fingerprint_of([output["name"] for output in outputs], tracks))
    swapped = dz.load(folder)
    with pytest.raises(VerificationError, match="other outputs than the manifest"):
        swapped.backend("onnxruntime", "cpu")


@pytest.mark.parametrize(
    "files", [{}, {"weights.npz": "0" * 64}, {"weights.npz": "", "../../etc/passwd": ""}]
)
def test_a_manifest_vouches_for_its_own_files_and_no_others(copied, files):
    folder, change = copied
    change(files=files)
    with pytest.raises(VerificationError, match="instead of the bundle's files"):
        dz.load(folder)


def edited(side, key, value):
    return lambda m: {"inputs": m["inputs"] | {side: m["inputs"][side] | {key: value}}}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edited("rna", "kernel", 5), "rna kernel 5"),
        (edited("promoter", "tracks", []), "promoter scales for"),
        (edited("rna", "scale", [0.0] * 9), "not above zero"),
        (
            lambda m: edited("rna", "tracks", m["inputs"]["rna"]["tracks"][:1] * 8)(m),
            "tracks of one name",
        ),
        (lambda m: {"inputs": {"rna": m["inputs"]["rna"]}}, "no promoter inputs"),
        (lambda m: {"pooling": "none"}, "pooling 'none'"),
        (lambda m: {"id": "../x"}, "'../x' is no id"),
        (lambda m: {"id": "nul"}, "'nul' is no id"),
        (lambda m: {"id": "x" * 101}, "is no id"),
        (lambda m: {"features": {}}, "no id and sha256"),
        (lambda m: {"known_answers": {"genes": [], "outputs": [], "values": []}}, "known answers"),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(copied, edit, message):
    folder, change = copied
    change(**edit(change()))
    with pytest.raises(VerificationError, match="contradicts itself") as error:
        dz.load(folder)
    assert message in str(error.value)


def test_broken_bundles_are_refused(copied):
    folder, change = copied
    family = change()["family"]
    change(family="transformer")
    with pytest.raises(VerificationError, match="not a bundle's manifest"):
        dz.load(folder)
    change(family=family, format_version=99)
    with pytest.raises(VerificationError, match="bundle format 99"):
        dz.load(folder)
    (folder / "model.onnx").unlink()
    change(format_version=1)
    with pytest.raises(ArtifactError, match=r"has no model\.onnx"):
        dz.load(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(VerificationError, match="not a bundle's manifest"):
        dz.load(folder)


# -- feature sets of one's own -------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_features(model, tmp_path_factory):
    """Make a feature set of ten genes, with fewer tracks, in another order."""
    base, rows = model.features, np.arange(9, 19)

    def write(drop: int) -> dz.FeatureSet:
        folder = tmp_path_factory.mktemp("own")
        tracks, pieces, rng = {}, {}, np.random.default_rng(5)
        for side in SIDES:
            order = rng.permutation(len(base.side_tracks[side]))[drop:]
            place = np.full(len(base.side_tracks[side]), -1)
            place[order] = np.arange(order.size)
            part = base.pieces(side).take(rows)
            owner, track = part.rows(), place[part.tracks]
            kept = np.flatnonzero(track >= 0)
            kept = kept[np.lexsort((part.starts[kept], track[kept], owner[kept]))]
            indptr = np.searchsorted(owner[kept], np.arange(rows.size + 1))
            tracks[side] = tuple(base.side_tracks[side][i] for i in order)
            pieces[side] = SitePieces(indptr, track[kept], part.starts[kept], part.ends[kept])
        columns = {name: [values[i] for i in rows] for name, values in vars(base.rows).items()}
        none = np.zeros(0, np.int64)
        small = replace(base, rows=Rows(**columns), side_tracks=tracks, aliases={})
        small.write(folder, pieces, np.zeros((0, 3), int), (np.zeros(rows.size, int), none, none))
        return dz.FeatureSet.load(folder)

    return write


def test_tracks_are_matched_by_name_not_by_order(toy_model, own_features):
    """To the bit."""
    own = own_features(0)
    genes = list(own.genes)
    assert own.tracks("promoter") != toy_model.features.tracks("promoter")
    for backend in ("numpy", "onnxruntime"):
        ours, theirs = (
            toy_model.predict(genes, features=features, backend=backend) for features in (own, None)
        )
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    for by in ("class", "regulator", "track", "position"):
        a, b = (toy_model.explain(genes, by=by, features=features) for features in (own, None))
        pd.testing.assert_frame_equal(a.to_frame(), b.to_frame(), check_exact=True)
        pd.testing.assert_frame_equal(a.totals(), b.totals(), check_exact=True)


def test_missing_tracks_are_an_error_unless_filled(model, own_features):
    own = own_features(4)
    genes = list(own.genes)
    with pytest.raises(InputError, match=r"8 of the model's \d+ tracks are not in") as error:
        model.predict(genes, features=own)
    bound = model.bind(own, fill_missing=True)
    assert all(name in str(error.value) for names in bound.missing.values() for name in names)
    filled = model.predict(genes, features=own, fill_missing=True)
    assert (filled["status"] == "ok").all()
    # As if those tracks had no sites: the same as zeroing their columns by hand.
    sums = {}
    for side in SIDES:
        names = [track.name for track in model.manifest.inputs[side].tracks]
        assert set(bound.missing[side]) == set(names) - set(own.tracks(side))
        sums[side] = model.features.pooled(genes, side, kernel=bound.kernels[side], tracks=names)
        sums[side][:, :, [1 + names.index(name) for name in bound.missing[side]]] = 0
    off = filled[model.outputs].to_numpy() - model.backend("numpy").run(sums)
    scale = np.array([output.scale for output in model.manifest.outputs])
    assert np.abs(off / scale).max() <= 1e-5


def test_what_a_set_of_ones_own_lacks_is_told(model, own_features):
    own = own_features(1)
    queries = [own.genes[0], "SPI1", "nope"]
    table = model.predict(queries, features=own, fill_missing=True)
    assert table["status"].tolist() == ["ok", "no_features", "unknown_gene"]
    assert table["symbol"].tolist()[1] == "SPI1"
    transcripts = replace(own, layout=replace(own.layout, level="transcript"))
    table = model.predict([own.genes[0], "nope"], features=transcripts, fill_missing=True)
    assert table.columns[0] == "transcript_id"
    assert table["status"].tolist() == ["ok", "unknown_gene"]
    assert "by transcript id" in table.attrs["hint"]
