"""Models from the zoo: gene lists, feature sets of one's own, known answers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.errors import ArtifactError, InputError, UsageError, VerificationError
from decode_zoo.features import Rows
from decode_zoo.files import sha256_of
from decode_zoo.layout import SIDES
from decode_zoo.manifest import fingerprint_of
from decode_zoo.pooling import SitePieces


@pytest.fixture(scope="module")
def model(toy_models):
    return toy_models["perceptron"]


def test_the_lines_of_the_readme():
    """And no more of biology than that outputs are not mixed up; accuracy is on the card."""
    model = dz.load("gtex-tissue-v1")
    table = model.predict(["TP53", "ENSG00000139618"])
    assert list(table.columns[:3]) == ["gene_id", "symbol", "status"]
    assert table["gene_id"].tolist() == ["ENSG00000141510", "ENSG00000139618"]
    assert table["symbol"].tolist() == ["TP53", "BRCA2"]
    assert list(table.columns[3:]) == model.outputs
    assert len(model.outputs) == 54
    assert model.outputs[-1] == "median_log2_tpm"
    table = model.predict(["ALB", "HBB", "TTR"], outputs=["Liver", "Brain_Cortex"])
    assert list(table.columns[3:]) == ["Liver", "Brain_Cortex"]
    assert (table["Liver"] > table["Brain_Cortex"]).sum() >= 2
    assert dz.load("gtex-tissue").id == model.id
    assert dz.load("gtex-tissue-decode").id == "gtex-tissue-decode-v1"


def test_every_row_is_answered(toy_model):
    table = toy_model.predict(["TP53", "ENSG00000139618.15", "nope", "TP53", "ENSG00000141510.3"])
    assert table["status"].tolist() == [
        "ok",
        "ok",
        "unknown_gene",
        "duplicate_of:ENSG00000141510",
        "duplicate_of:ENSG00000141510",
    ]
    values = table[toy_model.outputs].to_numpy()
    assert np.isnan(values[2]).all()
    assert np.isfinite(values[[0, 1, 3, 4]]).all()
    np.testing.assert_array_equal(values[3], values[0])
    assert table["gene_id"][2] == "nope"


def test_wrong_calls(model):
    with pytest.raises(UsageError, match="not a single string"):
        model.predict("TP53")
    with pytest.raises(UsageError, match="not a single string"):
        model.predict(["TP53"], outputs="Liver")
    with pytest.raises(UsageError, match="load_features"):
        model.predict(["TP53"], features="hg38-open-v1")
    with pytest.raises(UsageError, match="list of genes"):
        model.features.pooled("TP53", "rna")
    for wrong in ({"device": "gpu"}, {"backend": "tensorrt"}):
        with pytest.raises(UsageError, match="There is no"):
            model.predict(["TP53"], **wrong)
    assert len(repr(model)) + len(repr(model.features)) + len(repr(model.manifest)) < 600
    with pytest.raises(UsageError, match="no output 'Livr'"):
        model.predict(["TP53"], outputs=["Livr"])
    with pytest.raises(ArtifactError, match="gtex-tissue"):
        dz.load("gtex-tisue-v1")
    with pytest.raises(ArtifactError, match="feature set"):
        dz.load("hg38-open-v1")
    with pytest.raises(ArtifactError, match="model"):
        dz.load_features("gtex-tissue-v1")


def test_zero_genes_give_zero_rows(model):
    assert model.predict([]).shape == (0, 3 + len(model.outputs))


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


def test_known_answers_hold(toy_model):
    for backend in ("numpy", "onnxruntime"):
        assert toy_model.check_known_answers(toy_model.backend(backend, "cpu")) <= 1e-5


def test_swapped_weights_fail(model, copied):
    """Weights of another network under the right names, at last even with matching hashes."""
    folder, change = copied
    arrays = dict(model.network.weights)
    name = "member0/outputs/bias"
    arrays[name] = arrays[name][::-1].copy()
    np.savez_compressed(folder / "weights.npz", **arrays)
    with pytest.raises(VerificationError, match=r"weights\.npz is not the file"):
        dz.load(folder)
    files = {name: sha256_of(folder / name) for name in ("weights.npz", "model.onnx")}
    change(files=files)
    swapped = dz.load(folder)
    with pytest.raises(VerificationError, match="known answers"):
        swapped.check_known_answers(swapped.backend("numpy"))


def test_swapped_labels_fail(model, copied):
    """In the manifest alone, and at last wherever the manifest names them."""
    folder, change = copied
    manifest = change()
    outputs, answers = manifest["outputs"], manifest["known_answers"]
    outputs[0], outputs[1] = outputs[1], outputs[0]
    change(outputs=outputs)
    with pytest.raises(VerificationError, match="known answers that name other outputs"):
        dz.load(folder)
    names = answers["outputs"]
    names[0], names[1] = names[1], names[0]
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


def _edited(manifest, side, key, value):
    inputs = json.loads(json.dumps(manifest["inputs"]))
    inputs[side][key] = value(inputs[side][key])
    return {"inputs": inputs}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: _edited(m, "rna", "kernel", lambda k: 5), "rna kernel 5"),
        (lambda m: _edited(m, "promoter", "tracks", lambda t: t[1:]), "promoter scales for"),
        (lambda m: _edited(m, "rna", "scale", lambda s: [0.0, *s[1:]]), "not above zero"),
        (lambda m: _edited(m, "rna", "tracks", lambda t: [t[1], *t[1:]]), "tracks of one name"),
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


@pytest.fixture(scope="module")
def own_features(model, tmp_path_factory):
    """Ten genes of the published set as a feature set of one's own, tracks reordered."""
    base = model.features
    rows = np.arange(9, 19)
    folder = tmp_path_factory.mktemp("own") / "features"

    def write(drop: int) -> dz.FeatureSet:
        path = folder.with_name(f"features{drop}")
        path.mkdir()
        tracks, pieces = {}, {}
        rng = np.random.default_rng(5)
        for side in SIDES:
            order = rng.permutation(len(base.side_tracks[side]))[drop:]
            place = np.full(len(base.side_tracks[side]), -1)
            place[order] = np.arange(order.size)
            part = base.pieces(side).take(rows)
            owner, track = part.rows(), place[part.tracks]
            kept = np.flatnonzero(track >= 0)
            kept = kept[np.lexsort((part.starts[kept], track[kept], owner[kept]))]
            counts = np.bincount(owner[kept], minlength=rows.size)
            tracks[side] = tuple(base.side_tracks[side][i] for i in order)
            pieces[side] = SitePieces(
                np.concatenate(([0], np.cumsum(counts))),
                track[kept],
                part.starts[kept],
                part.ends[kept],
            )
        columns = {
            name: [getattr(base.rows, name)[i] for i in rows] for name in Rows.__dataclass_fields__
        }
        small = replace(base, rows=Rows(**columns), side_tracks=tracks, aliases={})
        none = np.zeros(0, np.int64)
        small.write(
            path, pieces, np.zeros((0, 3), np.int64), (np.zeros(rows.size, int), none, none)
        )
        return dz.FeatureSet.load(path)

    return write


