"""The verbs: one function each, which takes ids, paths or objects, and returns an object.

The command line is a shell over these. Models and feature sets are named by id (``gtex-tissue-v1``)
or folder, or given as opened by `load` and `load_features`; genes as `Model.predict` takes them;
expression as a DataFrame, a matrix in a file, or a folder that ``decode-zoo cohort prepare`` made.
`command` and `facts` of a study go into its provenance; `progress` takes how much is done, and of
how much.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from decode_zoo.zoo.model import Model, load, load_features

if TYPE_CHECKING:
    import pandas as pd

    from decode_zoo.attribution.scores import Attribution
    from decode_zoo.cohort.preparation import Cohort
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
    "finetune",
    "knockout",
    "load",
    "load_features",
    "mediation",
    "merge_features",
    "models",
    "pair",
    "predict",
    "prepare_cohort",
    "report",
    "signature",
    "test",
    "train",
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


def prepare_cohort(
    expression: Source | pd.DataFrame,
    samples: Source | pd.DataFrame | None = None,
    folder: Source | None = None,
    *,
    quantity: Literal["counts", "tpm", "log2"],
    features: Source | FeatureSet = FEATURES,
    force: bool = False,
    command: Sequence[str] = ("decode_zoo.prepare_cohort",),
    **options: Any,
) -> Cohort:
    """Prepare counts, TPM or log2(TPM + 0.25) of samples for fine-tuning; write a folder if named.

    Parameters
    ----------
    expression : DataFrame or path-like
        Genes × samples, or turned: TSV, CSV, Parquet or AnnData.
    samples : DataFrame or path-like, optional
        Names of samples, then their traits.
    folder : path-like, optional
        Gets expression, samples, a record and a page on quality; needs `expression` in a file.
    quantity : {"counts", "tpm", "log2"}
    features : str, path-like or FeatureSet
        For ids of genes and exonic lengths.
    **options
        ``covariates``, ``min_tpm``, ``min_share``, ``length_bias``: see
        `decode_zoo.cohort.preparation.prepare_cohort`.
    """
    from decode_zoo.cohort import preparation
    from decode_zoo.pages.folders import write_cohort

    known = _features(features)
    prepared = preparation.prepare_cohort(expression, samples, known, quantity=quantity, **options)
    if folder is not None:
        files = [Path(given) for given in (expression, samples) if _is_source(given)]
        write_cohort(prepared, known, folder, inputs=files, command=command, force=force)
    return prepared


def train(
    features: Source | FeatureSet,
    expression: Source,
    folder: Source,
    *,
    scale: Literal["tpm", "log2tpm"],
    id: str,
    license: str,
    citation: str,
    title: str | None = None,
    family: Literal["perceptron", "decode"] = "perceptron",
    min_tpm: float = 2.0,
    repeats: int | None = None,
    settings: Sequence[str] = (),
    force: bool = False,
    command: Sequence[str] = ("decode_zoo.train",),
    **split: Any,
) -> Model:
    """Train a model on a feature set and an expression matrix; write a bundle and return it.

    Parameters
    ----------
    features : str, path-like or FeatureSet
    expression : path-like
        Genes × tissues or samples.
    folder : path-like
        The bundle to write.
    scale : {"tpm", "log2tpm"}
    id, license, citation, title : str
        What a registry asks for; the id has a version, such as ``my-tissue-v1``.
    family : {"perceptron", "decode"}
    min_tpm : float
        Genes that exceed this nowhere are dropped.
    repeats : int, optional
        Members of a perceptron (3), candidates of decode (10).
    settings : sequence of str
        Hyper-parameters, ``NAME=VALUE``.
    **split
        Fields of `decode_zoo.networks.manifest.Split`: ``kinds``, ``test``, ``absent``, ….

    Raises
    ------
    InputError
        If a registry would refuse what the bundle says of itself.
    MissingExtraError
        If TensorFlow is not installed.
    """
    from decode_zoo.cohort.expression import make_targets, read_expression
    from decode_zoo.networks.manifest import Split
    from decode_zoo.training import import_keras
    from decode_zoo.training.model_card import check_publishable
    from decode_zoo.training.pipeline import Description, train_bundle
    from decode_zoo.training.settings import read_settings

    network, fit = read_settings(family, settings, repeats)
    known, title = _features(features), id if title is None else title
    check_publishable(id, title, license, citation, known.name)
    import_keras()
    file = Path(expression)
    return train_bundle(
        known,
        make_targets(read_expression(file), scale=scale, min_tpm=min_tpm),
        folder,
        Description(
            id=id,
            title=title,
            license=license,
            citation=citation,
            sources=(file.name,),
            features_id=known.name,
            data=_hashes(file),
            command=tuple(command),
        ),
        network=network,
        fit=fit,
        selection=Split(**split),
        force=force,
    )


def finetune(
    cohort: Source,
    folder: Source,
    base: Source | Model = MODEL,
    *,
    quantity: Literal["counts", "tpm", "log2"] | None = None,
    samples: Source | None = None,
    covariates: Sequence[str] = (),
    split: Source | None = None,
    id: str | None = None,
    title: str | None = None,
    license: str = "none: personal data, not to be shared",
    citation: str = "unpublished",
    repeats: int = 1,
    settings: Sequence[str] = (),
    from_scratch: bool = False,
    force: bool = False,
    command: Sequence[str] = ("decode_zoo.finetune",),
    **transfer: Any,
) -> Model:
    """Fine-tune a model on a cohort, an output a sample; write a bundle and return it.

    Parameters
    ----------
    cohort : path-like
        A folder that `prepare_cohort` wrote, or a matrix of genes × samples and its `quantity`.
    folder : path-like
        The bundle to write. What it knows was fitted to people: treat it as you treat their data.
    base : str, path-like or Model
    samples, covariates
        Of a matrix, as for `prepare_cohort`.
    split : path-like, optional
        Table of genes and their part: training, validation or test; as the base's if not given.
    id, title, license, citation : str, optional
    repeats : int
        Members, whose mean the model is.
    settings : sequence of str
        Hyper-parameters, ``NAME=VALUE``.
    from_scratch : bool
        Train the base's kind of network anew, for comparison.
    **transfer
        ``trials``, ``keep_above``, ``anonymise``, ``membership``: see
        `decode_zoo.training.transfer.Transfer`.

    Raises
    ------
    UsageError, InputError
        If options do not go together, or the cohort cannot be read.
    MissingExtraError
        If TensorFlow is not installed.
    """
    from decode_zoo.cohort import preparation
    from decode_zoo.cohort.expression import make_targets, read_expression
    from decode_zoo.cohort.folder import expression_of
    from decode_zoo.core.errors import UsageError
    from decode_zoo.training import import_converters, import_keras
    from decode_zoo.training.model_card import check_publishable
    from decode_zoo.training.pipeline import Description
    from decode_zoo.training.settings import read_finetune
    from decode_zoo.training.transfer import Transfer, finetune_bundle, read_split

    if from_scratch and settings:
        raise UsageError(
            "Training from scratch takes the settings of the base's kind of network; others are "
            "for fine-tuning.",
            remedy="decode-zoo train takes settings, too.",
        )
    membership = transfer.pop("membership", True) and not from_scratch
    fit = read_finetune(settings, repeats)
    around = Transfer(from_scratch=from_scratch, membership=membership, **transfer)
    model, file = _model(base), Path(cohort)
    named = {
        "id": _id_of(Path(folder)) if id is None else id,
        "title": f"Expression of samples, fine-tuned from {model.id}" if title is None else title,
        "license": license,
        "citation": citation,
    }
    check_publishable(**named, features=model.manifest.features["id"])
    import_keras()
    import_converters()
    if file.is_dir():
        file = expression_of(file)
        matrix = read_expression(file)
    elif quantity is None:
        raise UsageError("Say what the matrix holds.", remedy="quantity='counts', 'tpm' or 'log2'")
    else:
        matrix = preparation.prepare_cohort(
            file, samples, model.features, quantity=quantity, covariates=covariates
        ).expression
    data = _hashes(file, samples)
    return finetune_bundle(
        model,
        make_targets(matrix, scale="log2"),
        folder,
        Description(
            **named,
            sources=tuple(f"Cohort: {name}" for name in data),
            features_id=model.manifest.features["id"],
            data={**data, **_hashes(split)},
            command=tuple(command),
        ),
        fit=fit,
        transfer=around,
        split=None if split is None else read_split(split),
        force=force,
    )


def merge_features(
    base: Source | FeatureSet, added: Source | FeatureSet, folder: Source, *, force: bool = False
) -> FeatureSet:
    """Add the tracks of one feature set to those of another, of the same gene models.

    Raises InputError if they do not fit.
    """
    from decode_zoo.features import building

    return building.merge_features(_features(base), _features(added), folder, force=force)


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


def _is_source(given: object) -> TypeGuard[Source]:
    return isinstance(given, (str, os.PathLike))


def _is_prepared(expression: object) -> bool:
    return _is_source(expression) and Path(expression).is_dir()


def _hashes(*files: Source | None) -> dict[str, str]:
    """Return the sha256 of files, by name."""
    from decode_zoo.core.files import sha256_of

    return {Path(file).name: sha256_of(file) for file in files if file is not None}


def _id_of(folder: Path) -> str:
    """Make an id of the name of a folder."""
    words = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "cohort"
    return words if re.search(r"-v[1-9][0-9]*$", words) else f"{words}-v1"


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
