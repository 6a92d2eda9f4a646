"""Model bundles on disk: a folder with ``manifest.json``, ``weights.npz`` and ``model.onnx``.

The manifest freezes everything that a prediction depends on: track names and their order, scales,
bin and window, outputs and units. Arrays and JSON only; nothing in a bundle is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from decode_zoo.core.errors import InputError, VerificationError
from decode_zoo.core.files import FolderKind, read_at_most, sha256_of
from decode_zoo.core.provenance import plain
from decode_zoo.core.schema import from_plain, parse_json
from decode_zoo.core.text import check_id, output_fault, track_fault
from decode_zoo.features.featureset import CARD, FeatureSet
from decode_zoo.features.spec import LONGEST, SIDES, Binning, Side, Track
from decode_zoo.networks.families import FAMILIES, Config

if TYPE_CHECKING:
    from decode_zoo.features.featureset import FeatureSet

__all__ = [
    "BUNDLE_FILES",
    "BUNDLE_FOLDER",
    "MAX_MANIFEST_BYTES",
    "MEDIAN",
    "FrozenInputs",
    "KnownAnswers",
    "Manifest",
    "Output",
    "Split",
    "fingerprint_of",
]

FORMAT_VERSION = 1
BUNDLE_FILES = ("manifest.json", "weights.npz", "model.onnx")
BUNDLE_FOLDER = FolderKind(BUNDLE_FILES, (CARD,))

_RHO = ("fold_change_spearman", "median_spearman")
# The published one has 0.4 MB.
MAX_MANIFEST_BYTES = 16 << 20
# As much as training lets through. What is allowed elsewhere follows from what a manifest admits,
# so it must not admit anything.
_MOST_PARITY = 1e-4
_FEWEST_ANSWERS = 10
# Of a published feature set or of a folder; never a path.
_NAME = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f]{1,255}")

MEDIAN = "median_log2_tpm"


def fingerprint_of(outputs: Sequence[str], tracks: Mapping[Side, Sequence[str]]) -> str:
    """Hash what columns of outputs and channels of tracks mean: names, in their order."""
    named = [list(outputs), *(list(tracks[side]) for side in SIDES)]
    return hashlib.sha256(json.dumps(named, ensure_ascii=False).encode()).hexdigest()


def _are_scales(values: Iterable[float]) -> bool:
    return all(0 < value < math.inf for value in values)


def _wrong_names(what: str, names: Iterable[str], fault: Callable[[str], str | None]) -> list[str]:
    """Return what names break tables, and how."""
    return [f"{what} {name[:60]!r}, whose name {fault(name)}" for name in names if fault(name)]


@dataclass(frozen=True)
class Output:
    """One prediction column: a tissue's fold change, the median, or a score, all else of a gene.

    The network's own output times `scale` is in `unit` (``log2 fold change``, ``log2 TPM``, …).
    """

    name: str
    unit: str
    kind: Literal["fold_change", "median", "score"]
    scale: float = 1.0


@dataclass(frozen=True)
class FrozenInputs:
    """What one side of the network takes; attributes refer to a reference without any site."""

    tracks: tuple[Track, ...]  # in channel order, behind channel 0, the mask
    scale: tuple[float, ...]  # inputs in bases are divided by it: 1 + n_tracks maxima in training
    kernel: int  # composite width of the branch in bins
    background: float  # mask of the reference, in bases: promoter window, or median RNA length


@dataclass(frozen=True)
class KnownAnswers:
    """Genes whose predictions are known, to be recomputed by ``decode-zoo test``."""

    genes: tuple[str, ...]  # ids in the feature set
    outputs: tuple[str, ...]  # names, so that exchanged labels are found too
    values: tuple[tuple[float, ...], ...]  # genes × outputs, in the outputs' units


@dataclass(frozen=True)
class Split:
    """Which tracks and genes to use, and for what."""

    kinds: tuple[str, ...] | None = None  # classes of tracks; all if not given
    excluded_sources: tuple[str, ...] = ()  # sources of tracks not to use
    min_genes: int = 30  # tracks annotated in fewer training genes are dropped
    test: tuple[str, ...] = ("1",)  # chromosomes to test on
    absent: tuple[str, ...] = ()  # chromosomes to leave out altogether
    validation_fraction: float = 0.1  # of the genes that are neither
    split_seed: int = 0  # of the random choice of validation genes


@dataclass(frozen=True)
class Training:
    """How a model was trained, as far as its bundle tells; what it does not tell is None."""

    data: Mapping[str, str] | None = None  # sha256 of each file of expression
    selection: Split | None = None
    fit: Mapping[str, Any] | None = None  # settings
    genes: Mapping[str, int] | None = None  # in each part of the split
    validation_genes: tuple[str, ...] | None = None
    test_genes: tuple[str, ...] | None = None  # if genes were split one by one
    best_seed: int | None = None  # of one network among several
    mean_of_seeds: tuple[int, ...] | None = None  # of an ensemble
    base: Mapping[str, str] | None = None  # id and manifest_sha256 of what was fine-tuned
    membership: Mapping[str, Any] | str | None = None  # whether samples can be told from others
    samples: Mapping[str, int] | None = None
    persons: Mapping[str, int] | None = None  # as samples were called
    repeats: tuple[Mapping[str, Any], ...] | None = None  # a log of each network
    versions: Mapping[str, str] | None = None
    commit: str | None = None
    command: tuple[str, ...] | None = None

    def record(self) -> dict[str, Any]:
        """Return what a manifest says of it."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, repr=False)
