"""How a command ends: by a signal, on a closed pipe, on a full disk, before it destroys its input.

Also what it says of odd gene lists, and of options that are given but empty.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from decode_zoo.cli import main
from decode_zoo.cli.runner import counted, statuses
from decode_zoo.core import files
from decode_zoo.core.errors import InputError, UsageError, VerificationError
from decode_zoo.zoo.store import Store
from tests.test_hostile import VALID

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("toy_zoo")]
ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = "examples/genes.tsv"
MODEL = ("--model", "toy-perceptron-v1")


def python(code, *args, **kwargs):
    """Run a program that ends with decode-zoo's main."""
    imports = "from decode_zoo.cli import main" + (", group" if "group." in code else "")
    text = f"import sys\n{imports}\n{code}\nmain()\n"
    command = [sys.executable, "-c", text, *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    return subprocess.run(command, cwd=ROOT, check=False, text=True, **pipes)


posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGTERM nor limits")
# The signal comes while a folder is built, and again while it is cleaned up.
STRUCK = """
import os, signal
import decode_zoo.features.building, decode_zoo.core.files
def strike(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000): pass
decode_zoo.features.building._gather = strike
remove = decode_zoo.core.files.shutil.rmtree
def removing(*args, **kwargs):
    strike()
    remove(*args, **kwargs)
decode_zoo.core.files.shutil.rmtree = removing
"""
TABLE = """
import click, pandas
from decode_zoo.core import tables
@group.cli.command()
@click.argument("path")
def write(path):
    write_file = tables.write_file
    tables.write_file = lambda *args, **kwargs: (write_file(*args, **kwargs), strike())
    tables.write_table(pandas.DataFrame({"gene_id": ["a"]}), path, provenance={})
"""


def sites_to_build(folder):
    (folder / "genes.gtf").write_text(VALID["gtf"])
    (folder / "sites.bed").write_text(VALID["bed"])
    return ["features", "build", "--gtf", folder / "genes.gtf", "--rna", folder / "sites.bed"]


@posix
def test_sigterm_leaves_no_half_of_a_folder(tmp_path):
    command = sites_to_build(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = python(STRUCK, *command, "-o", tmp_path / "set")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (143, "", "Terminated.")
    assert sorted(tmp_path.iterdir()) == before


@posix
def test_sigterm_leaves_no_half_of_a_table(tmp_path):
    done = python(STRUCK + TABLE, "write", tmp_path / "o.tsv")
    assert (done.returncode, done.stderr.strip()) == (143, "Terminated.")
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize(
    ("name", "step", "at"),
    [("SIGTERM", "write", 2), ("SIGINT", "seek", 5)],
)
def test_a_signal_while_hdf5_writes_leaves_no_half_of_a_file(tmp_path, name, step, at):
    """An exception in the library's calls would be lost, and then the library."""
    pytest.importorskip("anndata")
    code = f"""
import os, signal
from decode_zoo.core.tables import _Disk as Disk
def struck(self, *args, really=Disk.{step}, calls=[]):
    calls.append(0)
    if len(calls) == {at}: os.kill(os.getpid(), signal.{name})
    return really(self, *args)
Disk.{step} = struck
{TABLE}
"""
    done = python(code.replace("strike()", "None"), "write", tmp_path / "o.h5ad")
    ends = {"SIGTERM": (143, "Terminated."), "SIGINT": (130, "Interrupted.")}
    assert (done.returncode, done.stderr.strip()) == ends[name]
    assert list(tmp_path.iterdir()) == []


@posix
def test_sigterm_that_the_caller_ignores_stays_ignored(tmp_path):
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    done = python(STRUCK + TABLE + ignore, "write", tmp_path / "o.tsv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.tsv").exists()


@pytest.fixture
def closed_pipe():
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_a_reader_that_has_seen_enough_is_no_error(closed_pipe):
    done = python("", "predict", *MODEL, EXAMPLE, stdout=closed_pipe)
    assert done.returncode == 0
    assert "Error" not in done.stderr


def test_what_comes_after_the_reader_left_is_done_and_has_its_exit_code(closed_pipe, tmp_path):
    code = """
import click
from pathlib import Path
from decode_zoo.core.errors import VerificationError
@group.cli.command()
@click.argument("path")
def work(path):
    for i in range(3): click.echo(i)
    Path(path).touch()
    raise VerificationError("found late")
"""
    done = python(code, "work", tmp_path / "done", stdout=closed_pipe)
    assert (done.returncode, done.stderr) == (5, "Error: found late\n")
    assert (tmp_path / "done").exists()


def test_standard_error_that_nobody_reads_changes_nothing(closed_pipe):
    done = python("", "predict", *MODEL, EXAMPLE, stderr=closed_pipe)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 13


@pytest.mark.parametrize(
    ("error", "code", "args"),
    [
        (UsageError("odd"), 2, ["ls", "--debug"]),
        (PermissionError(13, "no"), 4, ["ls", "--debug"]),
        (ZeroDivisionError("odd"), 1, ["--debug", "ls"]),
    ],
)
def test_debug_shows_where_and_ends_with_the_same_code(monkeypatch, capsys, error, code, args):
    def fail(cls):
        raise error

    monkeypatch.setattr(Store, "default", classmethod(fail))
    monkeypatch.setattr(sys, "argv", ["decode-zoo", *args])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1 - (code == 1)].startswith(("Error: ", "Internal error: "))


def limited(size):
    import resource

    def limit():  # in the child
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


WIDE = """
import click, numpy, pandas
from decode_zoo.core.tables import write_table
@group.cli.command()
@click.option("-o", "path")
def write(path):
    values = numpy.random.default_rng(0).normal(size=(5_000, 54))
    write_table(pandas.DataFrame(values).rename(columns=str), path, provenance={})
"""


@posix
@pytest.mark.parametrize(
    ("size", "command"), [(5_000, ["explain", *MODEL, EXAMPLE]), (150_000, ["write"])]
)
def test_a_disk_that_fills_up_ends_an_h5ad_file_with_one_error(call, tmp_path, size, command):
    """The HDF5 library would go down with the process (exit code 139)."""
    pytest.importorskip("anndata")
    call("fetch", "toy-perceptron-v1", "toy-sites-v1")
    path = tmp_path / "o.h5ad"
    done = python(WIDE, *command, "-o", path, preexec_fn=limited(size))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"Error: Cannot write {path}: File too large.\n")
    assert done.stderr.count("\n") == 2
    assert {path.name for path in tmp_path.iterdir()} <= {"o.h5ad.unfinished"}


