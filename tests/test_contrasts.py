"""Contrasts, the difference of two outputs, predicted and explained; the spread of members."""

from __future__ import annotations

import numpy as np
import pytest

from decode_zoo.core.errors import UsageError
from decode_zoo.networks.manifest import MEDIAN

GENES = ["TP53", "ALB", "GATA1", "nope"]
PAIR = ("Liver", "Lung")


@pytest.fixture(params=["decode", "perceptron"])
def model(request, toy_models):
    return toy_models[request.param]


def test_a_contrast_is_the_difference_of_what_is_predicted(model):
    table = model.predict(GENES, outputs=PAIR, contrasts=[PAIR, PAIR[::-1]])
    there = table["status"] == "ok"
    assert list(table.columns[3:]) == [*PAIR, "Liver vs Lung", "Lung vs Liver"]
    np.testing.assert_array_equal(table["Liver vs Lung"], table["Liver"] - table["Lung"])
    np.testing.assert_array_equal(table["Lung vs Liver"], -table["Liver vs Lung"])
    assert table.loc[there, "Liver vs Lung"].abs().max() > 1e-3
    alone = model.predict(GENES, contrasts=[PAIR])
    assert alone.iloc[:, 3:].equals(table[["Liver vs Lung"]])


@pytest.mark.parametrize("background", [None, ["ALB", "HBB"]])
def test_its_scores_are_those_of_one_output_less_those_of_the_other(model, background):
    options = {"by": "track", "background": background}
    both = model.explain(GENES, outputs=PAIR, **options)
    contrast = model.explain(GENES, contrasts=[PAIR], **options)
    (name,) = [output.name for output in contrast.outputs]
    expected = both.matrix("Liver") - both.matrix("Lung")
    np.testing.assert_allclose(contrast.matrix(name), expected, atol=2e-6)
    assert np.abs(expected.to_numpy()).max() > 1e-3
    assert contrast.largest_delta < 1e-5


def test_outputs_beside_a_contrast_keep_their_bits(model):
    alone = model.explain(GENES, outputs=PAIR)
    beside = model.explain(GENES, outputs=PAIR, contrasts=[PAIR])
    np.testing.assert_array_equal(beside.scores[:, :2], alone.scores)


@pytest.mark.parametrize(
    ("contrasts", "words"),
    [
        ([("Liver", "Liver")], "asked twice for 'Liver'"),
        ([("Liver", "Livr")], "has no output 'Livr'"),
        ([("Liver", MEDIAN)], "cannot be contrasted"),
        ([PAIR, PAIR], "named twice"),
    ],
)
def test_what_is_no_contrast_is_refused(model, contrasts, words):
    with pytest.raises(UsageError, match=words):
        model.predict(GENES, contrasts=contrasts)


@pytest.mark.usefixtures("toy_zoo")
def test_every_verb_takes_one(call, tmp_path):
    (tmp_path / "genes.txt").write_text("TP53\nALB\n")
    options = ("--model", "toy-perceptron-v1", tmp_path / "genes.txt", "--contrast", "Liver,Lung")
    code, out, _ = call("predict", *options)
    assert (code, out.splitlines()[0].split("\t")[3:]) == (0, ["Liver vs Lung"])
    code, out, _ = call("explain", *options)
    assert (code, {line.split("\t")[2] for line in out.splitlines()[1:]}) == (0, {"Liver vs Lung"})
    code, out, err = call("report", *options, "-o", tmp_path / "r.html")
    assert code == 0, err
    assert "Liver vs Lung" in (tmp_path / "r.html").read_text()


def test_the_spread_is_that_of_the_members(toy_models):
    model = toy_models["perceptron"]
    table = model.predict(GENES, outputs=PAIR, contrasts=[PAIR], spread=True)
    names = [*PAIR, "Liver vs Lung"]
    assert list(table.columns[3:]) == [*names, *(f"{name} sd" for name in names)]
    bound = model.bind()
    rows = model.rows_of(GENES, bound).rows
    sums = {side: part.dense() for side, part in bound.pooled(rows).items()}
    members = np.array(model.network.fold().by_member(sums))[:, :, model.numbers_of(PAIR)]
    assert len(members) > 1
    members = np.concatenate([members, members[:, :, :1] - members[:, :, 1:]], axis=2)
    found = table.loc[table["status"] == "ok"]
    np.testing.assert_allclose(found[names], members.mean(axis=0), atol=1e-5)
    expected = members.std(axis=0, ddof=1)
    np.testing.assert_allclose(found.iloc[:, -3:], expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(UsageError, match="single network"):
        toy_models["decode"].predict(GENES, spread=True)
