"""Tables appear whole or not at all, with provenance, and read back as they were."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decode_zoo import files, tables
from decode_zoo.errors import MissingExtraError, UsageError
from decode_zoo.files import atomic_dir, atomic_path
from decode_zoo.provenance import provenance, provenance_path
from decode_zoo.tables import check_output, write_table

RECORD = {"command": ["decode-zoo", "predict"], "seed": 1}


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "gene_id": ["ENSG1", "no such", "ENSG1", "é"],
            "symbol": ["TP53", "", "TP53", 'a"b\tc,d'],
            "status": ["ok", "unknown_gene", "duplicate_of:ENSG1", "ok"],
            "Liver": np.array([1.23456789, np.nan, 1e-9, -0.0], dtype=np.float32),
            "Brain - Cortex": [123456.789, np.nan, -np.inf, 100.0],
        }
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- atomic output -----------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failing_block_leaves_things_as_they_were(tmp_path, error, old):
    target = tmp_path / "x"
    if old:
        target.write_text(old)
    with pytest.raises(error), atomic_path(target) as temporary:  # noqa: PT012
        assert temporary.parent == tmp_path
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == (["x"] if old else [])
    assert not old or target.read_text() == old


def test_atomic_path_replaces_and_keeps_links_and_permissions(tmp_path):
    real = tmp_path / "real"
    real.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
        assert real.read_text() == "old"
    assert link.is_symlink()
    assert real.read_text() == "new"
    (tmp_path / "plain").write_text("")
    assert real.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_two_writers_do_not_meet(tmp_path):
    with atomic_path(tmp_path / "x") as one, atomic_path(tmp_path / "x") as two:
        one.write_text("1")
        two.write_text("2")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "1"


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_appears_whole_where_none_or_an_empty_one_is(tmp_path, exists):
    target = tmp_path / "set"
    if exists:
        target.mkdir()
    with atomic_dir(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("1")
        assert target.exists() == exists
        assert not exists or names(target) == []
    assert names(tmp_path) == ["set"]
    assert (target / "sub" / "a").read_text() == "1"


FILES = ("features.json", "pooled.npz", "sites.npz")


def made(target, mark='{"format_version": 1}'):
    """A feature set as decode-zoo makes it."""
    target.mkdir()
    for name in FILES:
        (target / name).write_text("x")
    (target / "features.json").write_text(mark)
    return target


def test_force_replaces_only_what_decode_zoo_made_and_keeps_the_card(tmp_path):
    target = made(tmp_path / "set", '{"manifest_version": 3}')
    with pytest.raises(UsageError, match="not made by decode-zoo"):
        atomic_dir(target, force=True).__enter__()
    (target / "features.json").write_text('{"format_version": 1}')
    (target / "CARD.md").write_text("by hand")
    with pytest.raises(UsageError, match="--force"):
        atomic_dir(target).__enter__()
    with atomic_dir(target, force=True) as temporary:
        (temporary / "new").write_text("1")
    assert names(target) == ["CARD.md", "new"]
    assert (target / "CARD.md").read_text() == "by hand"
    assert names(tmp_path) == ["set"]


def test_what_a_folder_may_hold_is_what_its_format_makes():
    from decode_zoo.manifest import BUNDLE_FILES
    from decode_zoo.publication import FEATURE_FILES

    for mark, own in (("manifest.json", BUNDLE_FILES), ("features.json", FEATURE_FILES)):
        assert {mark, *files._OWN_FILES[mark]} == set(own)


@pytest.mark.fault
@pytest.mark.parametrize("foreign", ["thesis.doc", "sub/", "CARD.md/"])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_force_deletes_no_file_that_decode_zoo_did_not_make(tmp_path, foreign, meanwhile):
    target = made(tmp_path / "set")
    path = target / foreign

    def come():
        path.mkdir() if foreign.endswith("/") else path.write_text("years of work")

    if not meanwhile:
        come()
    with (  # noqa: PT012
        pytest.raises(UsageError, match="holds more than decode-zoo made") as error,
        atomic_dir(target, force=True) as temporary,
    ):
        (temporary / "a").write_text("1")
        assert meanwhile
        come()
    assert repr(path.name) in error.value.message
    assert error.value.remedy
    assert names(target) == sorted([*FILES, path.name])
    assert names(tmp_path) == ["set"]


KILLED = """
import os, signal, sys
from pathlib import Path
from decode_zoo.files import atomic_dir
rename = os.rename
def die(source, destination):
    rename(source, destination)
    os.kill(os.getpid(), signal.SIGKILL)
