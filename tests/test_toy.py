"""The toy zoo: that it is what unit tests take it for, and found by name."""

from __future__ import annotations

import pytest

import decode_zoo as dz
from decode_zoo.features.spec import SIDES

FAMILIES = ("decode", "perceptron")


def test_a_toy_has_what_unit_tests_need(toy_model):
    assert toy_model.outputs == ["Liver", "Lung", "median_log2_tpm"]
    features = toy_model.features
    assert len(features.rows.ids) == 41
    kinds = {track.kind for side in SIDES for track in features.side_tracks[side]}
    assert kinds == {"tf", "histone", "rbp", "mirna"}
    table = toy_model.predict(["TP53", "P53", "U8", "nope", "SNORD99", "CD53"])
    assert table["status"].tolist() == [
        "ok",
        "duplicate_of:ENSG00000141510",
        "ambiguous_symbol",
        "unknown_gene",
        "ok",
        "ok",
    ]
    bare = features.row("SNORD99")
    assert not any(features.sums(side)[0][bare].nnz for side in SIDES)


@pytest.mark.parametrize("backend", ["numpy", "onnxruntime"])
def test_its_known_answers_hold(toy_model, backend):
    assert toy_model.check_known_answers(toy_model.backend(backend, "cpu")) <= 1e-4


@pytest.mark.usefixtures("toy_zoo")
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_found_by_name(call, family, toy_models):
    code, out, err = call("predict", "--model", f"toy-{family}-v1", "--all-genes")
    assert (code, len(out.splitlines())) == (0, 42), err
    loaded = dz.load(f"toy-{family}-v1")
    assert loaded.predict(["TP53"]).equals(toy_models[family].predict(["TP53"]))
