"""The verbs: one function each, which takes ids, paths or objects, and returns an object.

The command line is a shell over these. Models and feature sets are named by id (``gtex-tissue-v1``)
or folder, or given as opened by `load` and `load_features`; genes as `Model.predict` takes them;
expression as a DataFrame, a matrix in a file, or a folder that ``decode-zoo cohort prepare`` made.
`command` and `facts` of a study go into its provenance; `progress` takes how much is done, and of
how much.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from decode_zoo.zoo.model import Model, load, load_features

if TYPE_CHECKING:
    import pandas as pd

    from decode_zoo.attribution.scores import Attribution
    from decode_zoo.features.featureset import FeatureSet
    from decode_zoo.pages.report import Report
    from decode_zoo.studies.enrichment import ListedGenes
    from decode_zoo.studies.evaluation import Evaluation
    from decode_zoo.studies.result import StudyResult
    from decode_zoo.studies.signature import Signature

__all__ = [
    "coexpression",
    "disrupt",
    "enrich",
    "evaluate",
    "explain",
    "fetch",
    "knockout",
    "load",
    "load_features",
    "mediation",
    "models",
    "pair",
    "predict",
    "report",
    "signature",
    "test",
    "traits",
]

Source = str | os.PathLike[str]
Facts = Mapping[str, object]
MODEL, FEATURES = "gtex-tissue-v1", "hg38-open-v2"


def models() -> pd.DataFrame:
    """List models and feature sets.

    Returns
    -------
    DataFrame
        ``id``, ``kind`` (model or features), ``title``, ``size`` in bytes, and ``here``: whether
        all that predictions need is on this machine.

    Examples
    --------
    >>> import decode_zoo as dz
    >>> "gtex-tissue-v1" in set(dz.models()["id"])
    True
    """
    import pandas as pd

    from decode_zoo.zoo.model import needed_to_predict
    from decode_zoo.zoo.store import Store

    store = Store.default()
    rows = [
        {
            "id": artifact.id,
            "kind": artifact.kind,
            "title": artifact.title,
            "size": sum(entry.size for entry in artifact.files.values()),
            "here": all(store.has(artifact.id, name) for name in needed_to_predict(artifact)),
        }
        for _, artifact in sorted(store.registry.artifacts.items())
    ]
    return pd.DataFrame(rows)


def fetch(*ids: str, progress: bool = False) -> list[Path]:
    """Download artifacts into the cache, verify them, and return their files.

    Raises
    ------
    ArtifactError
        If nobody has a file.
    VerificationError
        If something else is in its place.
    """
    from decode_zoo.zoo.store import Store

    store = Store.default()
    return [path for name in ids for path in store.fetch(name, progress=progress)]


def test(
    model: Source | Model = MODEL, *, features: Source | FeatureSet | None = None
) -> pd.DataFrame:
    """Recompute a model's known answers with each installed back end.

    Returns
    -------
    DataFrame
        ``model``, ``backend``, ``genes``, ``largest_difference`` in an output's scale.

    Raises
    ------
    VerificationError
        If a back end does not give them.

    Examples
    --------
    >>> import decode_zoo as dz
    >>> bool((dz.test("gtex-tissue-v1")["largest_difference"] < 1e-4).all())
    True
    """
    import importlib.util

    import pandas as pd

    opened, own = _model(model), None if features is None else _features(features)
    installed = importlib.util.find_spec("onnxruntime") is not None
    rows = []
    for name in ("numpy", "onnxruntime") if installed else ("numpy",):
        backend = opened.backend(name)
        rows.append(
            {
                "model": opened.id,
                "backend": backend.name,
                "genes": len(opened.manifest.known_answers.genes),
                "largest_difference": opened.check_known_answers(backend, features=own),
            }
        )
    return pd.DataFrame(rows)


def predict(genes: Any = None, model: Source | Model = MODEL, **options: Any) -> pd.DataFrame:
    """Predict expression of genes; `options` are those of `Model.predict`.

    Parameters
    ----------
    genes : list, Index, Series, DataFrame or AnnData, optional
        All genes of the feature set if not given.
    model : str, path-like or Model

    Returns
    -------
    DataFrame
        As `Model.predict` returns it.

    Raises
    ------
    ArtifactError, InputError, UsageError, VerificationError
        As `load` and `Model.predict` do.

    Examples
    --------
    >>> import decode_zoo as dz
    >>> dz.predict(["ALB", "TP53"], contrasts=[("Liver", "Lung")]).columns[-1]
    'Liver vs Lung'
    """
    return _model(model).predict(genes, **options)


def explain(genes: Any = None, model: Source | Model = MODEL, **options: Any) -> Attribution:
    """Attribute predictions to regulators; `options` are those of `Model.explain`.

    Parameters
    ----------
    genes : list, Index, Series, DataFrame or AnnData, optional
    model : str, path-like or Model

    Returns
    -------
    Attribution

    Raises
    ------
    ArtifactError, InputError, UsageError, VerificationError
        As `load` and `Model.explain` do.

    Examples
    --------
    >>> import decode_zoo as dz
    >>> dz.explain(["ALB"], outputs="Liver").top(1)["regulator"].item()
    'HNF4A'
    """
    return _model(model).explain(genes, **options)


def report(
    genes: Any, path: Source | None = None, model: Source | Model = MODEL, **options: Any
) -> Report:
    """Make an interactive page about genes; write it if a path is given.

    Parameters
    ----------
    genes : list, Index, Series, DataFrame or AnnData
    path : path-like, optional
        The page to write, which ends in .html.
    model : str, path-like or Model
    **options
        Those of `decode_zoo.pages.report.build_report`, and ``force`` to replace a page.

    Returns
    -------
    Report
    """
    from decode_zoo.pages.report import build_report, check_page

    force = options.pop("force", False)
    if path is not None:
        check_page(path, force)
    made = build_report(_model(model), genes, **{"command": ("decode_zoo.report",), **options})
    if path is not None:
        made.write(path, force=force)
    return made


def evaluate(
    expression: Source | pd.DataFrame,
    model: Source | Model = MODEL,
    *,
    scale: Literal["tpm", "log2tpm", "log2"] | None = None,
    genes: Any = None,
    seed: int = 0,
) -> Evaluation:
    """Compare a model's predictions with measured expression, beside controls.

    Parameters
    ----------
    expression : DataFrame, matrix in a file, or prepared cohort
        Genes × outputs, named as the model's.
    model : str, path-like or Model
    scale : {"tpm", "log2tpm", "log2"}
        What a matrix holds; a prepared cohort is log2.
    genes : optional
        Those to compare; the genes that the model was tested on if not given.
    seed : int
        Of the controls.

    Raises
    ------
    UsageError
        If a matrix comes without its scale, or the model does not say what it was tested on.
    """
    from decode_zoo.cohort.expression import make_targets
    from decode_zoo.core.errors import UsageError
    from decode_zoo.features.genes import genes_of
    from decode_zoo.studies.evaluation import evaluate_model, held_out_genes

    opened = _model(model)
    if scale is None:
        if not _is_prepared(expression):
            raise UsageError(
                "Say what the matrix holds.", remedy="scale='tpm', 'log2tpm' or 'log2'"
            )
        scale = "log2"
    targets = make_targets(_matrix(expression), scale=scale, min_tpm=0)
    named = genes_of(genes)
    if named is None:
        return evaluate_model(opened, targets, held_out_genes(opened), seed=seed)
    found = opened.features.index.resolve(named)
    known = [gene for gene, row in zip(found.gene_ids, found.rows, strict=True) if row >= 0]
    return evaluate_model(opened, targets, known, seed=seed)


def knockout(genes: Any = None, model: Source | Model = MODEL, **options: Any) -> StudyResult:
    """Predict how expression changes if regulators lose their sites, one by one.

    Parameters
    ----------
    genes : optional
        All genes of the feature set if not given.
    model : str, path-like or Model
    **options
        ``by``, ``outputs``, ``regulators``, ``double`` (pairs), ``keep``; see
        `decode_zoo.studies.knockouts.study_knockout`.

    Examples
    --------
    >>> import decode_zoo as dz
    >>> found = dz.knockout(["ALB"], outputs="Liver", regulators=["HNF4A", "CEBPA"])
    >>> len(found.to_frame())
    2
    """
    from decode_zoo.studies.knockouts import study_knockout

    return study_knockout(_model(model), genes, **{"command": ("decode_zoo.knockout",), **options})


def disrupt(genes: Any = None, model: Source | Model = MODEL, **options: Any) -> StudyResult:
    """Predict how expression changes if the sites of one place are gone, bin by bin.

    Needs the positions of the feature set; `options` are ``outputs`` and those common to studies.
    """
    from decode_zoo.studies.disruption import study_disruption

    return study_disruption(_model(model), genes, **{"command": ("decode_zoo.disrupt",), **options})


def pair(
    genes: tuple[str, str], models: Source | Model | Sequence[Source | Model], **options: Any
) -> StudyResult:
    """Find which regulators and which places hold two genes together.

    `models` predict samples; `options` are those of `decode_zoo.studies.pairs.study_pair`.
    """
    from decode_zoo.studies.pairs import study_pair

    opened = [_model(one) for one in _several(models)]
    return study_pair(opened, genes, **{"command": ("decode_zoo.pair",), **options})


def coexpression(
    expressions: Source | pd.DataFrame | Sequence[Source | pd.DataFrame],
    models: Source | Model | Sequence[Source | Model],
    profiles: Source | Model = MODEL,
    **options: Any,
) -> StudyResult:
    """Separate co-expressed genes from others by what is predicted of them.

    Each model of samples has its own expression; `profiles` is the model of tissues that they are
    compared with; `options` are those of `decode_zoo.studies.coexpression.study_coexpression`.
    """
    from decode_zoo.studies.coexpression import study_coexpression

    return study_coexpression(
        [_model(one) for one in _several(models)],
        [_matrix(one) for one in _several(expressions)],
        _model(profiles),
        **{"command": ("decode_zoo.coexpression",), **options},
    )


def mediation(
    expression: Source | pd.DataFrame,
    pair: tuple[str, str],
    regulators: Iterable[str],
    features: Source | FeatureSet = FEATURES,
    **options: Any,
) -> StudyResult:
    """Test whether regulators account for the co-expression of two genes.

    `options` are ``draws``, ``seed`` and those common to studies.
    """
    from decode_zoo.studies.mediation import study_mediation

    given = {"command": ("decode_zoo.mediation",), **options}
    return study_mediation(_matrix(expression), pair, regulators, _features(features), **given)


def traits(
    expression: Source | pd.DataFrame,
    samples: Source | pd.DataFrame,
    trait: str,
    model: Source | Model,
    **options: Any,
) -> StudyResult:
    """Relate a trait to expression, its prediction, and regulators.

    `samples` is a table of names and traits, or a file with it; `options` are those of
    `decode_zoo.studies.traits.study_traits`.
    """
    import pandas as pd

    from decode_zoo.cohort.samples import read_samples
    from decode_zoo.studies.traits import study_traits

    table = samples if isinstance(samples, pd.DataFrame) else read_samples(samples)
    given = {"command": ("decode_zoo.traits",), **options}
    return study_traits(_model(model), _matrix(expression), table, trait, **given).result()


def enrich(
    model: Source | Model = MODEL,
    *,
    genes: Any = None,
    all_genes: bool = False,
    scores: Source | None = None,
    outputs: str | Sequence[str] | None = None,
    gene_sets: Mapping[str, Source] | None = None,
    lists: Sequence[ListedGenes] | Mapping[str, Iterable[str]] = (),
    command: Sequence[str] = ("decode_zoo.enrich",),
    facts: Facts | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **scope: Any,
) -> StudyResult:
    """Find what the regulators that a model uses most have in common.

    Parameters
    ----------
    model : str, path-like or Model
    genes : optional
        Genes to explain; those that the model was tested on if not given, or `all_genes`.
    scores : path-like, optional
        Scores that ``decode-zoo explain --summary`` wrote, instead of explaining.
    outputs : str or sequence of str, optional
        Averaged over; the fold changes if not given.
    gene_sets : mapping of str to path-like, optional
        GMT files by the name of their library.
    lists : mapping of str to genes, or ListedGenes
    **scope
        ``classes``, ``top``, ``min_size``, ``max_size``, ``permutations``, ``seed``: see
        `decode_zoo.studies.enrichment.Scope`.
    """
    from dataclasses import replace

    from decode_zoo.core.provenance import provenance
    from decode_zoo.core.text import counted
    from decode_zoo.features.genesets import read_gmt
    from decode_zoo.studies import enrichment
    from decode_zoo.studies.measured import tested_rows
    from decode_zoo.zoo.model import FoundRows

    wanted = enrichment.Scope(**scope)
    wanted.check()
    libraries = {name: read_gmt(path) for name, path in (gene_sets or {}).items()}
    if isinstance(lists, Mapping):
        lists = [enrichment.ListedGenes(name, tuple(given)) for name, given in lists.items()]
    opened = _model(model)
    chosen = [outputs] if isinstance(outputs, str) else outputs
    bound, asked = opened.bind(), None
    told = opened.provenance(bound, opened.backend("numpy"))
    if scores is not None:
        found = enrichment.read_scores(scores)
    else:
        if genes is not None or all_genes:
            asked = opened.rows_of(genes, bound)
        else:
            asked = FoundRows(tested_rows(opened, bound), {}, None)
        found = enrichment.mean_scores(opened, asked.rows, chosen, progress)
        told |= {
            "genes": "given" if genes is not None else "all" if all_genes else "tested on",
            "explained": asked.rows.size,
            "not_explained": asked.lost,
        }
    study = enrichment.study_enrichment(
        opened,
        found,
        libraries=libraries,
        lists=lists,
        outputs=chosen,
        scope=wanted,
        provenance=provenance(command, **(facts or {}), **told),
    )
    result = study.result()
    if asked is None:
        return result
    lost = f", {len(asked.lost)} not" if asked.lost else ""
    lines = [f"{counted(asked.rows.size, 'gene')} explained{lost}"]
    lines += [asked.hint] if asked.hint else []
    return replace(result, lines=[*lines, *result.lines])


def signature(
    genes: Any,
    model: Source | Model = MODEL,
    *,
    direction: Literal["both", "up", "down"] = "both",
    regulators: Literal["tf", "rna"] = "tf",
    background: Any = None,
    command: Sequence[str] = ("decode_zoo.signature",),
    facts: Facts | None = None,
) -> StudyResult:
    """Rank the regulators that account for a list of genes.

    Parameters
    ----------
    genes : list, file, or mapping of names to lists
        A file is a list of genes, a table whose header names a gene, a log2 fold change and perhaps
        a p-value in this order, or many signatures (GMT).
    model : str, path-like or Model
    direction : {"both", "up", "down"}
        Which genes of a table to take.
    regulators : {"tf", "rna"}
        TFs and cofactors, or RBPs and miRNA families.
    background : optional
        Genes that could have been in the signature.

    Examples
    --------
    >>> import decode_zoo as dz
    >>> found = dz.signature(["ALB", "APOA1", "APOB", "TTR", "FGB", "FGA", "SERPINA1", "AHSG"])
    >>> list(found.to_frame().columns[:3])
    ['signature', 'regulator', 'rank']
    """
    from decode_zoo.core.provenance import provenance
    from decode_zoo.features.genes import genes_of
    from decode_zoo.studies.signature import study_signatures

    opened = _model(model)
    bound = opened.bind()
    found = study_signatures(
        _signatures(genes, direction),
        bound.features,
        opened,
        side="promoter" if regulators == "tf" else "rna",
        background=genes_of(background),
    )
    told = opened.provenance(bound, opened.backend("auto"))
    return found.result(provenance(command, **(facts or {}), **told))


def _signatures(genes: Any, direction: Literal["both", "up", "down"]) -> list[Signature]:
    """Return signatures, whatever holds them."""
    from decode_zoo.features.genes import genes_of
    from decode_zoo.studies.signature import Signature, read_signature, read_signatures

    if isinstance(genes, list) and genes and isinstance(genes[0], Signature):
        return genes
    if isinstance(genes, Mapping):
        return [Signature(str(name), tuple(given)) for name, given in genes.items()]
    if isinstance(genes, os.PathLike) or (isinstance(genes, str) and Path(genes).is_file()):
        is_gmt = os.fspath(genes).lower().endswith((".gmt", ".gmt.gz"))
        return read_signatures(genes) if is_gmt else [read_signature(genes, direction)]
    return [Signature("genes", tuple(genes_of(genes) or ()))]


def _model(model: Source | Model) -> Model:
    return model if isinstance(model, Model) else load(model)


def _features(features: Source | FeatureSet) -> FeatureSet:
    is_source = isinstance(features, (str, os.PathLike))
    return load_features(features) if is_source else features  # type: ignore[arg-type, return-value]


def _is_prepared(expression: object) -> bool:
    return isinstance(expression, (str, os.PathLike)) and Path(expression).is_dir()


def _matrix(expression: Source | pd.DataFrame) -> pd.DataFrame:
    """Return a matrix of expression, which may lie in a file or a prepared folder."""
    from decode_zoo.cohort.expression import read_expression
    from decode_zoo.cohort.folder import expression_of

    if not isinstance(expression, (str, os.PathLike)):
        return expression
    path = Path(expression)
    return read_expression(expression_of(path) if path.is_dir() else path)


def _several(given: Any) -> list[Any]:
    """Return one thing or several as a list."""
    return list(given) if isinstance(given, (list, tuple)) else [given]
