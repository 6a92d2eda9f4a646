"""Hyper-parameters by name: what `decode-zoo train --set` and `--repeats` make of them."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from decode_zoo.core.errors import UsageError
from decode_zoo.training.settings import RECIPES, default_settings, read_settings


@pytest.mark.parametrize("family", sorted(RECIPES))
def test_every_field_is_a_setting_that_can_be_set_or_decided_by_repeats(family):
    recipe, settings = RECIPES[family], default_settings(family)
    names = [field.name for kind in (recipe.config, recipe.fit) for field in fields(kind)]
    assert len(names) == len(set(names))  # one name, one meaning
    assert set(names) - set(settings) == {"members", "seeds"} & set(names)
    texts = [f"{name}={str(value).lower()}" for name, value in settings.items()]
    assert read_settings(family, texts) == read_settings(family)


@pytest.mark.parametrize(
    ("family", "texts", "repeats", "config", "fit"),
    [
        ("decode", [], 2, {}, {"seeds": (1, 2)}),  # candidates
        ("decode", ["conv_relu=true"], None, {"conv_relu": True}, {}),
        ("decode", [" patience = 4 "], None, {}, {"patience": 4}),
        ("perceptron", [], None, {"members": 3}, {"seeds": (1, 2, 3)}),
        ("perceptron", ["limit=5"], 1, {"limit": 5.0, "members": 1}, {"seeds": (1,)}),
        ("perceptron", ["epochs=2"], 1, {"members": 1}, {"epochs": 2, "seeds": (1,)}),
    ],
)
def test_settings_go_where_they_belong(family, texts, repeats, config, fit):
    recipe = RECIPES[family]
    assert read_settings(family, texts, repeats) == (recipe.config(**config), recipe.fit(**fit))


@pytest.mark.parametrize(
    ("family", "texts", "words"),
    [
        ("perceptron", ["epoch=3"], "--set epoch=3: the family perceptron has no 'epoch'"),
        ("decode", ["epochs=3"], "the family decode has no 'epochs'"),
        ("perceptron", ["epochs"], "a setting is NAME=VALUE"),
        ("perceptron", ["epochs=2", "epochs=2"], "epochs is given twice"),
        ("perceptron", ["epochs=2.5"], "it must be a whole number, not '2.5'"),
        ("perceptron", ["learning_rate=1,5"], "it must be a number, not '1,5'"),
        ("perceptron", ["weight_decay=nan"], "it must be finite, not 'nan'"),
        ("decode", ["full_relu=1"], "it must be true or false, not '1'"),
        ("perceptron", ["members=2"], "--repeats decides the members"),
    ],
)
def test_a_setting_that_cannot_be_used_lists_those_that_there_are(family, texts, words):
    with pytest.raises(UsageError) as error:
        read_settings(family, texts)
    assert words in error.value.message
    for name, value in default_settings(family).items():
        assert f" {name}={str(value).lower()}" in error.value.remedy


@pytest.mark.parametrize(
    ("family", "texts", "repeats", "words"),
    [
        ("perceptron", ["epochs=0"], None, "epochs must be above zero"),
        ("perceptron", ["dense_width=0"], None, "dense_width must be at least 1"),
        ("perceptron", ["weight_decay=-1"], None, "weight_decay must not be negative"),
        ("perceptron", ["limit=0"], None, "limit"),
        ("perceptron", [], 10**12, "members must be at least 1 and at most 100"),
        ("decode", ["rna_layers=0"], None, "rna_layers must be at least 1"),
        ("decode", ["batch_size=0"], None, "batch_size must be above zero"),
        ("decode", [], 0, "at least one seed"),
    ],
)
def test_what_makes_no_network_is_refused(family, texts, repeats, words):
    with pytest.raises(UsageError, match=words):
        read_settings(family, texts, repeats)


# --- on the command line --------------------------------------------------------------

TRAIN = (
    "train --features nowhere --expression none.tsv --scale tpm --id x-v1 --license CC0-1.0"
    " --citation none"
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--set max_epochs=1", "Settings of perceptron, by default: "),  # by default
        ("--family decode --set epochs=1", "max_epochs=100"),
        ("--repeats 101", "members"),
    ],
)
def test_settings_are_judged_before_anything_is_read(call, tmp_path, options, words):
    code, out, err = call(*TRAIN.split(), *options.split(), "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_help_names_settings_and_numbers_that_there_are(call):
    code, out, _ = call("train", "--help")
    assert code == 0
    for family in RECIPES:
        (line,) = re.findall(rf"^ +{family}  (.+)$", out, re.MULTILINE)
        assert set(line.split()) < set(default_settings(family))
    text = " ".join(out.split())
    members, candidates = (RECIPES[family].repeats for family in ("perceptron", "decode"))
    assert (
        f"members of a perceptron (default {members}), candidates of decode ({candidates})" in text
    )
    assert f"[{'|'.join(RECIPES)}] " in text
