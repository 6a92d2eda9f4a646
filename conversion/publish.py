"""Write what follows from zoo/: registry.yaml, and the facts on the model cards.

    python conversion/publish.py

Cards are prose by hand around a block of facts between two marker lines; only the block is
rewritten. A test keeps both in step with the artifacts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from decode_zoo.features.featureset import FeatureSet
from decode_zoo.networks.manifest import Manifest
from decode_zoo.zoo.artifact import Artifact, entry_for
from decode_zoo.zoo.cards import feature_facts, model_facts, with_facts
from decode_zoo.zoo.publishing import model_artifact
from decode_zoo.zoo.registry import Registry, write_registry

ROOT = Path(__file__).resolve().parent.parent

# Feature sets carry no prose of their own; this is theirs.
_LICENSE = "See card: ENCODE data free to use; collections MIT, GPL-3, Artistic-2.0"
_SITES = (
    "ENCODE Project Consortium, Nature 583:699-710 (2020); Van Nostrand et al., Nature 583:711-719 "
    "(2020); Agarwal et al., eLife 4:e05005 (2015)"
)
FEATURE_SETS = {
    "hg38-open-v1": {
        "title": "Open human binding sites on GENCODE v25 genes: ChIP-seq, eCLIP, CLIP, miRNA, "
        "chromatin",
        "license": _LICENSE,
        "citation": _SITES,
    },
    "hg38-open-v2": {
        "title": "Open human binding sites and TF targets on GENCODE v25 genes: ChIP-seq, eCLIP, "
        "CLIP, miRNA, chromatin, CpG islands, RNA modifications",
        "license": _LICENSE,
        "citation": f"{_SITES}; Keenan et al., Nucleic Acids Res. 47:W212-W224 (2019); "
        "Puente-Santamaria et al., Bioinformatics 35:5339-5340 (2019)",
    },
}
DEFAULT_MODEL = "gtex-tissue-v1"
# What published files, which never change, say wrongly.
_LINKS = (
    "The enhancer links of the TFEA.ChIP targets are ENCODE-rE2G's (TFEA.ChIP 1.19.2), not "
    "GeneHancer's as the {file} says. rE2G uses no expression matrix."
)
ERRATA = {
    "hg38-open-v2": _LINKS.format(file="description of its tracks in features.json"),
    **dict.fromkeys(
        (
            "de-prior-v1",
            "gtex-blood-person-v1",
            "gtex-brain-person-v1",
            "gtex-heart-person-v1",
            "gtex-liver-person-v1",
            "gtex-tissue-chromatin-v1",
            "gtex-tissue-v1",
            "lcl-person-v1",
        ),
        _LINKS.format(file="list of sources in manifest.json"),
    ),
}


def read_manifest(model_id: str) -> Manifest:
    """Read the manifest of a published model, checked against its files."""
    return Manifest.read(lambda name: ROOT / "zoo/models" / model_id / name)


def make_registry() -> Registry:
    """Describe everything in zoo/."""
    artifacts: dict[str, Artifact] = {}
    for name, prose in FEATURE_SETS.items():
        files = entry_for(ROOT / "zoo/features" / name)
        artifacts[name] = Artifact(name, "features", features=None, files=files, **prose)
    for folder in sorted((ROOT / "zoo/models").iterdir()):
        manifest = read_manifest(folder.name)
        artifacts[manifest.id] = model_artifact(manifest, entry_for(folder))
    with_errata = {
        name: replace(artifact, erratum=ERRATA.get(name)) for name, artifact in artifacts.items()
    }
    return Registry(with_errata, (), DEFAULT_MODEL)


def cards() -> dict[Path, str]:
    """Cards as they should be, by path."""
    registry = make_registry()
    found = {}
    for name, artifact in registry.artifacts.items():
        path = ROOT / "model_cards" / f"{name}.md"
        if artifact.kind == "model":
            facts = model_facts(read_manifest(name), artifact.files)
        else:
            features = FeatureSet.load(ROOT / "zoo" / artifact.folder)
            facts = feature_facts(artifact, features)
        found[path] = with_facts(path.read_text(encoding="utf-8"), facts)
    return found


def main() -> None:
    """Write registry and cards."""
    write_registry(make_registry(), ROOT / "registry.yaml")
    for path, text in cards().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
