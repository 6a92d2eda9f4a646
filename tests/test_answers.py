"""Known answers are computed once for files that nobody touched, and no stranger is believed."""

from __future__ import annotations

import os
import shutil

import pytest

import decode_zoo as dz
from decode_zoo.networks import forward
from decode_zoo.zoo import answers


@pytest.fixture
def computed(monkeypatch, tmp_path):
    """How often known answers were computed; the cache is empty."""
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(tmp_path / "cache"))
    calls, check = [], forward.check_answers
    monkeypatch.setattr(
        "decode_zoo.zoo.model.check_answers", lambda *given: calls.append(1) or check(*given)
    )
    return calls


@pytest.fixture
def folder(toy, tmp_path):
    """A bundle and its feature set, which can be touched."""
    for name in ("models/toy-perceptron-v1", "features/toy-sites-v1"):
        shutil.copytree(toy / name, tmp_path / name)
    return tmp_path


def predict(folder):
    features = dz.load_features(folder / "features/toy-sites-v1")
    model = dz.load(folder / "models/toy-perceptron-v1")
    return dz.Model(model.manifest, model.locate, lambda: features).predict(["TP53"])


def test_a_second_start_believes_the_first(folder, computed):
    first = predict(folder)
    assert predict(folder).equals(first)
    assert len(computed) == 1


@pytest.mark.parametrize(
    "name", ["models/toy-perceptron-v1/weights.npz", "features/toy-sites-v1/pooled.npz"]
)
def test_a_file_that_was_touched_is_asked_again(folder, computed, name):
    predict(folder)
    os.utime(folder / name, ns=(1, 1))
    predict(folder)
    assert len(computed) == 2


@pytest.mark.fault
@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners of files")
@pytest.mark.parametrize("part", ["file", "folder"])
def test_a_verdict_that_others_could_write_is_not_believed(folder, computed, tmp_path, part):
    predict(folder)
    (file,) = (tmp_path / "cache/answers").glob("*/*")
    (file if part == "file" else file.parent).chmod(0o777)
    predict(folder)
    assert len(computed) == 2


@pytest.mark.fault
def test_a_cache_that_cannot_be_written_is_no_matter(folder, computed, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    predict(folder)
    predict(folder)
    assert len(computed) == 2
    assert not answers.recall("0" * 64)
