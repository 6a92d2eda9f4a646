"""Model bundles on disk: a folder with ``manifest.json``, ``weights.npz`` and ``model.onnx``.

The manifest freezes everything that a prediction depends on: track names and their order, scales,
bin and window, outputs and units. Arrays and JSON only; nothing in a bundle is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from decode_zoo.artifact import check_id
from decode_zoo.errors import InputError, VerificationError
from decode_zoo.expression import Output
from decode_zoo.families import FAMILIES, Config
from decode_zoo.files import read_at_most, sha256_of
from decode_zoo.layout import LONGEST, SIDES, Layout, Side
from decode_zoo.names import output_fault, track_fault
from decode_zoo.provenance import plain
from decode_zoo.schema import from_plain, parse_json
from decode_zoo.sites import Track

__all__ = [
    "BUNDLE_FILES",
    "MAX_MANIFEST_BYTES",
    "FrozenInputs",
    "KnownAnswers",
    "Manifest",
    "fingerprint_of",
]

FORMAT_VERSION = 1
BUNDLE_FILES = ("manifest.json", "weights.npz", "model.onnx")

_RHO = ("fold_change_spearman", "median_spearman")
# The published one has 0.4 MB.
MAX_MANIFEST_BYTES = 16 << 20
# As much as training lets through. What is allowed elsewhere follows from what a manifest admits,
# so it must not admit anything.
_MOST_PARITY = 1e-4
_FEWEST_ANSWERS = 10
# Of a published feature set or of a folder; never a path.
_NAME = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f]{1,255}")


def fingerprint_of(outputs: Sequence[str], tracks: Mapping[Side, Sequence[str]]) -> str:
    """Hash what columns of outputs and channels of tracks mean: names, in their order."""
    named = [list(outputs), *(list(tracks[side]) for side in SIDES)]
    return hashlib.sha256(json.dumps(named, ensure_ascii=False).encode()).hexdigest()


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


@dataclass(frozen=True, repr=False)
class Manifest:
    """Description of a model bundle.

    Attributes
    ----------
    id, title, license, citation : str
    sources : tuple of str
        Where inputs and expression come from.
    family : str
        Kind of network; ``decode`` is the published one, ``perceptron`` our own.
    network : DecodeConfig or PerceptronConfig
        Hyper-parameters.
    layout : Layout
        Genome, bins and window of the inputs.
    inputs : Mapping of Side to FrozenInputs
    outputs : tuple of Output
    pooling : {"exact", "none"}
        Whether position sums give the same as full matrices.
    features : Mapping of str to str
        ``id`` and ``sha256`` (of features.json) of the feature set it was trained on.
    training : Mapping
        Data with sha256, split, seeds, versions, command, log of the repeats.
    metrics : Mapping
        By part of the split.
    parity : Mapping of str to float
        Largest differences between implementations at export, in an output's standard deviations.
    known_answers : KnownAnswers
    files : Mapping of str to str
        sha256 of the bundle's other files.
    """

    id: str
    title: str
    family: str
    network: Config
    layout: Layout
    inputs: Mapping[Side, FrozenInputs]
    outputs: tuple[Output, ...]
    pooling: str
    features: Mapping[str, str]
    training: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    parity: Mapping[str, float]
    license: str
    citation: str
    sources: tuple[str, ...]
    known_answers: KnownAnswers
    files: Mapping[str, str]

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        content = {
            "format_version": FORMAT_VERSION,
            **asdict(self),
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

    def contradictions(self) -> list[str]:
        """Return what in the manifest does not fit together; empty if it is sound."""
        wrong = []
        for side, kernel in self.network.kernels.items():
            frozen = self.inputs.get(side)
            if frozen is None:
                wrong.append(f"no {side} inputs")
                continue
            if frozen.kernel != kernel:
                wrong.append(f"{side} kernel {frozen.kernel}, but the network's is {kernel}")
            if len(frozen.scale) != 1 + len(frozen.tracks):
                wrong.append(f"{len(frozen.scale)} {side} scales for {len(frozen.tracks)} tracks")
            if len({track.name for track in frozen.tracks}) != len(frozen.tracks):
                wrong.append(f"{side} tracks of one name")
            if not all(0 < scale < math.inf for scale in frozen.scale):
                wrong.append(f"{side} scales that are not above zero")
            faults = ((track.name, track_fault(track.name)) for track in frozen.tracks)
            wrong += [
                f"{side} track {name[:60]!r}, whose name {fault}" for name, fault in faults if fault
            ]
            if not 0 <= frozen.background < LONGEST:
                wrong.append(f"a background of the {side} that is no length")
        if not all(0 < output.scale < math.inf for output in self.outputs):
            wrong.append("output scales that are not above zero")
        if not self.outputs or len({output.name for output in self.outputs}) < len(self.outputs):
            wrong.append("no outputs, or outputs of one name")
        for output in self.outputs:
            if fault := output_fault(output.name):
                wrong.append(f"output {output.name[:60]!r}, whose name {fault}")
        try:
            check_id(self.id)
        except InputError as error:
            wrong.append(error.message)
        for part, values in self.metrics.items():
            known = all(isinstance(values.get(key, ""), (int, float, type(None))) for key in _RHO)
            if not (known and isinstance(values.get("n_genes"), int)):
                wrong.append(f"no correlations on {part} genes")
        for name, value in self.parity.items():
            if not 0 <= value <= _MOST_PARITY:
                wrong.append(
                    f"implementations that differ: {name[:60]} by {value:.1e} of an output's scale"
                    f" (allowed: {_MOST_PARITY:.0e})"
                )
        if self.pooling != ("exact" if self.network.pools else "none"):
            wrong.append(f"pooling '{self.pooling}' with {self.network}")
        if not {"id", "sha256"} <= set(self.features):
            wrong.append("no id and sha256 of the feature set")
        elif not _NAME.fullmatch(self.features["id"]):
            wrong.append(f"a feature set that is no name, {self.features['id'][:60]!r}")
        answers = self.known_answers
        if len(set(answers.genes)) < _FEWEST_ANSWERS:
            wrong.append(
                f"known answers for {len(set(answers.genes))} genes; {_FEWEST_ANSWERS} are needed"
            )
        if len(answers.genes) != len(answers.values):
            wrong.append("known answers that do not match their genes")
        if list(answers.outputs) != [output.name for output in self.outputs]:
            wrong.append("known answers that name other outputs")
        if any(len(row) != len(answers.outputs) for row in answers.values):
            wrong.append("known answers that do not match their outputs")
        if not all(math.isfinite(value) for row in answers.values for value in row):
            wrong.append("known answers that are not finite")
        return wrong

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
