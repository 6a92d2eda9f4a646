"""Broken and hostile input for every verb: an error that names the file, or the right answer.

Never a traceback, never a hang, never part of a file, never a wrong number.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import struct
import warnings
import zipfile
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import decode_zoo as dz
from decode_zoo.cli import _run
from decode_zoo.core import files
from decode_zoo.core.arrays import read_arrays, stored_rows, write_arrays
from decode_zoo.core.errors import InputError, UsageError, VerificationError
from decode_zoo.features.featureset import FeatureSet
from decode_zoo.features.genes import read_gene_list
from decode_zoo.networks.manifest import BUNDLE_FILES

pytestmark = pytest.mark.fault
ROOT = Path(__file__).resolve().parents[1]

GTF = (
    'chr2\tx\texon\t5001\t5150\t.\t+\t.\tgene_id "A"; transcript_id "AT"; gene_name "a";\n'
    'chr2\tx\texon\t9001\t9420\t.\t-\t.\tgene_id "B"; transcript_id "BT"; gene_name "b";\n'
)
VALID = {
    "genes": "gene_id\tx\nTP53\t1\nGATA1\t2\n",
    "background": "gene_id\nTP53\nGATA1\n",
    "gtf": GTF,
    "bed": "chr2\t4950\t5050\tx\t0\t+\nchr2\t9010\t9017\ty\t0\t-\n",
    "manifest": "file\tregulator\tcell\nsites.bed\tCTCF\tK562\n",
    "tss": "chr2\t5010\t5011\tA\t0\t+\n",
    "aliases": "alias\tgene_id\nold\tA\n",
    "sizes": "chr2\t242193529\n",
}
NAMES = {"bed": "sites.bed", "gtf": "genes.gtf", "tss": "tss.bed", "manifest": "rna.tsv"}
LISTS = ("predict", "explain", "report")
MODEL = "toy-perceptron-v1"


@pytest.fixture(autouse=True)
def small_limits(monkeypatch, toy_zoo):
    """Bombs of a megabyte are as good as those of a gigabyte; nothing may hang."""
    monkeypatch.setattr(files, "_FREE_BYTES", 1 << 20)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.alarm(60)
        yield
        signal.alarm(0)
    else:
        yield


@pytest.fixture
def call(capfd, tmp_path, monkeypatch):
    """Run a command in this process; what it made besides its inputs must be named."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = _run([str(arg) for arg in args])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        assert "Internal error" not in err
        return code, out, err

    return run


def lay_out(folder: Path) -> dict[str, Path]:
    """One good file for each role."""
    files = {role: folder / NAMES.get(role, f"{role}.txt") for role in VALID}
    for role, path in files.items():
        path.write_text(VALID[role])
    return files


def arguments(role: str, files: dict[str, Path], output: Path) -> list[object]:
    """Return a command that reads the file of a role."""
    if role in LISTS:
        tail = ["-o", output.with_suffix(".html" if role == "report" else ".tsv")]
        return [role, "--model", MODEL, files["genes"], "--outputs", "Liver", *tail]
    if role == "background":
        tail = ["--background", files[role], "-o", output.with_suffix(".tsv")]
        return ["explain", "--model", MODEL, files["genes"], "--outputs", "Liver", *tail]
    extra = {
        "tss": ["--tss", files["tss"]],
        "aliases": ["--aliases", files["aliases"]],
        "sizes": ["--chrom-sizes", files["sizes"], "--genome", "mine"],
    }.get(role, [])
    rna = files["manifest"] if role == "manifest" else files["bed"]
    return ["features", "build", "--gtf", files["gtf"], "--rna", rna, *extra, "-o", output]


def bomb(size: int = 4 << 20) -> bytes:
    return gzip.compress(b"\n" * size, mtime=0)


def garbage() -> bytes:
    return np.random.default_rng(0).bytes(5000).replace(b"\x1f\x8b", b"xx") + b"\0"


