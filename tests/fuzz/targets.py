"""What is fuzzed: each reader of files that others make, and a good file for it.

One list for both searches: hypothesis changes the good files at random (tests/test_fuzz.py),
atheris follows the code that a change reaches (tests/fuzz/search.py). Cases that were found are
kept in tests/fuzz/cases, named by the reader.
"""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import decode_zoo as dz
from decode_zoo.cohort.samples import read_sample_codes, read_samples
from decode_zoo.core.arrays import read_arrays, write_arrays
from decode_zoo.core.errors import DecodeZooError
from decode_zoo.core.reader import read_matrix
from decode_zoo.features import genesets
from decode_zoo.features.annotation import read_gtf, read_tss_bed
from decode_zoo.features.building import build_features
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genes import read_aliases, read_gene_list, read_ids
from decode_zoo.features.genome import Genome, read_chrom_sizes
from decode_zoo.features.sites import SiteFile, find_site_files, read_sites
from decode_zoo.features.spec import SIDES, Track
from decode_zoo.networks.manifest import Manifest
from decode_zoo.networks.onnx import read_graph
from decode_zoo.pages.sections import read_section
from decode_zoo.studies.enrichment import read_listed_above, read_scores
from decode_zoo.studies.signature import read_signature
from decode_zoo.zoo.registry import load_registry

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted((Path(__file__).parent / "cases").iterdir())
TOY = Genome("toy", {"1": 100_000, "2": 50_000, "X": 9_000, "Y": 9_000})

GTF = (
    '#!x\n1\tx\texon\t5001\t5150\t.\t+\t.\tgene_id "A.1"; transcript_id "AT"; gene_name "a";\n'
    '1\tx\tgene\t1\t9\t.\t+\t.\tgene_id "A.1";\n'
    'chrX\tx\texon\t91\t94\t.\t-\t.\tgene_id "B"; transcript_id ""; gene_type "b";\n'
    'chrY\tx\texon\t91\t94\t.\t-\t.\tgene_id "B"; transcript_id "BT"; exon_number 1;\n'
)


def prepare(place: Path) -> None:
    """Put a feature set, a bundle and arrays into a folder, for readers that need company."""
    (place / "a.bed").write_text("chr1\t5000\t5100\tx\t0\t+\nchr1\t100\t400\tx\t0\t+\n")
    (place / "g.gtf").write_text(GTF)
    files = find_site_files(place / "a.bed", "rna")
    annotation = read_gtf(place / "g.gtf", TOY)
    build_features(annotation, TOY, {"rna": files, "promoter": files}, place / "set")
    shutil.copytree(ROOT / "tests/data/toy/models/toy-decode-v1", place / "bundle")
    arrays = {"a": np.arange(6, dtype=np.uint16).reshape(2, 3), "b/c": np.ones(4, np.float32)}
    write_arrays(place / "small.npz", arrays, compress=False)
    np.save(place / "small.npy", arrays["a"])


# -- readers ---------------------------------------------------------------------------------------


def read_set(path: Path) -> None:
    found = FeatureSet.load(path.parent)
    repr(found), found.index, found.rna_lengths
    for side in SIDES:
        found.sums(side, 3)
        found.mask_sums(side, 3)
        found.pieces(side)
        if len(found):
            found.bins(found.rows.ids[0], side)
    found.clipped_windows(), found.exons()


def read_manifest(path: Path) -> None:
    manifest = Manifest.read(lambda name: path.parent / name)
    manifest.to_json(), manifest.fingerprint, repr(manifest)
    for part in manifest.metrics:
        manifest.spearman(part)


def read_bed(path: Path) -> None:
    for stranded in (True, False):
        read_sites(SiteFile(path, Track("t", "R", "tf", "", "")), TOY, stranded=stranded)
    read_sites(SiteFile(path, Track("", "", "mirna", "", ""), True), TOY, stranded=False)


def read_both_levels(path: Path) -> None:
    for level in ("gene", "transcript"):
        read_gtf(path, TOY, level=level)


def read_targets(path: Path) -> None:
    matrix = dz.read_expression(path)
    assert np.isfinite(matrix.to_numpy()).all()
    dz.make_targets(matrix, scale="tpm")


def read_lists(path: Path) -> None:
    lists = genesets.TargetFile(path, "{regulator}_{cell}", "")
    genesets.read_targets(lists, read_gtf(path.parent / "g.gtf", TOY), {"old": "A"})


def read_array(path: Path) -> None:
    """Read bytes as one array of an archive whose checksums are right."""
    archive = path.with_suffix(".npz")
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.npy", path.read_bytes())
    for array in read_arrays(archive).values():
        array.copy(), array.sum() if array.dtype.kind in "iu" else None