def test_tracks_are_matched_by_name_not_by_order(model, own_features):
    own = own_features(0)
    genes = list(own.genes)
    assert own.tracks("promoter") != model.features.tracks("promoter")
    ours, theirs = model.predict(genes, features=own), model.predict(genes)
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    for by in ("class", "regulator", "track", "position"):
        ours, theirs = (
            model.explain(genes[:4], by=by, features=given, outputs=["Liver", "Lung"])
            for given in (own, None)
        )
        pd.testing.assert_frame_equal(ours.to_frame(), theirs.to_frame(), check_exact=True)


def test_missing_tracks_are_an_error_unless_filled(model, own_features):
    own = own_features(4)
    with pytest.raises(InputError, match=r"8 of the model's \d+ tracks are not in") as error:
        model.predict(list(own.genes), features=own)
    missing = {
        track.name
        for side in ("promoter", "rna")
        for track in model.manifest.inputs[side].tracks
        if track.name not in set(own.tracks(side))
    }
    assert missing
    assert all(name in str(error.value) for name in missing)
    filled = model.predict(list(own.genes), features=own, fill_missing=True)
    assert (filled["status"] == "ok").all()
    bound = model.bind(own, fill_missing=True)
    assert {name for names in bound.missing.values() for name in names} == missing
    # As if those tracks had no sites: the same as zeroing their columns by hand.
    sums = {}
    for side in ("promoter", "rna"):
        names = [track.name for track in model.manifest.inputs[side].tracks]
        full = model.features.pooled(
            list(own.genes), side, kernel=bound.kernels[side], tracks=names
        )
        gone = [1 + i for i, name in enumerate(names) if name in bound.missing[side]]
        full[:, :, gone] = 0
        sums[side] = full
    expected = model.backend("numpy").run(sums)
    scale = np.array([output.scale for output in model.manifest.outputs])
    off = (filled[model.outputs].to_numpy() - expected) / scale
    assert np.abs(off).max() <= 1e-5


def test_known_genes_without_features_say_so(model, own_features):
    own = own_features(1)
    table = model.predict([own.genes[0], "SPI1", "nope"], features=own, fill_missing=True)
    assert table["status"].tolist() == ["ok", "no_features", "unknown_gene"]
    assert table["symbol"].tolist()[1] == "SPI1"


def test_other_bins_are_refused(model, own_features):
    own = own_features(2)
    other = replace(own, layout=replace(own.layout, bin=50))
    with pytest.raises(InputError, match="does not fit the model"):
        model.predict(["TP53"], features=other)


def test_transcript_level_sets_are_asked_by_transcript(model, own_features):
    own = own_features(3)
    transcripts = replace(own, layout=replace(own.layout, level="transcript"))
    table = model.predict([own.genes[0], "nope"], features=transcripts, fill_missing=True)
    assert table.columns[0] == "transcript_id"
    assert table["status"].tolist() == ["ok", "unknown_gene"]
    assert "by transcript id" in table.attrs["hint"]
