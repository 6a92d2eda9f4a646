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

from decode_zoo.core import tables
from decode_zoo.core.errors import MissingExtraError, UsageError
from decode_zoo.core.files import atomic_dir, atomic_path
from decode_zoo.core.provenance import provenance, provenance_path
from decode_zoo.core.tables import check_output, write_table
from decode_zoo.features.featureset import FEATURE_FOLDER

RECORD = {"command": ["decode-zoo", "predict"], "seed": 1}
FULL = OSError(28, "No space left on device")


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


EXPECTED = (
    "gene_id\tsymbol\tstatus\tLiver\tBrain - Cortex\n"
    "ENSG1\tTP53\tok\t1.23457\t123457\n"
    "no such\t\tunknown_gene\t\t\n"
    "ENSG1\tTP53\tduplicate_of:ENSG1\t1e-09\t-inf\n"
    'é\t"a""b\tc,d"\tok\t0\t100\n'
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- files and folders ---------------------------------------------------------------------------


def test_a_file_is_replaced_behind_its_link_with_usual_permissions(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
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


FILES = FEATURE_FOLDER.files


@pytest.fixture
def made(tmp_path):
    """A feature set as decode-zoo makes it."""
    target = tmp_path / "set"
    target.mkdir()
    for name in FILES:
        (target / name).write_text('{"format_version": 1}')
    return target


def test_force_replaces_what_decode_zoo_made_and_keeps_the_card(made, tmp_path):
    (made / "CARD.md").write_text("by hand")
    with atomic_dir(made, FEATURE_FOLDER) as temporary:
        (temporary / "new").write_text("1")
    assert names(made) == ["CARD.md", "new"]
    assert (made / "CARD.md").read_text() == "by hand"
    assert names(tmp_path) == ["set"]


@pytest.mark.parametrize(
    ("path", "force", "words"),
    [
        ("set", False, r"not empty[\s\S]*--force"),
        ("set/features.json", True, "not a folder"),
        ("a/b", True, "no folder"),
        ("other", True, "not what this command makes"),
    ],
)
def test_a_place_that_cannot_become_the_folder_is_refused(made, tmp_path, path, force, words):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/features.json").write_text('{"manifest_version": 3}')
    with pytest.raises(UsageError, match=words):
        atomic_dir(tmp_path / path, FEATURE_FOLDER if force else None).__enter__()
    assert names(tmp_path) == ["other", "set"]


@pytest.mark.fault
@pytest.mark.parametrize("foreign", ["thesis.doc", "sub/", "CARD.md/"])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_force_deletes_nothing_that_decode_zoo_did_not_make(made, tmp_path, foreign, meanwhile):
    path = made / foreign

    def come():
        path.mkdir() if foreign.endswith("/") else path.write_text("years of work")

    if not meanwhile:
        come()
    with (  # noqa: PT012
        pytest.raises(UsageError, match="holds more than decode-zoo made") as error,
        atomic_dir(made, FEATURE_FOLDER) as temporary,
    ):
        (temporary / "a").write_text("1")
        assert meanwhile
        come()
    assert repr(path.name) in error.value.message
    assert error.value.remedy
    assert names(made) == sorted([*FILES, path.name])
    assert names(tmp_path) == ["set"]


KILLED = """
import os, signal, sys
from decode_zoo.core.files import atomic_dir
from decode_zoo.features.featureset import FEATURE_FOLDER
rename, left = os.rename, [int(sys.argv[2])]
def die(source, destination):
    rename(source, destination)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
os.rename = die
with atomic_dir(sys.argv[1], FEATURE_FOLDER) as new:
    (new / "features.json").write_text("{}")
"""


@pytest.mark.fault
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("renames", [1, 2])
def test_a_kill_while_a_folder_is_replaced_loses_nothing_and_is_told(made, tmp_path, renames):
    done = subprocess.run([sys.executable, "-c", KILLED, made, str(renames)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert made.exists() == (renames == 2)
    with pytest.raises(UsageError, match="left the former folder at") as error:
        atomic_dir(made, FEATURE_FOLDER).__enter__()
    assert names(tmp_path / ".set.decode-zoo-replaced") == sorted(FILES)
    if renames == 1:  # the remedy is a command that does it
        command = (error.value.remedy or "").partition(": ")[2]
        subprocess.run(shlex.split(command), check=True)
        assert names(made) == sorted(FILES)


@pytest.mark.parametrize("step", ["block", "second rename"])
def test_a_failing_folder_leaves_the_old_one(made, tmp_path, monkeypatch, step):
    rename, calls = os.rename, []

    def fail_second(source, destination):
        calls.append(source)
        if len(calls) == 2:
            raise PermissionError("no")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", fail_second)
    with pytest.raises(PermissionError), atomic_dir(made, FEATURE_FOLDER) as temporary:  # noqa: PT012
        (temporary / "a").write_text("1")
        if step == "block":
            raise PermissionError("no")
    assert names(tmp_path) == ["set"]
    assert names(made) == sorted(FILES)


# -- what is written -----------------------------------------------------------------------------


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
        ["decode-zoo", Path("x")], **{key: value for key, (value, _) in given.items()}
    )
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert {key: facts[key] for key in given} == {key: plain for key, (_, plain) in given.items()}
    assert facts["command"] == ["decode-zoo", "x"]
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["decode_zoo"]
    assert facts["created"].endswith("+00:00")


@pytest.mark.parametrize("name", ["o.txt", "O.TSV", "o.tsv.gz"])
def test_text_has_six_digits_and_the_same_bytes_each_time(tmp_path, frame, name, monkeypatch):
    path, written = tmp_path / name, []
    for rows, moment in ((3, 1e9), (1 << 14, 2e9)):  # rows are written in blocks
        monkeypatch.setattr(tables, "_BLOCK_ROWS", rows)
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        write_table(frame, path, provenance=RECORD, units={"Liver": "log2"}, force=True)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    data = gzip.decompress(written[0]) if path.suffix == ".gz" else written[0]
    assert data == EXPECTED.encode()
    assert names(tmp_path) == sorted([name, f"{name}.provenance.json"])
    notes = json.loads(provenance_path(path).read_text())
    assert notes == {**RECORD, "units": {"Liver": "log2"}}


def test_commas_read_back(tmp_path, frame):
    write_table(frame, tmp_path / "o.csv", provenance=RECORD)
    numbers = {"Liver": [""], "Brain - Cortex": [""]}
    back = pd.read_csv(tmp_path / "o.csv", keep_default_na=False, na_values=numbers)
    pd.testing.assert_frame_equal(back, frame, rtol=1e-5, check_dtype=False)


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
    head = "yes\tany\twhole\tkind\n"
    for rows, expected in ((mixed, "True\t\t\ta\nFalse\t0.123457\t7\t\n"), (mixed.iloc[:0], "")):
        write_table(rows, tmp_path / "o.tsv", provenance=RECORD, force=True)
        assert (tmp_path / "o.tsv").read_text() == head + expected


def test_parquet_keeps_the_table_provenance_and_units(tmp_path, frame):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "o.parquet"
    write_table(frame, path, provenance=RECORD, units={"Liver": "log2"})
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
    schema = parquet.read_schema(path)
    assert json.loads(schema.metadata[b"decode_zoo.provenance"])["seed"] == 1
    assert schema.field("Liver").metadata[b"unit"] == b"log2"


def test_h5ad_has_numbers_ids_units_and_provenance(tmp_path, frame):
    anndata = pytest.importorskip("anndata")
    path, outputs = tmp_path / "o.h5ad", ["Liver", "Brain - Cortex"]
    write_table(frame, path, provenance=RECORD, units={"Liver": "log2"})
    data = anndata.read_h5ad(path)
    assert data.X.dtype == np.float32
    np.testing.assert_array_equal(data.X, frame[outputs].to_numpy(dtype=np.float32))
    assert data.obs_names.is_unique
    assert list(data.obs_names)[:2] == ["ENSG1", "no such"]
    for name in ("gene_id", "symbol", "status"):
        assert list(data.obs[name]) == list(frame[name])
    assert list(data.var_names) == outputs
    assert list(data.var["unit"]) == ["log2", ""]
    assert json.loads(data.uns["provenance"])["command"] == RECORD["command"]


# -- refusals and failures -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "there", "words"),
    [
        ("out", "", r"\.tsv, .*\.h5ad"),
        ("out.csv.zip", "", r"\.tsv, .*\.h5ad"),
        ("a/o.tsv", "", "no folder"),
        ("o.tsv", "o.tsv", r"o\.tsv exists[\s\S]*--force"),
        ("o.tsv", "o.tsv.provenance.json", r"provenance\.json exists[\s\S]*--force"),
        ("o.tsv", "o.tsv/", r"o\.tsv exists and is not a regular file"),
        ("o.tsv", "o.tsv.provenance.json/", r"json exists and is not a regular file"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_and_at_writing(
    tmp_path, frame, name, there, words
):
    path, old = tmp_path / name, tmp_path / there
    if there:
        old.mkdir() if there.endswith("/") else old.write_text("old")
    for refuse in (check_output, lambda path: write_table(frame, path, provenance=RECORD)):
        with pytest.raises(UsageError, match=words):
            refuse(path)
    assert names(tmp_path) == [old.name] * bool(there)
    if old.is_file():
        assert old.read_text() == "old"
        write_table(frame, path, provenance=RECORD, force=True)
        assert path.read_bytes() == EXPECTED.encode()
        assert json.loads(provenance_path(path).read_text()) == RECORD
    elif there:
        with pytest.raises(UsageError, match=words):
            write_table(frame, path, provenance=RECORD, force=True)


@pytest.mark.parametrize(("name", "package"), [("o.parquet", "pyarrow"), ("o.h5ad", "anndata")])
def test_a_missing_extra_and_a_locked_folder_are_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}'[\s\S]*decode-zoo\[tables\]"):
        check_output(tmp_path / name)
    check_output(tmp_path / "o.tsv")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match="not writable"):
        check_output(tmp_path / "o.tsv")
    check_output("-")


def test_text_among_the_outputs_does_not_fit_h5ad(tmp_path, frame):
    pytest.importorskip("anndata")
    with pytest.raises(UsageError, match="'regulator'"):
        write_table(frame.assign(regulator="MYC"), tmp_path / "o.h5ad", provenance=RECORD)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, FULL])
@pytest.mark.parametrize("step", ["text", "sidecar", "table"])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failure_at_any_step_leaves_nothing_new(tmp_path, frame, monkeypatch, step, error, old):
    path = tmp_path / "o.tsv"
    if old:
        path.write_text(old)
        provenance_path(path).write_text("old notes")
    before = names(tmp_path)
    fails = {"sidecar": provenance_path(path), "table": path}.get(step)
    replace = os.replace

    def fail(source, destination="", **options):
        if fails in (None, Path(destination)):
            raise error
        replace(source, destination)

    monkeypatch.setattr(*((os, "replace") if fails else (tables, "text_rows")), fail)
    with pytest.raises(UsageError if error is FULL else error):
        write_table(frame, path, provenance=RECORD, force=True)
    assert names(tmp_path) == before
    assert not old or path.read_text() == old
    assert not old or provenance_path(path).read_text() == "old notes"


def test_standard_output_takes_the_bytes_of_a_file(frame, capsysbinary):
    write_table(frame, "-", provenance=RECORD)
    assert capsysbinary.readouterr().out == EXPECTED.encode()


def test_standard_output_of_a_notebook_closed_or_full(frame, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream := io.StringIO())
    write_table(frame, None, provenance=RECORD)
    assert stream.getvalue() == EXPECTED
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UsageError, match="closed"):
        write_table(frame, "-", provenance=RECORD)
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:  # which is flushed once more when it is closed
            monkeypatch.setattr(sys, "stdout", full)
            with pytest.raises(UsageError, match="standard output: No space left on device"):
                write_table(frame, "-", provenance=RECORD)


@pytest.mark.fault
@pytest.mark.parametrize("room", [0, 7, 50, 10_000])
def test_hdf5_never_hears_of_a_disk_that_fills_up_and_the_caller_does(tmp_path, monkeypatch, room):
    really = os.write

    def write(file, part):  # disks take what fits, and then nothing
        place = os.lseek(file, 0, os.SEEK_CUR)
        if place >= room:
            raise FULL
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