os.rename = die
with atomic_dir(sys.argv[1], force=True) as new:
    (new / "features.json").write_text("{}")
"""


@pytest.mark.fault
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_between_the_renames_loses_no_folder_and_the_next_run_says_so(tmp_path):
    target = made(tmp_path / "set")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    with pytest.raises(UsageError, match="left the former folder at") as error:
        atomic_dir(target, force=True).__enter__()
    # The remedy is a command that does it.
    command = (error.value.remedy or "").partition(": ")[2]
    subprocess.run(shlex.split(command), check=True)
    assert names(target) == sorted(FILES)
    with atomic_dir(target, force=True) as temporary:
        (temporary / "new").write_text("1")
    assert names(target) == ["new"]


@pytest.mark.fault
def test_a_kill_behind_the_renames_deletes_nothing_unasked(tmp_path):
    target = made(tmp_path / "set")
    made(tmp_path / ".set.decode-zoo-replaced")
    with pytest.raises(UsageError, match="left the former folder at"):
        atomic_dir(target, force=True).__enter__()
    assert names(tmp_path) == [".set.decode-zoo-replaced", "set"]


@pytest.mark.parametrize("step", ["block", "second rename"])
def test_a_failing_folder_leaves_the_old_one(tmp_path, monkeypatch, step):
    target = made(tmp_path / "set")
    rename, calls = os.rename, []

    def fail_second(source, destination):
        calls.append(source)
        if len(calls) == 2:
            raise PermissionError("no")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", fail_second)
    with pytest.raises(PermissionError), atomic_dir(target, force=True) as temporary:  # noqa: PT012
        (temporary / "a").write_text("1")
        if step == "block":
            raise PermissionError("no")
    assert names(tmp_path) == ["set"]
    assert names(target) == sorted(FILES)


@pytest.mark.parametrize(("path", "words"), [("file", "not a folder"), ("a/b", "no folder")])
def test_atomic_dir_refuses_a_file_and_a_missing_parent(tmp_path, path, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=words):
        atomic_dir(tmp_path / path, True).__enter__()


# --- provenance --------------------------------------------------------------------


def test_provenance_is_plain_and_complete():
    given = {
        "seed": (np.int64(3), 3),
        "score": (np.float32("nan"), None),
        "limits": ((0, float("inf")), [0, None]),
        "shape": (np.arange(2), [0, 1]),
        "at": (Path("a"), "a"),
        "tags": ({"b", "a"}, ["a", "b"]),
        "nested": ({1: np.bool_(True)}, {"1": True}),
    }
    facts = provenance(
        ["decode-zoo", Path("x")], **{name: value for name, (value, _) in given.items()}
    )
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert {name: facts[name] for name in given} == {
        name: plain for name, (_, plain) in given.items()
    }
    assert facts["command"] == ["decode-zoo", "x"]
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["decode_zoo"]
    assert facts["created"].endswith("+00:00")


# --- formats -----------------------------------------------------------------------

EXPECTED = (
    "gene_id\tsymbol\tstatus\tLiver\tBrain - Cortex\n"
    "ENSG1\tTP53\tok\t1.23457\t123457\n"
    "no such\t\tunknown_gene\t\t\n"
    "ENSG1\tTP53\tduplicate_of:ENSG1\t1e-09\t-inf\n"
    'é\t"a""b\tc,d"\tok\t0\t100\n'
)


@pytest.mark.parametrize("name", ["out.txt", "OUT.TSV"])
def test_tab_separated(tmp_path, frame, name):
    path = tmp_path / name
    write_table(frame, path, provenance=RECORD, units={"Liver": "log2 fold change"})
    assert path.read_bytes() == EXPECTED.encode()
    assert names(tmp_path) == sorted([name, f"{name}.provenance.json"])
    notes = json.loads(provenance_path(path).read_text())
    assert notes == {**RECORD, "units": {"Liver": "log2 fold change"}}


def test_text_reads_back(tmp_path, frame):
    write_table(frame, tmp_path / "o.csv", provenance=RECORD)
    numbers = {"Liver": [""], "Brain - Cortex": [""]}
    back = pd.read_csv(tmp_path / "o.csv", keep_default_na=False, na_values=numbers)
    pd.testing.assert_frame_equal(back, frame, rtol=1e-5, check_dtype=False)


def test_compressed_text_has_the_same_bytes_each_time(tmp_path, frame, monkeypatch):
    write_table(frame, tmp_path / "a.tsv.gz", provenance=RECORD)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_table(frame, tmp_path / "b.tsv.gz", provenance=RECORD)
    data = (tmp_path / "a.tsv.gz").read_bytes()
    assert data == (tmp_path / "b.tsv.gz").read_bytes()
    assert gzip.decompress(data) == EXPECTED.encode()


def test_blocks_of_rows_join_seamlessly(tmp_path, frame, monkeypatch):
    monkeypatch.setattr(tables, "_BLOCK_ROWS", 3)
    write_table(frame, tmp_path / "o.tsv", provenance=RECORD)
    assert (tmp_path / "o.tsv").read_text(encoding="utf-8") == EXPECTED


def test_other_column_types_and_no_rows(tmp_path):
    mixed = pd.DataFrame(
        {
            "yes": [True, False],
            "any": [None, 0.123456789],
            "whole": pd.array([None, 7], dtype="Int64"),
            "kind": pd.Categorical(["a", None]),
        },
        index=[5, 5],
    )
    write_table(mixed, tmp_path / "o.tsv", provenance=RECORD)
    head = "yes\tany\twhole\tkind\n"
    assert (tmp_path / "o.tsv").read_text() == head + "True\t\t\ta\nFalse\t0.123457\t7\t\n"
    write_table(mixed.iloc[:0], tmp_path / "empty.tsv", provenance=RECORD)
    assert (tmp_path / "empty.tsv").read_text() == head


def test_parquet(tmp_path, frame):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "o.parquet"
    write_table(frame, path, provenance=RECORD, units={"Liver": "log2"})
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
    schema = parquet.read_schema(path)
    assert json.loads(schema.metadata[b"decode_zoo.provenance"])["seed"] == 1
    assert schema.field("Liver").metadata[b"unit"] == b"log2"
    assert json.loads(provenance_path(path).read_text())["seed"] == 1


def test_h5ad(tmp_path, frame):
    anndata = pytest.importorskip("anndata")
    path = tmp_path / "o.h5ad"
    write_table(frame, path, provenance=RECORD, units={"Liver": "log2"})
    data = anndata.read_h5ad(path)
    assert data.X.dtype == np.float32
    np.testing.assert_array_equal(
        data.X, frame[["Liver", "Brain - Cortex"]].to_numpy(dtype=np.float32)
    )
    assert data.obs_names.is_unique
    assert list(data.obs_names)[:2] == ["ENSG1", "no such"]
    for name in ("gene_id", "symbol", "status"):
        assert list(data.obs[name]) == list(frame[name])
    assert list(data.var_names) == ["Liver", "Brain - Cortex"]
    assert list(data.var["unit"]) == ["log2", ""]
    assert json.loads(data.uns["provenance"])["command"] == RECORD["command"]


def test_text_among_the_outputs_does_not_fit_h5ad(tmp_path, frame):
    pytest.importorskip("anndata")
    with pytest.raises(UsageError, match="'regulator'"):
        write_table(frame.assign(regulator="MYC"), tmp_path / "o.h5ad", provenance=RECORD)
    assert names(tmp_path) == []


# --- refusals and failures ---------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.gz", "out.csv.zip"])
def test_unknown_formats_are_refused(tmp_path, frame, name):
    with pytest.raises(UsageError, match=r"\.tsv, .*\.h5ad"):
        write_table(frame, tmp_path / name, provenance=RECORD)
    assert names(tmp_path) == []


@pytest.mark.parametrize("existing", ["o.tsv", "o.tsv.provenance.json"])
def test_existing_outputs_and_provenances_need_force(tmp_path, frame, existing):
    path = tmp_path / "o.tsv"
    (tmp_path / existing).write_text("old")
    for refuse in (check_output, lambda path: write_table(frame, path, provenance=RECORD)):
        with pytest.raises(UsageError, match=rf"{existing} exists[\s\S]*--force"):
            refuse(path)
    assert names(tmp_path) == [existing]
    assert (tmp_path / existing).read_text() == "old"
    write_table(frame, path, provenance=RECORD, force=True)
    assert path.read_bytes() == EXPECTED.encode()
    assert json.loads(provenance_path(path).read_text()) == RECORD
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("folder", ["o.tsv", "o.tsv.provenance.json"])
def test_a_folder_in_the_place_of_an_output_is_refused(tmp_path, frame, folder):
    (tmp_path / folder).mkdir()
    with pytest.raises(UsageError, match=rf"{folder} exists and is not a regular file"):
        write_table(frame, tmp_path / "o.tsv", provenance=RECORD, force=True)
    assert names(tmp_path) == [folder]


@pytest.mark.parametrize(("name", "package"), [("o.parquet", "pyarrow"), ("o.h5ad", "anndata")])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'[\s\S]*decode-zoo\[tables\]"):
        check_output(tmp_path / name)
    check_output(tmp_path / "o.tsv")


def test_places_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no folder"):
        check_output(tmp_path / "a" / "o.tsv")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match="not writable"):
        check_output(tmp_path / "o.tsv")
    check_output(None)
    check_output("-")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left")])
@pytest.mark.parametrize("step", ["text", "sidecar", "table"])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failure_at_any_step_leaves_nothing_new(tmp_path, frame, monkeypatch, step, error, old):
    path = tmp_path / "o.tsv"
    if old:
        path.write_text(old)
        provenance_path(path).write_text("old notes")
    before = names(tmp_path)
    if step == "text":
        monkeypatch.setattr(tables, "text_rows", _raiser(error))
    else:
        replace = os.replace
        target = path if step == "table" else provenance_path(path)

        def fail(source, destination):
            if Path(destination) == target:
                raise error
            replace(source, destination)

        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UsageError if isinstance(error, OSError) else error):
        write_table(frame, path, provenance=RECORD, force=True)
    assert names(tmp_path) == before
    assert not old or path.read_text() == old
    assert not old or provenance_path(path).read_text() == "old notes"


def _raiser(error):
    def fail(*_, **options):
        raise error

    return fail


# --- standard output ---------------------------------------------------------------


def test_standard_output(frame, capsysbinary):
    write_table(frame, "-", provenance=RECORD)
    assert capsysbinary.readouterr().out == EXPECTED.encode()


def test_standard_output_without_bytes_and_closed(frame, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    write_table(frame, None, provenance=RECORD)
    assert stream.getvalue() == EXPECTED
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UsageError, match="closed"):
        write_table(frame, "-", provenance=RECORD)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_standard_output_that_is_full_is_told():
    code = (
        "import pandas as pd; from decode_zoo.errors import UsageError;"
        "from decode_zoo.tables import write_table\n"
        "try: write_table(pd.DataFrame({'x': ['a']}), '-', provenance={})\n"
        "except UsageError as error: raise SystemExit(error.message)"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "Cannot write to standard output: No space left on device.\n"


# --- HDF5 --------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize("room", [0, 7, 50, 10_000])
def test_hdf5_never_hears_of_a_disk_that_fills_up_and_the_caller_does(tmp_path, monkeypatch, room):
    really = os.write

    def write(file, part):  # disks take what fits, and then nothing
        place = os.lseek(file, 0, os.SEEK_CUR)
        if place >= room:
            raise OSError(28, "No space left on device")
        return really(file, part[: room - place])

    monkeypatch.setattr(os, "write", write)
    disk = tables._Disk(tmp_path / "x")
    expected, random = bytearray(150), np.random.default_rng(0)
    for _ in range(60):
        start, data = int(random.integers(0, 80)), random.bytes(int(random.integers(0, 20)))
        disk.seek(start)
        assert disk.write(data) == len(data)
        expected[start : start + len(data)] = data
        first, found = int(random.integers(0, 90)), bytearray(30)
        disk.seek(first)
        assert disk.readinto(found) == 30
        assert found == expected[first : first + 30]
    assert (disk.error is None) == (room == 10_000)
    disk.close()