@posix
def test_a_full_disk_is_named_with_the_folder_that_was_built(tmp_path):
    command = [*sites_to_build(tmp_path), "-o", tmp_path / "set"]
    before = sorted(tmp_path.iterdir())
    done = python("", *command, preexec_fn=limited(500))
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {tmp_path / 'set'}: File too large.\n")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("verb", "way"),
    [
        *(("predict", way) for way in ("its name", "a link", "a hard link", "another spelling")),
        *(("explain", "its name"), ("report", "its name")),
    ],
)
def test_force_replaces_no_input(call, tmp_path, verb, way):
    target = tmp_path / ("g.html" if verb == "report" else "g.tsv")
    target.write_text("TP53\nGATA1\n")
    source = tmp_path / "other" if "link" in way else tmp_path / "x" / ".." / target.name
    (tmp_path / "x").mkdir()
    if way == "its name":
        source = target
    elif way == "a link":
        source.symlink_to(target)
    elif way == "a hard link":
        source.hardlink_to(target)
    before = {path.name for path in tmp_path.iterdir()}
    code, out, err = call(verb, *MODEL, source, "-o", target, "--force")
    assert (code, out) == (2, "")
    assert f"is the same file as the input {source}" in err
    assert target.read_text() == "TP53\nGATA1\n"
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["x.totals.tsv", "x.tsv.provenance.json"])
def test_force_replaces_no_background_and_nothing_beside_the_output(call, tmp_path, name):
    (tmp_path / name).write_text("TP53\n")
    for given in ([tmp_path / name], [ROOT / EXAMPLE, "--background", tmp_path / name]):
        code, _, err = call("explain", *MODEL, *given, "-o", tmp_path / "x.tsv", "--force")
        assert (code, "the same file" in err) == (2, True)
    assert (tmp_path / name).read_text() == "TP53\n"


def test_force_replaces_no_standard_input(tmp_path):
    path = tmp_path / "g.tsv"
    path.write_text("TP53\n")
    with open(path) as stdin:
        done = python("", "predict", *MODEL, "-", "-o", path, "--force", stdin=stdin)
    assert done.returncode == 2
    assert "the same file as standard input" in done.stderr
    assert path.read_text() == "TP53\n"