BROKEN = {
    "empty": b"",
    "utf-16-without-mark": "chr2\t4950\t5050\tx\t0\t+\n".encode("utf-16-be"),
    "latin-1": b"chr2\t4950\t5050\tx\t0\t+\nchr\xe92\t1\t2\t\xe9\t0\t+\n\xe9",
    "binary": garbage(),
    "zip": b"PK\x03\x04\x14\0\x06\0" + b"\0" * 40,
    "gzip-truncated": gzip.compress(b"TP53\n" * 5000, mtime=0)[:-9],
    "gzip-flipped": gzip.compress(b"TP53\n" * 5000, mtime=0)[:30] + b"\xff" * 20,
    "gzip-bomb": bomb(),
    "one-enormous-line": b"A" * 3_000_000,
    "a-million-columns": b"A" + b"\t1" * 1_000_000,
}
ROLES = (*LISTS, "background", "gtf", "bed", "manifest", "tss", "aliases", "sizes")


@pytest.mark.parametrize(
    ("role", "case"), [*(("gtf", case) for case in BROKEN), *((role, "binary") for role in ROLES)]
)
def test_broken_text_is_refused_by_name_and_leaves_nothing(call, tmp_path, role, case):
    files = lay_out(tmp_path)
    path = files["genes" if role in LISTS else role]
    path.write_bytes(BROKEN[case])
    before = sorted(tmp_path.iterdir())
    code, out, err = call(*arguments(role, files, tmp_path / "out"))
    assert (code, out) == (4, "")
    assert path.name in err
    assert len(err) < 2000
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link-to-nothing", "link-to-itself"])
@pytest.mark.parametrize("role", ["predict", "bed"])
def test_what_is_no_file_is_refused_without_waiting(call, tmp_path, role, kind):
    files = lay_out(tmp_path)
    path = files["genes" if role in LISTS else role]
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "link-to-nothing": "nowhere"}.get(kind, path.name))
    code, out, err = call(*arguments(role, files, tmp_path / "out"))
    assert (code, out) == (4, "")
    assert path.name in err
    assert not list(tmp_path.glob("out*"))


DRESS = {
    "bom": lambda data: b"\xef\xbb\xbf" + data,
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "cr": lambda data: data.replace(b"\n", b"\r"),
    "utf-16": lambda data: data.decode().encode("utf-16"),
    "no-last-newline": lambda data: data.rstrip(b"\n"),
    "gzip-without-suffix": gzip.compress,
    "gzip-in-two-members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "blank-lines-at-the-end": lambda data: data + b"\n\n",
}


def built(folder: Path) -> dict[str, bytes]:
    """What a build says, without the hashes of its inputs."""
    header = json.loads((folder / "features.json").read_bytes())
    for tracks in header["tracks"].values():
        for track in tracks:
            del track["sha256"]
    return {"header": json.dumps(header).encode()} | {
        name: (folder / name).read_bytes() for name in ("pooled.npz", "sites.npz")
    }


@pytest.mark.parametrize("dress", DRESS)
def test_dress_of_files_to_build_from_changes_nothing(call, tmp_path, dress):
    files = lay_out(tmp_path)
    roles = ("gtf", "manifest", "tss", "aliases", "sizes", "bed")
    command = ["features", "build", "--gtf", files["gtf"], "--rna", files["manifest"]]
    command += ["--tss", files["tss"], "--aliases", files["aliases"]]
    command += ["--chrom-sizes", files["sizes"], "--genome", "mine", "-o"]
    assert call(*command, tmp_path / "plain")[0] == 0
    for role in roles:
        if not (role == "tss" and dress == "blank-lines-at-the-end"):
            files[role].write_bytes(DRESS[dress](VALID[role].encode()))
    assert call(*command, tmp_path / "dressed")[0] == 0
    assert built(tmp_path / "plain") == built(tmp_path / "dressed")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_of_the_shell_is_read(tmp_path):
    """<(zcat genes.gz) is a pipe with a writer."""
    reading, writing = os.pipe()
    with open(writing, "wb") as stream:
        stream.write(gzip.compress(b"TP53\nGATA1\n"))
    try:
        assert read_gene_list(f"/dev/fd/{reading}") == ["TP53", "GATA1"]
    finally:
        os.close(reading)