TABLE = {"file": "a.tsv", "caption": "c", "columns": ["x"], "rows": [["1"]]}
SECTION = {
    "study": "knockout",
    "title": "T",
    "facts": {"Genes": "3"},
    "notes": ["n"],
    "pictures": [],
    "tables": [{**TABLE, "n_rows": 1, "n_columns": 1}],
}

# By the first part of a file's name: how it is read, and a good one, or where `prepare` put it.
READERS: dict[str, tuple[Callable[[Path], object], str, bytes | str]] = {
    "genes": (read_gene_list, "x.tsv", b'gene_id\tx\n"TP53"\t1\n# a\nGATA1,2\n\nIDS\n'),
    "gtf": (read_both_levels, "x.gtf", GTF.encode()),
    "bed": (read_bed, "x.bed", b"track x\nchr1\t10\t20\ta\t0\t+\nchr2\t30\t45\tb\t7\t-\n"),
    "tss": (lambda p: read_tss_bed(p, TOY), "x.bed", b"chr1\t10\t11\tA.1\t0\t+\n"),
    "sizes": (lambda p: read_chrom_sizes(p, "x"), "x.sizes", b"chr1\t1000\n# a\nchrM 16569\n"),
    "sites": (
        lambda p: find_site_files(p, "rna"),
        "x.tsv",
        b"file\tregulator\tcell\tkind\na.bed\tCTCF\tK562\trbp\na.bed\t*\t\tmirna\n",
    ),
    "aliases": (read_aliases, "x.tsv", b"alias\tgene_id\nold\tA\n"),
    "gmt": (read_lists, "x.gmt", b"SPI1_K562\tx\tA\tb,1.0\t7\nMYC_\t\ta\told\t\n"),
    "ids": (read_ids, "x.tsv", b"alias\tgene_id\n7\tA\n8\tA\n8\tB\n"),
    "expression": (read_targets, "x.tsv", b'gene\tLiver\t"Lung"\nA.1\t1.5\t+2e-1\nB\t7\t30\n'),
    "npz": (read_arrays, "x.npz", "small.npz"),
    "npy": (read_array, "x.npy", "small.npy"),
    "pooled": (read_set, "set/features.json", "set/features.json"),
    "manifest": (read_manifest, "bundle/manifest.json", "bundle/manifest.json"),
    "graph": (read_graph, "x.onnx", "bundle/model.onnx"),
    "counts": (read_matrix, "x.tsv", b"gene\ta\tb\nA.1\t3\t0\nB\t7\t30\n"),
    "samples": (read_samples, "x.tsv", b"sample\tsex\tage\na\tF\t50-59\nb\tM\t\n"),
    "codes": (read_sample_codes, "x.tsv", b"code\tsample\nP1\tA\nP2\tB\n"),
    "scores": (
        read_scores,
        "x.tsv",
        b"output\tclass\tregulator\tmean\tmean_abs\tn_genes\nLung\tTF\tA\t0\t1\t1\n",
    ),
    "listed-above": (
        lambda p: read_listed_above(p, "pLI", 0.5),
        "x.tsv",
        b"gene\tpLI\nA\t1\nB\t0.2\nC\t\n",
    ),
    "signature": (read_signature, "x.tsv", b"gene\tlogFC\tp\nTP53\t-1.5\t1e-9\nMYC\t2\tNA\n"),
    "summary": (
        lambda p: read_section(p.parent),
        "summary.json",
        json.dumps({"format_version": 1, "section": SECTION}).encode(),
    ),
    "registry": (load_registry, "x.yaml", (ROOT / "registry.yaml").read_bytes()),
}

# What has broken readers before, here or elsewhere.
NASTY = [
    *rb"""
        " '' , # ; * % / .. [] {} &a *a !!python/object gene_id PK chrUn NC_000001.10
        nan NaN -inf Infinity 1e999 1e3 -1 -0 0 1_0 0x1 True NA null 2147483648 4294967296 \ud800
    """.split(),
    *(b"\0", b"\r", b"\r\n", b"\n\n", b"\t", b"\t\t", b" ", b"\x0b", b"\x0c", b"\x1c", b"\x85"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xa8"),
    *(b"9" * 19, b"9" * 5000, b"[" * 9000, b'{"a":' * 9000, "٣".encode(), b"<<: ", b'gene_id ""'),
]


def good_file(reader: str, folder: Path) -> bytes:
    good = READERS[reader][2]
    return (folder / good).read_bytes() if isinstance(good, str) else good


def read_cleanly(reader: str, data: bytes, folder: Path) -> None:
    """Read bytes; what is wrong with them must be said by a DecodeZooError, and by no warning."""
    read, name, _ = READERS[reader]
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(path)
    except DecodeZooError as error:
        if not error.message:
            raise
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
