"""Moderated statistics against limma's own worked example and Smyth's formulas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

from decode_zoo.core.errors import InputError, MissingExtraError
from decode_zoo.studies.trait_models import moderate

pytest.importorskip("pylimma")

DATA = Path(__file__).parent / "data" / "traits"

# topTable(fit2, coef=3, sort="none"), from limma-Tests.Rout.save.
LIMMA = pd.DataFrame(
    [
        ("A", -1.71576906, 0.918135675, -6.8894222, 2.674199e-08, 2.674199e-07),
        ("B", 0.25512120, 0.007732271, 1.0244023, 3.118009e-01, 5.196681e-01),
        ("C", 0.27332729, 0.014295836, 1.0975061, 2.789833e-01, 5.196681e-01),
        ("D", 0.44581938, 0.168369004, 1.7901232, 8.100587e-02, 3.494414e-01),
        ("E", 0.08536999, 0.061664340, 0.3427908, 7.335508e-01, 7.335508e-01),
        ("F", -0.16760121, -0.246296671, -0.6729784, 5.048308e-01, 7.098782e-01),
        ("G", -0.37725930, 0.119895035, -1.5148301, 1.376783e-01, 3.494414e-01),
        ("H", 0.37520387, 0.018179245, 1.5065768, 1.397766e-01, 3.494414e-01),
        ("I", 0.08717360, -0.003622829, 0.3500330, 7.281504e-01, 7.335508e-01),
        ("J", -0.14342683, 0.142462814, -0.5759097, 5.679026e-01, 7.098782e-01),
    ],
    columns=["gene", "effect", "mean", "t", "p", "q"],
)


def simulated(n=400, m=24, seed=1):
    """Genes whose variances have six prior degrees of freedom, some related to the trait."""
    random = np.random.default_rng(seed)
    design = np.column_stack(
        [np.ones(m), random.normal(50, 10, m), random.integers(0, 2, m), random.normal(size=m)]
    )
    deviation = np.sqrt(0.3 * 6 / random.chisquare(6, (n, 1)))
    values = 5 + deviation * random.normal(size=(n, m))
    values[:40] += design[:, -1]
    return values, design


def smyth(values, design):
    """t, p, prior degrees of freedom and variance, written from Smyth 2004, sections 3 and 6."""
    d = design.shape[0] - design.shape[1]
    coefficients, rest, _, _ = np.linalg.lstsq(design, values.T, rcond=None)
    s2 = rest / d
    e = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    spread = e.var(ddof=1) - special.polygamma(1, d / 2)
    d0 = 2 * optimize.brentq(lambda y: special.polygamma(1, y) - spread, 1e-6, 1e6, xtol=1e-13)
    s02 = np.exp(e.mean() + special.digamma(d0 / 2) - np.log(d0 / 2))
    posterior = (d0 * s02 + d * s2) / (d0 + d)
    v = np.linalg.inv(design.T @ design)[-1, -1]
    t = coefficients[-1] / np.sqrt(posterior * v)
    return t, 2 * stats.t.sf(np.abs(t), d + d0), d0, s02


def test_limmas_worked_example():
    table = pd.read_csv(DATA / "limma.tsv", sep="\t", index_col="gene")
    found = moderate(table.to_numpy(), np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]]))
    for name in ("effect", "mean", "t", "p", "q"):
        np.testing.assert_allclose(getattr(found, name), LIMMA[name], rtol=6e-7, err_msg=name)
    assert (found.df_prior, found.df_residual) == (np.inf, 4)


def test_smyths_formulas():
    values, design = simulated()
    found = moderate(values, design)
    t, p, prior, variance = smyth(values, design)
    np.testing.assert_allclose(found.t, t, rtol=1e-9)
    np.testing.assert_allclose(found.p, p, rtol=1e-7)
    np.testing.assert_allclose(found.q, stats.false_discovery_control(p), rtol=1e-7)
    assert found.df_prior == pytest.approx(prior, rel=1e-7)
    assert found.variance_prior == pytest.approx(variance, rel=1e-9)
    assert 4 < found.df_prior < 10  # six were simulated


def test_order_of_genes_and_samples_and_units_do_not_matter():
    values, design = simulated()
    random = np.random.default_rng(0)
    genes, samples = random.permutation(len(values)), random.permutation(len(design))
    whole = moderate(values, design)
    other = moderate(values[genes][:, samples], design[samples])
    np.testing.assert_allclose(other.t, whole.t[genes], rtol=1e-9)
    shifted = moderate(values - np.median(values, axis=1, keepdims=True), design * [1, 1, 1, 10])
    np.testing.assert_allclose(shifted.t, whole.t, rtol=1e-9)
    np.testing.assert_allclose(shifted.effect, whole.effect / 10, rtol=1e-9)


def test_genes_that_do_not_vary():
    values, design = simulated(n=50)
    values[7] = 0
    found = moderate(values, design)
    assert (found.t[7], found.p[7]) == (0, 1)
    assert np.isfinite(found.t).all()
    for n, message in ((10, "more than half of the genes do not vary"), (0, "no gene")):
        with pytest.raises(InputError, match=message):
            moderate(np.zeros((n, len(design))), design)


def test_pylimma_is_asked_for_only_when_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pylimma", None)
    with pytest.raises(MissingExtraError, match=r"decode-zoo\[studies\]"):
        moderate(*simulated(n=5))


def test_import_of_studies_is_free_of_optional_packages():
    code = (
        "import sys, decode_zoo.studies.traits, decode_zoo.cli.group;"
        "print({'pylimma', 'statsmodels', 'matplotlib', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