def test_a_bomb_is_refused_and_what_is_small_is_read(tmp_path):
    path = tmp_path / "x.bed.gz"
    path.write_bytes(bomb(1 << 20))  # a thousandfold, but small
    assert len(files.read_bytes(path)) == 1 << 20
    path.write_bytes(bomb())
    with pytest.raises(InputError, match=r"250 times its size.*bomb") as error:
        files.read_bytes(path)
    assert error.value.remedy


def test_a_file_of_terabytes_is_refused_by_its_size(tmp_path):
    path = tmp_path / "x.bed"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(InputError, match="more than 4 GiB"):
        files.read_bytes(path)


def test_a_list_of_too_many_genes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("decode_zoo.features.genes._MAX_LINES", 3)
    (tmp_path / "x").write_text("a\nb\nc\nd\n")
    with pytest.raises(InputError, match="line 4: has more than 3 lines"):
        read_gene_list(tmp_path / "x")


def test_a_closed_standard_input_is_said_to_be_closed(call, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", None)
    code, _, err = call(*arguments("predict", {"genes": "-"}, tmp_path / "out"))
    assert code == 4
    assert "standard input: is closed" in err


@pytest.mark.parametrize(
    "name", ["../../secret.bed", "/etc/passwd", "a/../../../secret.bed", "/dev/zero"]
)
def test_manifests_of_sites_lead_nowhere_else(tmp_path, name):
    (tmp_path / "secret.bed").write_text(VALID["bed"])
    (tmp_path / "deep" / "deeper" / "a").mkdir(parents=True)
    path = tmp_path / "deep" / "deeper" / "rna.tsv"
    path.write_text(f"file\tregulator\n{name}\tX\n")
    with pytest.raises(InputError, match="line 2: names a file neither in its own") as error:
        dz.find_site_files(path, "rna")
    assert error.value.remedy


@pytest.mark.parametrize("size", ["1e6", "٣", "9" * 5000, str(1 << 32)])
def test_lengths_that_no_chromosome_has_are_refused(tmp_path, size):
    from decode_zoo.features.genome import read_chrom_sizes

    (tmp_path / "x.sizes").write_text(f"chr1\t{size}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        read_chrom_sizes(tmp_path / "x.sizes", "mine")


# -- arrays --------------------------------------------------------------------------------------


def npy(descr: str, shape: str, data: bytes, *, order: str = "False", magic: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return (magic or b"\x93NUMPY\x01\x00") + struct.pack("<H", len(header)) + header + data


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as file:
        warnings.simplefilter("ignore")  # of a name that is there already
        for name, data in members:
            file.writestr(name, data)
    return stream.getvalue()


def lying(data: bytes, size: int) -> bytes:
    """Change the size that the archive's directory says of its only member."""
    place = data.index(b"PK\x01\x02") + 24
    return data[:place] + struct.pack("<I", size) + data[place + 4 :]


def encrypted(data: bytes) -> bytes:
    """Set the flag that says so, in the member's header and in the directory."""
    changed = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[data.index(magic) + offset] |= 1
    return bytes(changed)


ONE = ("a.npy", npy("'<f4'", "(2,)", bytes(8)))
ARRAYS = {
    "text": b"hello",
    "cut-off": archive(ONE)[:-30],
    "wrong-checksum": archive(ONE, compression=zipfile.ZIP_STORED).replace(bytes(8), b"\1" * 8),
    "encrypted": encrypted(archive(ONE)),
    "no-array": archive(("a.txt", b"hello")),
    "one-name-twice": archive(ONE, ONE),
    "objects": archive(("a.npy", npy("'|O'", "(1,)", b"cos\nsystem\n(S'true'\ntR."))),
    "structure": archive(("a.npy", npy("[('x', [('y', '|O')])]", "(1,)", bytes(8)))),
    "subarray": archive(("a.npy", npy("('<f4', (2,))", "(1,)", bytes(8)))),
    "date": archive(("a.npy", npy("'<M8[s]'", "(1,)", bytes(8)))),
    "code-in-the-header": archive(("a.npy", npy("__import__('os').getpid()", "(1,)", bytes(8)))),
    "deep-header": archive(("a.npy", npy("(" * 9000 + ")" * 9000, "(1,)", bytes(8)))),
    "negative-shape": archive(("a.npy", npy("'<f4'", "(-1,)", bytes(8)))),
    "shape-too-large": archive(("a.npy", npy("'<f4'", "(4000000000, 4000000000)", bytes(8)))),
    "shape-too-small": archive(("a.npy", npy("'<f4'", "(1,)", bytes(8)))),
    "huge-texts": archive(("a.npy", npy("'<U999999999'", "(0,)", b""))),
    "newer-format": archive(("a.npy", npy("'<f4'", "(2,)", bytes(8), magic=b"\x93NUMPY\x09\x00"))),
    "lzma": archive(ONE, compression=zipfile.ZIP_LZMA),
    "bomb": archive(("a.npy", npy("'<f4'", "(4194304,)", bytes(16 << 20)))),
    "bomb-in-many-members": archive(
        *((f"{i}.npy", npy("'<f4'", "(262144,)", bytes(1 << 20))) for i in range(16))
    ),
    "size-too-large-in-the-directory": lying(archive(ONE), 5000),
    "size-too-small-in-the-directory": lying(archive(ONE), 100),
    "header-only": archive(("a.npy", b"\x93NUMPY\x01\x00")),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_not_plain_are_refused(tmp_path, case):
    path = tmp_path / "weights.npz"
    path.write_bytes(ARRAYS[case])
    with pytest.raises(InputError, match=r"weights\.npz"):
        read_arrays(path)


def test_plain_arrays_of_every_kind_are_read_as_numpy_reads_them(tmp_path):
    arrays = {
        "layer/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "by_column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.array(3),
        "none": np.zeros((0, 3), np.uint16),
        "truth": np.array([True]),
        "texts": np.array(["ab", "ö"]),
        "half": np.ones(3, np.float16),
    }
    write_arrays(tmp_path / "x.npz", arrays)
    found = read_arrays(tmp_path / "x.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


U32 = np.uint32


@pytest.mark.parametrize(
    ("counts", "tracks", "bases"),
    [
        (np.array([2, -1, 1]), np.array([0, 1], U32), np.array([1, 1], U32)),
        (np.array([2**32 - 1, 3, 0], U32), np.array([0, 1], U32), np.array([1, 1], U32)),
        (np.array([1, 1, 0], U32), np.array([0, -7]), np.array([1, 1], U32)),
        (np.array([1, 1, 0], U32), np.array([0, 2**32 - 1], U32), np.array([1, 1], U32)),
        (np.array([1, 1, 0], U32), np.array([0, 2], U32), np.array([1, 1], U32)),
        (np.array([1, 1, 0], U32), np.array([0, 1], U32), np.array([1, 2**32 - 1], U32)),
        (np.array([1, 1, 0], U32), np.array([0, 1], U32), np.array([1.0, np.nan])),
        (np.array([1, 1], U32), np.array([0, 1], U32), np.array([1, 1], U32)),
        (np.array([[1, 1, 0]], U32), np.array([0, 1], U32), np.array([1, 1], U32)),
    ],
)
def test_sparse_columns_that_would_reach_elsewhere_in_memory_are_refused(counts, tracks, bases):
    arrays = {"x_counts": counts, "x_tracks": tracks, "x_bases": bases}
    with pytest.raises(InputError, match="a feature set's array"):
        stored_rows(arrays, "x", (3, 2))


# -- descriptions in JSON ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    files = lay_out(folder)
    assert _run([str(arg) for arg in arguments("bed", files, folder / "set")]) == 0
    return folder / "set"


@pytest.fixture
def copied_set(small_set, tmp_path) -> Path:
    return Path(shutil.copytree(small_set, tmp_path / "set"))


@pytest.fixture(scope="module")
def model(toy_models):
    return toy_models["perceptron"]


@pytest.fixture
def copied_bundle(model, tmp_path) -> Path:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in BUNDLE_FILES:
        shutil.copy(model.locate(name), folder / name)
    return folder


RAW_JSON = {
    "empty": b"",
    "a-list": b"[]",
    "cut-off": b'{"format_version": 1, "layout"',
    "deep": b'{"a":' * 200_000,
    "nan": b'{"format_version": NaN}',
    "huge-number": b'{"format_version": ' + b"9" * 10_000 + b"}",
    "one-key-twice": b'{"format_version": 1, "format_version": 1}',
    "version-as-truth": b'{"format_version": true}',
    "version-only": b'{"format_version": 1}',
    "utf-16": '{"format_version": 1}'.encode("utf-16"),
    "half-a-character": b'{"format_version": 1, "title": "\\ud800"}',
    "binary": garbage(),
    "gzip-bomb": bomb(),
}
PUBLISHED = ("--model", MODEL)


def lists(*given: str) -> list[list[str]]:
    """Commands that answer a list of genes."""
    outputs = {"predict": "out.tsv", "explain": "out.tsv", "report": "out.html"}
    return [[verb, *given, "x.txt", "-o", output] for verb, output in outputs.items()]


OF_SETS = [
    ["features", "info", "set"],
    ["info", "set"],
    ["features", "merge", "set", "set", "-o", "out"],
    ["features", "build", "--like", "set", "--rna", "x.bed", "-o", "out"],
    ["test", MODEL, "--features", "set"],
    *lists(*PUBLISHED, "--features", "set"),
]
OF_MODELS = [["info", "m"], ["test", "m"], *lists("--model", "m")]


@pytest.mark.parametrize("case", RAW_JSON)
def test_broken_json_is_refused(copied_set, copied_bundle, case):
    (copied_set / "features.json").write_bytes(RAW_JSON[case])
    with pytest.raises(InputError, match=r"features\.json") as error:
        FeatureSet.load(copied_set)
    assert len(str(error.value)) < 1000
    (copied_bundle / "manifest.json").write_bytes(RAW_JSON[case])
    with pytest.raises(VerificationError, match=r"manifest\.json") as error:
        dz.load(copied_bundle)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("command", "code", "name"),
    [
        *((command, 4, "features.json") for command in OF_SETS),
        *((command, 5, "manifest.json") for command in OF_MODELS),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else None,
)
def test_every_verb_refuses_a_broken_description(
    call, copied_set, copied_bundle, tmp_path, command, code, name
):
    (tmp_path / "x.txt").write_text("TP53\n")
    (tmp_path / "x.bed").write_text(VALID["bed"])
    for folder in (copied_set, copied_bundle):
        for path in folder.glob(name):
            path.write_bytes(RAW_JSON["deep"])
    found, out, err = call(*command)
    assert (found, out) == (code, "")
    assert name in err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        *(("info", name) for name in ("../../etc/passwd", "", "GTEX", "x\ny-v1", "-v1", "é")),
        *((verb, "a" * 5000) for verb in ("info", "fetch", "verify", "test")),
    ],
)
def test_names_that_are_no_ids_are_refused(call, tmp_path, verb, name):
    code, out, err = call(verb, "--", name)
    assert code in (2, 3, 4)
    assert out == ""
    assert err.startswith(("Error: ", "Usage: "))
    assert list(tmp_path.iterdir()) == []


WRONG_VALUES = [None, True, -1, 1.5, 10**30, "x", [], {}, {"a": 1}, "\x1b[2J"]
HARMLESS = ("id", "metrics", "network", "fingerprint")  # texts, and what may be left out
SET_KEYS = {
    "whole": ("format_version", "arrays", "aliases"),
    "layout": ("layout.bin", "layout.level"),
    "tracks": ("tracks", "tracks.rna", "tracks.promoter.0", "tracks.rna.0.name"),
    "rows": ("rows.ids", "rows.strands", "rows.rna_lengths"),
}
MANIFEST_KEYS = {
    "whole": ("format_version", "id", "family", "fingerprint", "files", "features.sha256"),
    "network": ("layout.upstream", "network.rna_layers", "metrics.test.median_spearman"),
    "tracks": ("inputs.rna.tracks", "inputs.rna.tracks.0.name"),
    "inputs": ("inputs.rna.scale", "inputs.rna.kernel", "inputs.promoter.background"),
    "outputs": ("outputs", "outputs.0", "outputs.0.kind", "outputs.0.scale"),
    "answers": ("known_answers.genes", "known_answers.values.0", "known_answers.values.0.0"),
}


def replaced(content, key: str, value: object):
    """Return a copy with another value at a dotted key."""
    head, _, rest = key.partition(".")
    place = int(head) if isinstance(content, list) else head
    copy = content.copy()
    if copy or isinstance(copy, dict):
        copy[place] = replaced(content[place], rest, value) if rest else value
    return copy


@pytest.mark.parametrize("part", SET_KEYS)
def test_wrong_values_in_features_json_are_refused_or_harmless(call, copied_set, part):
    """Whatever the verbs do with a set that is let through, it is no crash."""
    path = copied_set / "features.json"
    content = json.loads(path.read_bytes())
    for key, value in product(SET_KEYS[part], WRONG_VALUES):
        path.write_text(json.dumps(replaced(content, key, value)))
        code, out, err = call("features", "info", "set", "--tracks")
        assert code in (0, 4), (key, value, err)
        if code == 0:
            assert "\x1b" not in out
            call("features", "merge", "set", "set", "-o", "out")
            options = ["--all-genes", "--fill-missing", "--outputs", "Liver"]
            call("predict", *PUBLISHED, "--features", "set", *options)


@pytest.mark.parametrize("part", MANIFEST_KEYS)
def test_wrong_values_in_manifest_json_are_refused_or_harmless(call, copied_bundle, part):
    path = copied_bundle / "manifest.json"
    content = json.loads(path.read_bytes())
    for key, value in product(MANIFEST_KEYS[part], WRONG_VALUES):
        path.write_text(json.dumps(replaced(content, key, value)))
        code, out, err = call("info", "m")
        assert code in (0, 5), (key, value, err)
        assert "\x1b" not in out
        head = key.partition(".")[0]
        if code == 0 and head in ("known_answers", "layout", "features", "inputs", "outputs"):
            call("test", "m")
        else:
            assert code == 5 or head in HARMLESS


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *(("weights.npz", target) for target in ("/dev/zero", "/etc/passwd", "nowhere", ".")),
        *((name, "a pipe") for name in ("features.json", "pooled.npz", *BUNDLE_FILES)),
    ],
)
def test_links_and_pipes_lead_to_no_harm(call, copied_set, copied_bundle, tmp_path, name, target):
    folder = copied_bundle if name in BUNDLE_FILES else copied_set
    (folder / name).unlink()
    if target == "a pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(target)
    verb = ["test", "m"] if folder == copied_bundle else ["features", "merge", "set", "set"]
    code, _, err = call(*verb, *(["-o", "out"] if folder == copied_set else []))
    assert code in (2, 3, 4, 5)
    assert "root:" not in err
    assert not (tmp_path / "out").exists()


def test_positions_that_leave_their_gene_are_refused(copied_set):
    """Even with matching hashes: no index may reach past an array."""
    from decode_zoo.core.files import sha256_of

    path, header = copied_set / "sites.npz", copied_set / "features.json"
    good = read_arrays(path)
    for name, value in (
        ("rna_starts", 60_000),
        ("rna_lengths", 60_000),
        ("rna_tracks", 9),
        ("rna_counts", 7),
        ("exon_counts", 7),
    ):
        column = good[name].astype(np.uint32)
        column[0] = value
        path.unlink()
        write_arrays(path, {**good, name: column})
        content = json.loads(header.read_bytes())
        content["arrays"]["sites.npz"] = sha256_of(path)
        header.write_text(json.dumps(content))
        opened = FeatureSet.load(copied_set)
        read = opened.exons if name.startswith("exon") else partial(opened.bins, "A", "rna")
        with pytest.raises(InputError, match="do not fit"):
            read()


@pytest.mark.parametrize(
    ("genome", "words"),
    [("hg38", "tracks are not in the feature set"), ("mm10", "does not fit the model")],
)
@pytest.mark.parametrize("command", lists(*PUBLISHED, "--features", "set"))
def test_a_set_of_other_tracks_or_of_another_genome_is_refused(
    call, copied_set, tmp_path, command, genome, words
):
    path = copied_set / "features.json"
    path.write_text(json.dumps(replaced(json.loads(path.read_bytes()), "layout.genome", genome)))
    (tmp_path / "x.txt").write_text("A\n")
    code, out, err = call(*command)
    assert (code, out) == (4, "")
    assert words in err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("length", [1, 101, 110_000])
def test_genes_of_one_bin_and_of_eleven_hundred(call, model, tmp_path, length):
    """Sums, full matrices and both back ends agree, however short or long the RNA."""
    track = model.manifest.inputs["rna"].tracks[0].name
    (tmp_path / "g.gtf").write_text(
        f'chr2\tx\texon\t50001\t{50000 + length}\t.\t+\t.\tgene_id "A"; transcript_id "AT";\n'
    )
    (tmp_path / f"{track}.bed").write_text(
        f"chr2\t50000\t50001\tx\t0\t+\nchr2\t{49999 + length}\t{50000 + length}\ty\t0\t+\n"
    )
    assert call("features", "build", "--gtf", "g.gtf", "--rna", f"{track}.bed", "-o", "own")[0] == 0
    own = FeatureSet.load(tmp_path / "own")
    assert int(own.n_bins("rna")[0]) == -(-length // 100)
    results = [
        model.predict(["A"], features=own, fill_missing=True, backend=name)
        for name in ("numpy", "onnxruntime")
    ]
    exact = model.network.forward(model.bind(own, fill_missing=True).full(np.array([0])))
    scale = np.array([output.scale for output in model.manifest.outputs])
    for table in results:
        assert np.abs((table[model.outputs].to_numpy() - exact) / scale).max() <= 1e-4


def test_networks_that_nobody_could_have_trained_are_refused():
    from decode_zoo.networks.decode import DecodeConfig

    for name in ("rna_layers", "dense_layers", "rna_kernel", "dense_width"):
        with pytest.raises(UsageError, match=name):
            DecodeConfig(**{name: 10**9})


@pytest.mark.parametrize("case", ["one-key-twice", "gzip-bomb"])
def test_a_folder_that_only_looks_like_ours_is_not_replaced(call, tmp_path, case):
    files = lay_out(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "features.json").write_bytes(RAW_JSON[case])
    code, _, err = call(*arguments("bed", files, tmp_path / "out"), "--force")
    assert code == 2
    assert "is not what this command makes" in err
    assert (tmp_path / "out" / "features.json").read_bytes() == RAW_JSON[case]