def test_force_replaces_no_feature_set_that_is_read(call, tmp_path):
    assert call(*sites_to_build(tmp_path), "-o", tmp_path / "set")[0] == 0
    made = (tmp_path / "set" / "features.json").read_bytes()
    (tmp_path / "x.tsv").write_text("gene\tLiver\tLung\nA\t1\t2\n")
    entry = ["--scale", "tpm", "--id", "x-v1", "--license", "CC0-1.0", "--citation", "none"]
    own = tmp_path / "set"
    for command in (
        ["features", "merge", own, "toy-sites-v1"],
        ["features", "build", "--like", own, "--rna", tmp_path / "sites.bed"],
        ["train", "--features", own, "--expression", tmp_path / "x.tsv", *entry],
    ):
        code, _, err = call(*command, "-o", own, "--force")
        assert code == 2, err
        assert "the same file" in err
    assert (tmp_path / "set" / "features.json").read_bytes() == made


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "--model", "", EXAMPLE],
        ["predict", *MODEL, ""],
        ["predict", *MODEL, EXAMPLE, "-o", ""],
        ["predict", *MODEL, EXAMPLE, "--features", " "],
        ["features", "info", ""],
        ["features", "build", "--gtf", "", "--rna", "x", "-o", "y"],
    ],
)
def test_a_name_that_is_empty_is_not_the_current_folder(call, monkeypatch, command):
    monkeypatch.chdir(ROOT)
    code, out, err = call(*command)
    assert (code, out) == (2, "")
    assert "empty" in err or "nothing is given" in err


def test_a_list_that_may_not_be_read_is_bad_input_as_one_that_is_not_there(
    call, tmp_path, monkeypatch
):
    def refuse(path, **kwargs):  # root may read anything
        raise PermissionError(13, "Permission denied")

    genes = tmp_path / "genes.tsv"
    genes.write_text("TP53\n")
    monkeypatch.setattr(files, "open_plain", refuse)
    code, _, err = call("predict", *MODEL, genes)
    assert code == 4
    assert "genes.tsv: cannot be read (Permission denied)\nCheck" in err
    monkeypatch.undo()
    code, _, err = call("predict", "--model", "gtex-tissue-v1", "no/such.tsv")
    where = "Check the name, and the folder it is looked for in."
    assert (code, err) == (4, f"Error: no/such.tsv: no such file\n{where}\n")


@pytest.mark.parametrize("line", ["TP53,ALB,BRCA2", "TP53\tALB"])
def test_further_genes_beside_the_first_are_told(call, tmp_path, line):
    for verb in ("predict", "explain") if "\t" in line else ("predict",):
        (tmp_path / "genes.csv").write_text(line + "\n")
        code, _, err = call(verb, *MODEL, tmp_path / "genes.csv", "--outputs", "Liver")
        assert code == 0
        assert "further genes in other columns (ALB" in err
        assert "give one gene a line" in err


def test_one_of_a_thing_is_not_several():
    assert [counted(n, "track") for n in (0, 1, 2)] == ["0 tracks", "1 track", "2 tracks"]
    assert statuses(["ok"]) == "1 row (1 ok)"
    assert statuses(["ok", "duplicate_of:x", "ok"]) == "3 rows (2 ok, 1 duplicate_of)"


# -- errors and Ctrl-C ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2, "Error: No space left on device."),
        (OSError(errno.EFBIG, "File too large", "x.tsv"), 2, "Error: x.tsv: File too large."),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 4, "a/b: Permission denied."),
        (OSError("odd"), 4, "Error: odd."),
        (InputError("is odd", path="a", line=3), 4, "Error: a, line 3: is odd"),
        (VerificationError("no", remedy="Do."), 5, "Error: no\nDo."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (ZeroDivisionError("oh"), 1, "Internal error: ZeroDivisionError: oh\nThis is a bug"),
    ],
)
def test_every_error_has_its_code(call, monkeypatch, error, code, message):
    def fail(cls):
        raise error

    monkeypatch.setattr("decode_zoo.core.files.discard_stdout", lambda: None)
    monkeypatch.setattr(Store, "default", classmethod(fail))
    found, out, err = call("ls")
    assert (found, out) == (code, "")
    assert message in err
    assert ("bug" in err) == (code == 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("verb", ["ls", "--help"])
def test_standard_output_that_is_full(verb):
    with open("/dev/full", "wb") as full:
        done = python("", verb, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: No space left on device.\n")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("name", ["click", "yaml"])
def test_control_c_while_the_verbs_are_imported(name):
    """The imports are most of what a command that was just started does."""
    code = f"""
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
"""
    done = python(code, "ls")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "Interrupted.")


def unread(pipe):
    """Return the number of bytes in a pipe that its reader has not taken yet."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_control_c_while_it_waits(toy_zoo):
    command = [sys.executable, "-m", "decode_zoo", "predict", "--model", "toy-decode-v1", "-"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        process.stdin.write(b"TP53\n")
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while unread(process.stdin):  # until it is reading, and waits for more
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err.strip()) == (130, b"", b"Interrupted.")


def test_the_group_of_verbs_is_light():
    code = (
        "import sys; import decode_zoo.cli; assert 'click' not in sys.modules; "
        "import decode_zoo.cli.group; "
        "heavy = {'numpy', 'pandas', 'scipy', 'onnxruntime', 'pooch', 'yaml'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
