"""Attributions: which regulators a prediction comes from."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from decode_zoo.core.arrays import BoolArray, FloatArray, IntArray, SingleArray
from decode_zoo.core.errors import MissingExtraError, UsageError
from decode_zoo.core.text import as_html
from decode_zoo.features.intervals import ranges
from decode_zoo.features.spec import SIDES, Binning
from decode_zoo.networks.manifest import Manifest, Output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Attribution", "By", "Level", "Summary", "indicator"]

By = Literal["class", "regulator", "track", "position"]

# Classes of regulators, in the order of tables, and the kinds of tracks that they hold.
MASK = "mask"
_CLASSES = {
    "TF": ("tf", "tf_target"),
    "RBP": ("rbp", "rbp_other"),
    "miRNA": ("mirna",),
    "chromatin": ("histone", "open"),
    "sequence": ("sequence",),
    "RNA modification": ("rna_modification",),
}
_CLASS_OF = {kind: name for name, kinds in _CLASSES.items() for kind in kinds}


@dataclass(frozen=True)
class Level:
    """What scores are given for, and which channels of a model go into each.

    Classes are those of `_CLASSES`, or the kind of a track that is in none of them; ``mask`` for
    the mask channels, whose ``regulator`` is ``promoter`` or ``exon``.
    """

    by: By
    # `class`, unless by class `regulator`, by track and position `track` too.
    features: pd.DataFrame = field(repr=False)
    of_channel: IntArray = field(repr=False)  # row of `features` (`inputs.first_channels`)
    # Which features have channels on the RNA side; a class or regulator may have some on both.
    on_rna: BoolArray = field(repr=False)
    layout: Binning

    @classmethod
    def make(cls, manifest: Manifest, by: By) -> Level:
        """Lay out the scores of a model; UsageError if `by` is none of the four."""
        if by not in get_args(By):
            raise UsageError(f"Scores are by {', '.join(get_args(By))}, not by {by!r}.")
        channels = []
        for side in SIDES:
            mask = "promoter" if side == "promoter" else "exon"
            channels.append((MASK, mask, mask, side == "rna"))
            for track in manifest.inputs[side].tracks:
                kind = _CLASS_OF.get(track.kind, track.kind)
                channels.append((kind, track.regulator, track.name, side == "rna"))
        table = pd.DataFrame(channels, columns=["class", "regulator", "track", "on_rna"])
        others = sorted(set(table["class"]) - {*_CLASSES, MASK})
        table["class"] = pd.Categorical(table["class"], [*_CLASSES, *others, MASK])
        # A track is one of its side: the other side may have one of the same name.
        names = {"class": ["class"], "regulator": ["class", "regulator"]}.get(by, list(table))
        groups = table.groupby(names, observed=True, sort=True)
        features = groups.size().index.to_frame(index=False)
        on_rna = table["on_rna"].groupby(groups.ngroup()).any().to_numpy()
        of_channel = groups.ngroup().to_numpy().astype(np.int64)
        features = features.drop(columns="on_rna", errors="ignore")
        return cls(by, features, of_channel, on_rna, manifest.layout)

    @property
    def is_mask(self) -> BoolArray:
        """Which features are the mask channels, which are no regulators."""
        return (self.features["class"] == MASK).to_numpy()


@dataclass(frozen=True, repr=False)
class Attribution:
    """Scores of genes: how much each regulator adds to each prediction.

    Scores of a gene and output add up to the difference between its prediction and that of the
    reference. Features in which a gene does not differ from the reference have no entry: their
    scores are zero.

    """

    genes: pd.DataFrame  # gene_id (or transcript_id) and symbol of the n explained rows, each once
    outputs: tuple[Output, ...]
    resolution: Level
    indptr: IntArray  # (n + 1,), row i owns entries indptr[i]:indptr[i + 1]
    feature: npt.NDArray[np.int32]  # (m,), row of resolution.features, ascending within a gene
    # (m,), along the promoter window or the RNA, 5' to 3'; zeros unless by position
    bin: npt.NDArray[np.int32]
    scores: SingleArray  # (m, n_outputs), in the outputs' units
    prediction: FloatArray  # (n, n_outputs), as the NumPy back end gives it
    reference: FloatArray  # (n_outputs,), prediction for the background (mean over backgrounds)
    sum_of_scores: FloatArray  # (n, n_outputs)
    parents: tuple[str, ...]  # gene of each row; at transcript level rows share one
    rna_lengths: tuple[int, ...]  # spliced, in nt
    # Status of what was asked for and could not be explained.
    not_explained: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of explained rows."""
        return len(self.genes)

    def __repr__(self) -> str:
        """Return a line that describes this."""
        return (
            f"Attribution({len(self)} rows, {len(self.outputs)} outputs, by {self.resolution.by}: "
            f"{len(self.feature)} × {len(self.outputs)} scores)"
        )

    def _repr_html_(self) -> str:
        names = [output.name for output in self.outputs]
        facts = {
            "genes": f"{len(self):,}",
            "outputs": f"{len(names)}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}",
            "by": self.resolution.by,
            "largest delta": f"{self.largest_delta:.1e}",
        }
        first = self.slice(0, min(3, len(self))).top(3).head(9)
        return as_html("Attribution", facts, first.to_html(index=False, escape=True))

    def slice(self, start: int, stop: int) -> Attribution:
        """Return the rows ``start:stop``."""
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        return replace(
            self,
            genes=self.genes.iloc[start:stop].reset_index(drop=True),
            indptr=self.indptr[start : stop + 1] - first,
            feature=self.feature[first:last],
            bin=self.bin[first:last],
            scores=self.scores[first:last],
            prediction=self.prediction[start:stop],
            sum_of_scores=self.sum_of_scores[start:stop],
            parents=self.parents[start:stop],
            rna_lengths=self.rna_lengths[start:stop],
        )

    @property
    def delta(self) -> FloatArray:
        """Prediction − reference − sum of scores, shape (n, n_outputs): zero but for rounding."""
        return self.prediction - self.reference - self.sum_of_scores

    @property
    def largest_delta(self) -> float:
        """Largest |delta|; zero without genes."""
        return float(np.abs(self.delta).max(initial=0))

    def entry_rows(self) -> IntArray:
        """Return the row of each entry, shape (m,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.indptr))

    def to_frame(self) -> pd.DataFrame:
        """Return all scores as a long table, by gene, output, feature.

        Columns are ``gene_id`` (or ``transcript_id``), ``symbol``, ``output``, then by resolution
        ``class``, ``regulator``, ``track``, ``bin``, and ``score`` in the output's unit. Texts are
        categorical.
        """
        counts, n_outputs = np.diff(self.indptr), len(self.outputs)
        runs = np.repeat(counts, n_outputs)
        entry = ranges(np.repeat(self.indptr[:-1], n_outputs), runs)
        output = np.repeat(np.tile(np.arange(n_outputs, dtype=np.int32), len(self)), runs)
        return self._long(entry, output)

    def top(self, k: int) -> pd.DataFrame:
        """Return the k strongest features of each gene and output, masks left out, as `to_frame`.

        Sorted by gene, output, falling absolute score; fewer than k where a gene has fewer.
        """
        if k < 1:
            raise UsageError(f"The number of features per gene and output is at least 1, not {k}.")
        strength = np.abs(self.scores)
        strength[self.resolution.is_mask[self.feature]] = -1
        entries, outputs = [], []
        for start, stop in zip(self.indptr, self.indptr[1:], strict=False):
            own = strength[start:stop]
            n = min(k, int((own[:, :1] >= 0).sum()))
            best = np.argsort(-own, axis=0, kind="stable")[:n]
            entries.append(start + best.T.ravel())
            outputs.append(np.repeat(np.arange(len(self.outputs), dtype=np.int32), n))
        return self._long(
            np.concatenate([np.zeros(0, np.int64), *entries]),
            np.concatenate([np.zeros(0, np.int32), *outputs]),
        )

    def _long(self, entry: IntArray, output: npt.NDArray[np.int32]) -> pd.DataFrame:
        """Return the long table of some entries and outputs."""
        row, feature = self.entry_rows()[entry], self.feature[entry]
        columns: dict[str, Any] = {
            str(name): _taken(values, row) for name, values in self.genes.items()
        }
        columns["output"] = _taken([item.name for item in self.outputs], output)
        for name, values in self.resolution.features.items():
            columns[str(name)] = _taken(values, feature)
        if self.resolution.by == "position":
            columns["bin"] = self.bin[entry]
        columns["score"] = self.scores[entry, output]
        return pd.DataFrame(columns)

    def totals(self) -> pd.DataFrame:
        """Return what the scores add up to, one row a gene and output.

        Columns are ``gene_id`` (or ``transcript_id``), ``output``, ``prediction``, ``reference``,
        ``sum_of_scores`` and ``delta`` = prediction − reference − sum of scores.
        """
        n, n_outputs = self.prediction.shape
        reference = np.broadcast_to(self.reference, (n, n_outputs))
        row, output = np.divmod(np.arange(n * n_outputs), n_outputs)
        return pd.DataFrame(
            {
                self.genes.columns[0]: _taken(self.genes.iloc[:, 0], row),
                "output": _taken([item.name for item in self.outputs], output),
                "prediction": self.prediction.ravel(),
                "reference": reference.ravel(),
                "sum_of_scores": self.sum_of_scores.ravel(),
                "delta": self.delta.ravel(),
            }
        )

    def matrix(self, output: str) -> pd.DataFrame:
        """Return one output's scores as a dense table of float32, shape (n_genes, n_features).

        Rows are by gene id, columns as ``resolution.features``; by position bins are added up.
        UsageError if there is no such output.
        """
        names = [item.name for item in self.outputs]
        if output not in names:
            raise UsageError(f"There is no output '{output}' among those explained.")
        dense = np.zeros((len(self), len(self.resolution.features)), np.float32)
        np.add.at(dense, (self.entry_rows(), self.feature), self.scores[:, names.index(output)])
        columns = self.resolution.features.astype(str)
        return pd.DataFrame(
            dense,
            index=pd.Index(self.genes.iloc[:, 0]),
            columns=columns.iloc[:, 0]
            if columns.shape[1] == 1
            else pd.MultiIndex.from_frame(columns),
        )

    def to_shap(self, output: str) -> Any:
        """Return one output's scores as a ``shap.Explanation``, for shap's own plots.

        ``values`` has shape (n_genes, n_features), by position with bins added up; ``base_values``
        are the reference. Raises MissingExtraError if shap is not installed, UsageError if there is
        no such output.
        """
        try:
            import shap
        except ImportError as error:
            raise MissingExtraError("shap", "explain") from error
        scores = self.matrix(output)
        number = [item.name for item in self.outputs].index(output)
        return shap.Explanation(
            scores.to_numpy(np.float64),
            base_values=np.full(len(scores), self.reference[number]),
            feature_names=self.resolution.features.astype(str).agg(" ".join, axis=1).to_list(),
            output_names=output,
        )

    def summary(self) -> pd.DataFrame:
        """Return means over genes (see `Summary.to_frame`)."""
        return Summary.of(self).to_frame(self.resolution, self.outputs)

    def plot(self, kind: str = "bar", **options: Any) -> Figure:
        """Draw a picture; `options` are those of the function of its name in `pages.plots`.

        ``bar``: strongest regulators; ``heatmap``: outputs × regulators, clustered; ``positions``:
        one gene's sites along promoter and RNA (by position only); ``classes``: their
        contributions. Raises MissingExtraError if matplotlib is not installed, UsageError if the
        kind is none of the four or does not go with the resolution, nothing was explained, or an
        option is wrong.
        """
        # The package's public `plot`, by name: pictures stand above what they show.
        package: Any = sys.modules[__name__.partition(".")[0]]
        figure: Figure = package.plot(self, kind, **options)
        return figure


@dataclass(frozen=True)
class Summary:
    """Scores added up over genes, by feature (row of `Level.features`) and output."""

    n_genes: int  # explained rows
    total: FloatArray  # (n_features, n_outputs), sums of scores
    absolute: FloatArray  # the same of their absolute values
    present: IntArray  # (n_features,), rows that differ from the reference in the feature
    # For genes with several transcripts the variance over those, added up over genes.
    variance: FloatArray  # (n_features, n_outputs)
    n_several: int  # genes with several transcripts

    @classmethod
    def of(cls, attribution: Attribution) -> Summary:
        """Add up the scores of an attribution; UsageError by position: genes share no bins."""
        if attribution.resolution.by == "position":
            raise UsageError(
                "Scores by position are not added up over genes.",
                remedy="Summarise by class, regulator or track.",
            )
        feature, scores = attribution.feature, attribution.scores.astype(np.float64)
        n_features = len(attribution.resolution.features)
        adder = indicator(feature, n_features)
        parent, several = np.unique(np.array(attribution.parents, object), return_inverse=True)
        counts = np.bincount(several, minlength=parent.size)
        groups = np.flatnonzero(counts > 1)
        variance = np.zeros((n_features, scores.shape[1]))
        if groups.size:
            entry = several[attribution.entry_rows()]
            keys, group = np.unique(entry * n_features + feature, return_inverse=True)
            by_gene = indicator(group, keys.size)
            n = counts[keys // n_features][:, None]
            spread = (by_gene @ scores**2 - (by_gene @ scores) ** 2 / n) / n
            variance = indicator(keys % n_features, n_features) @ spread
        return cls(
            len(attribution),
            adder @ scores,
            adder @ np.abs(scores),
            np.bincount(feature, minlength=n_features),
            variance,
            groups.size,
        )

    def __add__(self, other: Summary) -> Summary:
        """Join summaries of different genes."""
        return Summary(*(getattr(self, name) + getattr(other, name) for name in vars(self)))

    def to_frame(self, resolution: Level, outputs: Sequence[Output]) -> pd.DataFrame:
        """Return means over all explained rows, in the outputs' units.

        Columns are ``output``, then by resolution ``class``, ``regulator``, ``track``; ``mean`` and
        ``mean_abs`` score, ``n_genes`` that differ from the reference; where genes have several
        transcripts ``usage``, the mean over such genes of the variance over transcripts (importance
        for transcript usage; Tasaki et al. 2020, Methods, 'DeepLIFT score calculation').
        """
        n_features, n_outputs = self.total.shape
        feature = np.tile(np.arange(n_features), n_outputs)
        n = self.n_genes or np.nan  # the mean over no genes is not known
        columns: dict[str, Any] = {
            "output": _taken([o.name for o in outputs], np.arange(n_outputs).repeat(n_features))
        }
        for name, values in resolution.features.items():
            columns[str(name)] = _taken(values, feature)
        columns["mean"] = (self.total / n).T.ravel()
        columns["mean_abs"] = (self.absolute / n).T.ravel()
        columns["n_genes"] = self.present[feature]
        if self.n_several:
            columns["usage"] = (self.variance / self.n_several).T.ravel()
        return pd.DataFrame(columns)


def indicator(group: npt.NDArray[np.integer], n_groups: int) -> sparse.csr_array:
    """Return a matrix that adds up rows by group, shape (n_groups, group.size)."""
    ones = np.ones(group.size)
    return sparse.csr_array((ones, (group, np.arange(group.size))), shape=(n_groups, group.size))


def _taken(values: Any, codes: npt.NDArray[np.integer]) -> pd.Categorical[Any]:
    """Return a categorical column whose i-th entry is the codes[i]-th value; values may repeat."""
    whole = pd.Categorical(values, categories=pd.unique(np.asarray(values, object)))
    return pd.Categorical.from_codes(whole.codes[codes], dtype=whole.dtype)
