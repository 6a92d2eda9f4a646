"""Cards: a page of Markdown for each artifact, prose by hand around a block of facts.

The block stands between two marker lines and is written from the artifact itself, so that no fact
on a card can be out of step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from decode_zoo.core.errors import InputError
from decode_zoo.core.text import megabytes
from decode_zoo.features.featureset import CARD, FeatureSet
from decode_zoo.features.sites import describe_tracks
from decode_zoo.features.spec import SIDES
from decode_zoo.networks.manifest import Manifest
from decode_zoo.zoo.artifact import Artifact, FileEntry

__all__ = ["BEGIN", "CARD", "END", "feature_facts", "model_facts", "with_facts"]

BEGIN, END = "<!-- facts: generated -->", "<!-- end of facts -->"
_BLOCK = re.compile(r"(<!-- facts:[^\n]*-->)(.*?)(<!-- end of facts -->)", re.DOTALL)


def model_facts(manifest: Manifest, files: Mapping[str, FileEntry]) -> str:
    """Return the facts of a model, with the files of its bundle, as Markdown.

    Raises InputError if the manifest does not say how the model was trained and how good it is.
    """
    log = manifest.training
    try:
        if log.genes is None or (log.mean_of_seeds is None and log.best_seed is None):
            raise KeyError("training")
        kept = (
            f"best of {len(log.repeats or ())} repeats by validation (seed {log.best_seed})"
            if log.mean_of_seeds is None
            else f"mean of the seeds {', '.join(map(str, log.mean_of_seeds))}"
        )
        training = f"{log.genes['training']} genes; {kept}"
        scores = [
            f"| {_parts(manifest).get(part, part)} | {values['n_genes']} | "
            + " | ".join(_rho(rho) for rho in manifest.spearman(part))
            + " |"
            for part, values in manifest.metrics.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the manifest of {manifest.id} lacks what a card tells of training and scores "
            f"({error!r})",
            remedy="Export the bundle again with decode-zoo train.",
        ) from None
    measure = "score" if _are_scores(manifest) else "fold changes"
    rows: dict[str, object] = {
        "Id": f"`{manifest.id}`",
        "Family": manifest.family,
        "Genome": manifest.layout.genome,
        "Feature set": f"`{manifest.features['id']}`",
        **{f"Inputs, {side}": describe_tracks(manifest.inputs[side].tracks) for side in SIDES},
        "Outputs": _outputs(manifest),
        "Network": manifest.network.description,
        "Position sums": manifest.pooling,
        "Training": training,
        **_base(manifest),
        "Size": megabytes(sum(_sizes(files).values())),
        "Licence": manifest.license,
    }
    return "\n\n".join(
        [
            _table(rows),
            "Spearman's rho between predicted and observed, over genes:",
            "\n".join(
                [
                    f"| genes | n | {measure} (mean over outputs) | median |",
                    "| --- | --- | --- | --- |",
                    *scores,
                ]
            ),
            "Largest difference between implementations, relative to an output's standard "
            "deviation:",
            _table({name.replace("_", " "): f"{v:.1e}" for name, v in manifest.parity.items()}),
            "Sources:",
            "\n".join(f"- {_line(source)}" for source in manifest.sources),
            f"Cite: {manifest.citation}",
        ]
    )


def feature_facts(artifact: Artifact, features: FeatureSet) -> str:
    """Return the facts of a feature set as Markdown."""
    layout = features.layout
    return _table(
        {
            "Id": f"`{artifact.id}`",
            "Genome": layout.genome,
            "Rows": f"{len(features)} {layout.level}s",
            "Promoter window": f"-{layout.upstream}..+{layout.downstream} bp, bins of {layout.bin}",
            "Sites across borders": layout.boundary,
            **{f"Tracks, {side}": describe_tracks(features.side_tracks[side]) for side in SIDES},
            **{
                f"`{name}`": f"{size / 1e6:.1f} MB" for name, size in _sizes(artifact.files).items()
            },
            "Licence": artifact.license,
            "Cite": artifact.citation,
        }
    )


def _sizes(files: Mapping[str, FileEntry]) -> dict[str, int]:
    """Return the sizes of an artifact's files but for the card, which the facts are on."""
    return {name: entry.size for name, entry in files.items() if name != CARD}


def with_facts(card: str, facts: str) -> str:
    """Replace the block of facts on a card, which must have one, and prose beside it."""
    found = _BLOCK.search(card)
    if found is None:
        raise InputError(
            f"the card lacks the lines {BEGIN!r} and {END!r}",
            remedy="The facts are written between them; what is around them is yours.",
        )
    before, after = card[: found.start()], card[found.end() :]
    if not re.search(r"^\s*[^#\s]", before + after, re.MULTILINE):
        raise InputError(
            "the card has nothing but headings and facts",
            remedy="Say in a few words what it is, what it is good for, and what not.",
        )
    return f"{before}{found[1]}\n\n{facts}\n\n{found[3]}{after}"


def _outputs(manifest: Manifest) -> str:
    if _are_scores(manifest):
        return ", ".join(f"{output.name} ({output.unit})" for output in manifest.outputs)
    medians = [output for output in manifest.outputs if output.kind == "median"]
    folds = len(manifest.outputs) - len(medians)
    rest = ", and the median log2 TPM" if medians else ""
    return f"{len(manifest.outputs)}: {folds} log2 fold changes against their median{rest}"


def _are_scores(manifest: Manifest) -> bool:
    return all(output.kind == "score" for output in manifest.outputs)


def _rho(rho: float) -> str:
    return "–" if math.isnan(rho) else f"{rho:.3f}"


def _base(manifest: Manifest) -> dict[str, object]:
    """Return what a fine-tuned model goes back to."""
    base = manifest.training.base
    if base is None:
        return {}
    return {"Fine-tuned from": f"`{base['id']}` (manifest {str(base['manifest_sha256'])[:12]}…)"}


def _parts(manifest: Manifest) -> dict[str, str]:
    """Return the names of the parts of the split."""
    chroms = ", ".join(f"chr{chrom}" for chrom in manifest.tested_chromosomes)
    return {
        "validation": "validation" if manifest.training.base else "validation (random 10%)",
        "test": f"test ({chroms})" if chroms else "test",
    }


def _table(rows: Mapping[str, object]) -> str:
    lines = [f"| {key} | {_line(value)} |" for key, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _line(value: object) -> str:
    """Return the text of a value, so that it stays in its cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
