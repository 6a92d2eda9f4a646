"""What a notebook shows and what it takes: representations, pictures, genes in any container."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pandas as pd
import pytest

import decode_zoo as dz
from decode_zoo.core.errors import VerificationError

GENES = ["TP53", "ALB", "nope"]


@pytest.fixture
def model(toy_models):
    return toy_models["perceptron"]


def containers():
    anndata = pytest.importorskip("anndata")
    statistics = pd.DataFrame({"padj": [0.1, 0.2, 0.3]}, index=GENES)
    return {
        "list": GENES,
        "array": np.array(GENES),
        "Index": pd.Index(GENES),
        "Series of texts": pd.Series(GENES, index=list("abc")),
        "Series of numbers": statistics["padj"],
        "DataFrame by index": statistics,
        "DataFrame with a column": pd.DataFrame({"baseMean": [1, 2, 3], "gene_id": GENES}),
        "AnnData": anndata.AnnData(np.zeros((2, 3)), var=pd.DataFrame(index=GENES)),
        "column of var": pd.DataFrame({"gene_ids": GENES}, index=list("abc"))["gene_ids"],
    }


@pytest.mark.parametrize("kind", containers())
def test_genes_come_in_any_container(model, kind, caplog):
    found = model.predict(containers()[kind])
    assert found.equals(model.predict(GENES))
    assert bool(caplog.records) == (kind in ("Series of numbers", "AnnData") or "Frame" in kind)
    assert len(model.explain(containers()[kind])) == 2


def test_one_output_needs_no_list(model):
    assert model.predict(GENES, outputs="Liver").equals(model.predict(GENES, outputs=["Liver"]))


def test_a_model_pickles_as_its_name_and_hash(toy, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(toy / "models/toy-perceptron-v1", folder)
    opened = dz.load(folder)
    packed = pickle.dumps(opened)
    assert len(packed) < 1000
    assert pickle.loads(packed).manifest == opened.manifest
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"title": "', '"title": "Other '))
    with pytest.raises(VerificationError, match="not the model that was pickled"):
        pickle.loads(packed)
    with pytest.raises(TypeError, match="can be pickled"):
        pickle.dumps(dz.Model(opened.manifest, opened.locate, lambda: None))


def test_objects_show_themselves_and_not_their_inner_life(model):
    attribution = model.explain(GENES, outputs=["Liver"])
    for shown in (model, model.features, attribution):
        html = shown._repr_html_()
        assert html.startswith("<div>")
        assert "<script" not in html
    assert model.id in model._repr_html_()
    assert len(dir(model)) <= 8
    assert len(dir(model.features)) <= 10
    assert all(hasattr(model, name) for name in dir(model))
    assert all(hasattr(model.features, name) for name in dir(model.features))


def test_a_picture_shows_without_pyplot(model):
    pytest.importorskip("matplotlib")
    picture = model.explain(GENES, outputs=["Liver"]).plot()
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert dz.plot(model.explain(GENES, outputs=["Liver"]), "bar")._repr_png_()
