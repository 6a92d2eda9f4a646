"""Every verb is a function, and the command line gives the same numbers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.core.errors import UsageError

GENES = ["TP53", "ALB", "GATA1", "HBB", "MYC"]
MODEL = "toy-perceptron-v1"

pytestmark = pytest.mark.usefixtures("toy_zoo")


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "genes.txt"
    path.write_text("\n".join(GENES) + "\n")
    return path


def table(text):
    from io import StringIO

    return pd.read_csv(StringIO(text), sep="\t")


def test_predict_and_explain_are_those_of_the_command_line(call, listed):
    _, out, _ = call("predict", "--model", MODEL, listed)
    pd.testing.assert_frame_equal(
        table(out), dz.predict(GENES, MODEL), check_dtype=False, check_exact=False, rtol=1e-5
    )
    _, out, _ = call("explain", "--model", MODEL, listed, "--outputs", "Liver", "--top", 2)
    mine = dz.explain(GENES, MODEL, outputs="Liver").top(2).astype({"score": float})
    np.testing.assert_allclose(table(out)["score"], mine["score"], rtol=1e-5)
    assert table(out)["regulator"].tolist() == mine["regulator"].tolist()


def test_report_is_written_or_kept(tmp_path):
    pytest.importorskip("jinja2")
    made = dz.report(GENES, tmp_path / "r.html", MODEL, outputs=["Liver", "Lung"])
    assert (tmp_path / "r.html").read_text() == made.html
    with pytest.raises(UsageError, match="exists"):
        dz.report(GENES, tmp_path / "r.html", MODEL)
    dz.report(GENES, tmp_path / "r.html", MODEL, outputs=["Liver", "Lung"], force=True)


STUDIES = {
    "knockout": (lambda: dz.knockout(GENES, MODEL), "regulators"),
    "disrupt": (lambda: dz.disrupt(GENES, MODEL), "bins"),
}


@pytest.mark.parametrize("verb", STUDIES)
def test_a_study_is_that_of_the_command_line(call, listed, tmp_path, verb):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    study, name = STUDIES[verb]
    code, _, err = call("study", verb, "--model", MODEL, listed, "-o", tmp_path / "cli")
    assert code == 0, err
    found = study()
    found.write(tmp_path / "python")
    for file in (f"{name}.tsv", "index.html"):
        assert (tmp_path / "python" / file).exists()
    texts = [(tmp_path / where / f"{name}.tsv").read_text() for where in ("cli", "python")]
    assert texts[0] == texts[1]
    summaries = [
        json.loads((tmp_path / where / "summary.json").read_text()) for where in ("cli", "python")
    ]
    for summary in summaries:
        summary.pop("provenance")
    assert summaries[0] == summaries[1]
    assert len(found.to_frame()) == len(found.to_frame(name)) > 0
    assert found._repr_html_().startswith("<div>")
    assert found.plot()._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no picture 'nope'"):
        found.plot("nope")


@pytest.mark.parametrize("models", [MODEL, [MODEL], dz.load])
def test_one_model_or_several_by_name_or_opened(models):
    given = dz.load(MODEL) if callable(models) else models
    with pytest.raises(UsageError, match=f"{MODEL} offers 2"):  # samples
        dz.pair(("TP53", "ALB"), given, removals=50, positions=False)


def test_models_are_listed_and_tested():
    assert dz.models().set_index("id").loc[MODEL, ["kind", "here"]].tolist() == ["model", False]
    assert {path.name for path in dz.fetch(MODEL)} >= {"manifest.json", "weights.npz"}
    assert dz.models().set_index("id").loc[MODEL, "here"]
    tested = dz.test(MODEL)
    assert (tested["largest_difference"] < 1e-4).all()
    assert set(tested["model"]) == {MODEL}


def test_evaluation_takes_a_matrix_or_a_file(tmp_path):
    model = dz.load(MODEL)
    predicted = model.predict().set_index("gene_id")[["Liver", "Lung"]].astype(float)
    matrix = predicted + predicted.to_numpy().std() * 0.1
    found = dz.evaluate(matrix, model, scale="log2", genes=list(matrix.index))
    matrix.rename_axis("gene_id").to_csv(tmp_path / "x.tsv", sep="\t")
    again = dz.evaluate(tmp_path / "x.tsv", MODEL, scale="log2", genes=list(matrix.index))
    pd.testing.assert_frame_equal(found.outputs, again.outputs, rtol=1e-4)
    with pytest.raises(UsageError, match="what the matrix holds"):
        dz.evaluate(tmp_path / "x.tsv", MODEL)