class Manifest:
    """Description of a model bundle."""

    id: str
    title: str
    family: str  # kind of network: `families.FAMILIES`
    network: Config  # hyper-parameters
    layout: Binning  # genome, bins and window of the inputs
    inputs: Mapping[Side, FrozenInputs]
    outputs: tuple[Output, ...]
    pooling: str  # "exact" where position sums give the same as full matrices, or "none"
    features: Mapping[str, str]  # id and sha256 (of features.json) of what it was trained on
    training: Training
    metrics: Mapping[str, Mapping[str, Any]]  # by part of the split
    # Largest differences between implementations at export, in an output's standard deviations.
    parity: Mapping[str, float]
    license: str
    citation: str
    sources: tuple[str, ...]  # where inputs and expression come from
    known_answers: KnownAnswers
    files: Mapping[str, str]  # sha256 of the bundle's other files

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        content = {
            "format_version": FORMAT_VERSION,
            **asdict(self),
            "training": self.training.record(),
            "fingerprint": self.fingerprint,
        }
        return json.dumps(plain(content), ensure_ascii=False, indent=1) + "\n"

    def spearman(self, part: str) -> tuple[float, float]:
        """Return rho on a part of the split: mean over fold changes, and of the median."""
        fold, median = (self.metrics[part][name] for name in _RHO)
        return (math.nan if fold is None else fold), (math.nan if median is None else median)

    def spearman_text(self, part: str) -> str:
        """Return the same in words."""
        fold, median = self.spearman(part)
        if math.isnan(median):
            return f"{fold:.3f}"
        return f"{fold:.3f} (mean over fold changes), {median:.3f} (median)"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what rows and columns mean: the names of outputs and tracks, in order."""
        return fingerprint_of(
            [output.name for output in self.outputs],
            {side: [track.name for track in self.inputs[side].tracks] for side in SIDES},
        )

    @property
    def tested_chromosomes(self) -> tuple[str, ...]:
        """Chromosomes that the model was tested on; none if it does not tell, or has none."""
        return self.training.selection.test if self.training.selection else ()

    def tested_rows(self, features: FeatureSet) -> npt.NDArray[np.int64] | None:
        """Return the rows that the model was tested on, by chromosome or gene by gene, in order.

        None if the manifest does not tell.
        """
        rows = features.rows
        # A split that is not by chromosome names its genes.
        for names, told in (
            (rows.chroms, self.tested_chromosomes),
            (rows.gene_ids, self.training.test_genes),
        ):
            if told:
                return np.flatnonzero(np.isin(names, list(told))).astype(np.int64)
        return None

    def contradictions(self) -> list[str]:
        """Return what in the manifest does not fit together; empty if it is sound."""
        sound: dict[str, object] = {}  # by what is wrong where it is not
        for side, kernel in self.network.kernels.items():
            frozen = self.inputs.get(side)
            if frozen is None:
                sound[f"no {side} inputs"] = False
                continue
            tracks, n_scales = [track.name for track in frozen.tracks], len(frozen.scale)
            mine = frozen.kernel
            sound |= {
                f"{side} kernel {mine}, but the network's is {kernel}": mine == kernel,
                f"{n_scales} {side} scales for {len(tracks)} tracks": n_scales == 1 + len(tracks),
                f"{side} tracks of one name": len(set(tracks)) == len(tracks),
                f"{side} scales that are not above zero": _are_scales(frozen.scale),
                f"a background of the {side} that is no length": 0 <= frozen.background < LONGEST,
            }
            sound |= dict.fromkeys(_wrong_names(f"{side} track", tracks, track_fault))
        names = [output.name for output in self.outputs]
        scales = [output.scale for output in self.outputs]
        sound["output scales that are not above zero"] = _are_scales(scales)
        sound["no outputs, or outputs of one name"] = names and len(set(names)) == len(names)
        sound |= dict.fromkeys(_wrong_names("output", names, output_fault))
        try:
            check_id(self.id)
        except InputError as error:
            sound[error.message] = False
        for part, values in self.metrics.items():
            known = all(isinstance(values.get(key, ""), (int, float, type(None))) for key in _RHO)
            known = known and isinstance(values.get("n_genes"), int)
            sound[f"no correlations on {part} genes"] = known
        for name, value in self.parity.items():
            if not 0 <= value <= _MOST_PARITY:
                sound[
                    f"implementations that differ: {name[:60]} by {value:.1e} of an output's scale"
                    f" (allowed: {_MOST_PARITY:.0e})"
                ] = False
        pooling = "exact" if self.network.pools else "none"
        sound[f"pooling '{self.pooling}' with {self.network}"] = self.pooling == pooling
        folder = self.features.get("id")
        sound["no id and sha256 of the feature set"] = {"id", "sha256"} <= set(self.features)
        if folder is not None:
            sound[f"a feature set that is no name, {folder[:60]!r}"] = _NAME.fullmatch(folder)
        answers, n_rows = self.known_answers, len(self.known_answers.values)
        n_genes, widths = len(set(answers.genes)), {len(row) for row in answers.values}
        enough = n_genes >= _FEWEST_ANSWERS
        sound |= {
            f"known answers for {n_genes} genes; {_FEWEST_ANSWERS} are needed": enough,
            "known answers that do not match their genes": len(answers.genes) == n_rows,
            "known answers that name other outputs": list(answers.outputs) == names,
            "known answers that do not match their outputs": widths <= {len(answers.outputs)},
            "known answers that are not finite": all(np.isfinite(r).all() for r in answers.values),
        }
        return [fault for fault, is_so in sound.items() if not is_so]

    @classmethod
    def read(cls, locate: Callable[[str], Path]) -> Manifest:
        """Read a bundle's manifest and check the bundle's other files against it.

        `locate` gives the path of a file of the bundle by its name. Raises VerificationError if
        the manifest is not one, or a file is not the one it names.
        """
        path = locate("manifest.json")
        try:
            content = parse_json(read_at_most(path, MAX_MANIFEST_BYTES))
            if not isinstance(content, dict):
                raise ValueError("it is no object")
            version = from_plain(int, content.pop("format_version", None), "format_version")
            if version != FORMAT_VERSION:
                raise VerificationError(
                    f"{path}: bundle format {version}; this version reads {FORMAT_VERSION}.",
                    remedy="Upgrade decode-zoo.",
                )
            fingerprint = from_plain(str, content.pop("fingerprint", ""), "fingerprint")
            family = content.get("family")
            if not (isinstance(family, str) and family in FAMILIES):
                raise ValueError(f"family must be one of {', '.join(FAMILIES)}")
            content["network"] = from_plain(
                FAMILIES[family].config, content.get("network"), "network"
            )
            training = content.get("training")
            split = training.get("selection") if isinstance(training, dict) else None
            if isinstance(split, dict) and len(split) < len(fields(Split)):
                raise ValueError("training.selection: it lacks a key")  # no default is true of it
            manifest = from_plain(cls, content)
        except (ValueError, InputError) as error:
            raise VerificationError(f"{path} is not a bundle's manifest ({error}).") from error
        if set(manifest.files) != set(BUNDLE_FILES) - {"manifest.json"}:
            raise VerificationError(
                f"{path} vouches for {sorted(manifest.files)} instead of the bundle's files "
                f"{', '.join(BUNDLE_FILES[1:])}."
            )
        wrong = manifest.contradictions()
        if not wrong and fingerprint not in ("", manifest.fingerprint):
            wrong.append("outputs or tracks other than those of its fingerprint")
        if wrong:
            raise VerificationError(f"{path} contradicts itself: {'; '.join(wrong[:5])}.")
        for name, sha256 in manifest.files.items():
            found = sha256_of(locate(name))
            if found != sha256:
                raise VerificationError(
                    f"{locate(name)} is not the file that its manifest names: "
                    f"expected sha256 {sha256}, got {found}."
                )
        return manifest
