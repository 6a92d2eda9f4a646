"""The store among processes: many at once, killed ones, other users' files, and no network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from decode_zoo.artifact import hash_file
from decode_zoo.download import leftovers
from decode_zoo.registry import write_registry
from decode_zoo.store import Store
from tests.server import Server
from tests.test_store import CONTENT, FOLDER, REGISTRY, files_in, lay_out

ROOT = Path(__file__).resolve().parents[1]
NAME = "weights.npz"
DATA = CONTENT[NAME]

# The command line on a zoo of the test's own. File locks fail unless LOCKS is set, for nothing may
# depend on them.
PROGRAM = """
import errno, fcntl, os, sys, time
from pathlib import Path

def no_locks(*args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

if "LOCKS" not in os.environ:
    fcntl.flock = fcntl.lockf = no_locks

from decode_zoo import download
from decode_zoo.cli import main
from decode_zoo.registry import load_registry
from decode_zoo.store import Store

download._BLOCK = 512
# So small a file would stay in a buffer until it is whole; here it grows as large ones do.
download.open = lambda *args, **named: open(*args, **{"buffering": 512, **named})
_, registry, cache, mirrors, gate, *arguments = sys.argv
store = Store(load_registry(registry), None, Path(cache), tuple(mirrors.split()))
Store.default = classmethod(lambda cls: store)
if gate:
    import pooch, requests
    print("ready", flush=True)
    sys.stdin.read()
sys.argv = ["decode-zoo", *arguments]
main()
"""


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with Server(CONTENT) as server:
        yield server


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def start(tmp_path, cache):
    """Start the command line in a process of its own."""
    write_registry(REGISTRY, tmp_path / "registry.yaml")
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments, mirror="", gate=False, mortal=False):
        # To root all files are open; a process without these capabilities is as others are.
        bounds = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if mortal and os.geteuid() == 0:
            if shutil.which("setpriv") is None:
                pytest.skip("root may do anything, and there is no setpriv")
        else:
            bounds = []
        process = subprocess.Popen(
            [
                *bounds,
                sys.executable,
                "-c",
                PROGRAM,
                tmp_path / "registry.yaml",
                cache,
                mirror,
                "gate" * gate,
                *arguments,
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with process:
            process.kill()


def ended(process):
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


def wait_for(found):
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def meet(start, server, cache, number):
    """Let processes fetch the same files at the same time, and see all succeed."""
    mirror = f"{server.url}/slow-but-steady"
    processes = [start("fetch", "tissue", mirror=mirror, gate=True) for _ in range(number)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    paths = "".join(f"{cache / FOLDER / name}\n" for name in CONTENT)
    assert [ended(process) for process in processes] == [(0, paths, "")] * number
    assert files_in(cache) == sorted(CONTENT)
    for name, data in CONTENT.items():
        assert (cache / FOLDER / name).read_bytes() == data


@pytest.mark.fault
def test_eight_processes_at_once_give_one_good_file_without_locks(start, server, cache):
    meet(start, server, cache, 8)
    assert len(server.requests) > 8  # they did meet


def test_with_locks_one_process_fetches_for_all(start, server, cache, monkeypatch):
    monkeypatch.setenv("LOCKS", "1")
    meet(start, server, cache, 3)
    assert len(server.requests) == len(CONTENT)


@pytest.mark.fault
def test_processes_that_replace_a_damaged_file_at_once_do_not_harm_each_other(start, server, cache):
    lay_out(cache, {name: data[::-1] + b"!" for name, data in CONTENT.items()})
    meet(start, server, cache, 3)


@pytest.mark.fault
def test_killed_download_leaves_the_cache_intact_and_is_tidied_up(start, server, cache):
    lay_out(cache, {"manifest.json": CONTENT["manifest.json"]})
    process = start("fetch", "tissue", mirror=f"{server.url}/slow-but-steady")
    wait_for(lambda: any(path.stat().st_size > 512 for path in cache.rglob("*.part")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cache / FOLDER / NAME).exists()
    assert (cache / FOLDER / "manifest.json").read_bytes() == CONTENT["manifest.json"]
    left = sorted(cache.rglob("*.part"))
    assert len(left) == 2  # its lock, and what had arrived
    assert leftovers(cache) == []  # for all we know it is at work
    for path in left:
        os.utime(path, (1, 1))
    assert leftovers(cache) == left
    assert ended(start("fetch", "tissue", mirror=f"{server.url}/good"))[0] == 0
    assert files_in(cache) == sorted(CONTENT)
    assert (cache / FOLDER / NAME).read_bytes() == DATA


@pytest.mark.fault
@pytest.mark.parametrize("how", ["slow-but-steady", "stalled"])
def test_interrupted_download_leaves_nothing(start, server, cache, how):
    process = start("fetch", "tissue", mirror=f"{server.url}/{how}")
    wait_for(lambda: any(cache.rglob("*.part")) and server.requests != [])
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert (code, out, err.strip()) == (130, "", "Interrupted.")
    assert set(files_in(cache)) <= {"manifest.json"}


# --- caches of others ----------------------------------------------------------------------


@pytest.fixture
def sealed(cache):
    """Make the cache read-only, until the test is over."""

    def seal():
        for path in [cache, *cache.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)

    yield seal
    for path in [cache, *cache.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


@pytest.mark.fault
def test_read_only_cache_is_used(start, cache, sealed):
    lay_out(cache, CONTENT)
    sealed()
    code, out, err = ended(start("fetch", "tissue", mortal=True))
    assert (code, err) == (0, "")
    assert out == "".join(f"{cache / FOLDER / name}\n" for name in CONTENT)


@pytest.mark.fault
@pytest.mark.parametrize("here", ["no folder", "not the file", "a damaged file"])
def test_read_only_cache_that_lacks_a_file_is_told(start, server, cache, sealed, here):
    cache.mkdir()
    if here != "no folder":
        lay_out(cache, {"manifest.json": CONTENT["manifest.json"]})
    if here == "a damaged file":
        (cache / FOLDER / NAME).write_bytes(DATA[::-1])
    sealed()
    before = files_in(cache)
    code, out, err = ended(start("fetch", "tissue", mirror=f"{server.url}/good", mortal=True))
    assert (code, out) == (5 if here == "a damaged file" else 3, "")
    assert f"The cache cannot be written: {cache / FOLDER}" in err
    assert "Permission denied" in err
    assert "in DECODE_ZOO_CACHE" in err
    assert server.requests == []
    assert files_in(cache) == before


@pytest.mark.fault
def test_cached_file_of_another_user_that_cannot_be_read_is_replaced(start, server, cache):
    lay_out(cache, CONTENT)
    (cache / FOLDER / NAME).chmod(0)
    mirror = f"{server.url}/good"
    assert ended(start("fetch", "tissue", mirror=mirror, mortal=True))[0] == 0
    assert (cache / FOLDER / NAME).read_bytes() == DATA
    assert len(server.requests) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_shared_cache_stays_open_to_its_group(cache, tmp_path):
    mirror = lay_out(tmp_path / "mirror", CONTENT)
    cache.mkdir()
    cache.chmod(0o2775)
    mask = os.umask(0o077)
    try:
        path = Store(REGISTRY, None, cache, (str(mirror),)).locate("tissue", NAME)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640
    for folder in (path.parent, path.parent.parent):
        assert folder.stat().st_mode & 0o2077 == 0o2070


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_private_cache_stays_private(cache, tmp_path):
    mirror = lay_out(tmp_path / "mirror", CONTENT)
    mask = os.umask(0o077)
    try:
        path = Store(REGISTRY, None, cache, (str(mirror),)).locate("tissue", NAME)
    finally:
        os.umask(mask)
    for place in (path, *path.parents[:3]):
        assert place.stat().st_mode & 0o077 == 0


# --- no network ----------------------------------------------------------------------------

# Each verb in turn; whatever a library does with sockets is noted, and fails.
OFFLINE = """
import sys
from pathlib import Path

opened = []

def forbid(event, args):
    if event.startswith("socket."):
        opened.append(event)
        raise RuntimeError(f"a socket was opened: {event}")

sys.addaudithook(forbid)

import decode_zoo.store
from decode_zoo.cli import main

if sys.argv[1] == "bare":
    decode_zoo.store.bundled_root = lambda: None
for line in sys.stdin.read().splitlines():
    sys.argv = ["decode-zoo", *line.split()]
    try:
        main()
    except SystemExit as stop:
        print("exit", stop.code, *sys.argv[1:3], flush=True)
print("sockets", opened)
"""


def without_sockets(lines, cwd, *, bare=False, offline=True, trace=""):
    """Run verbs where sockets are forbidden: what is said about their ends, and about errors."""
    environment = {**os.environ, "DECODE_ZOO_MIRRORS": "https://zoo.example/a"}
    environment |= {"PYTHONPATH": str(ROOT)}
    environment |= {"DECODE_ZOO_OFFLINE": "1"} if offline else {}
    tracer = ["strace", "-f", "-qq", "-e", "trace=socket", "-o", trace] if trace else []
    done = subprocess.run(
        [*tracer, sys.executable, "-c", OFFLINE, "bare" if bare else "whole"],
        cwd=cwd,
        env=environment,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    said = [x for x in done.stdout.splitlines() if x.startswith(("exit", "sockets"))]
    return said, done.stderr


VERBS = {
    "ls": 0,
    "info gtex-tissue-v1": 0,
    "fetch toy-decode-v1": 0,
    "verify toy-decode-v1": 0,
    "test toy-decode-v1": 0,
    "predict --model toy-decode-v1 genes.tsv -o predicted.tsv": 0,
    "explain --model toy-decode-v1 genes.tsv --outputs Liver -o explained.tsv": 0,
    "info no-such-v1": 3,
}


@pytest.mark.fault
@pytest.mark.usefixtures("toy_zoo")
def test_offline_no_verb_opens_a_socket(tmp_path):
    (tmp_path / "genes.tsv").write_text("TP53\nENSG00000139618\n")
    said, err = without_sockets(list(VERBS), tmp_path)
    ends = [f"exit {code} {' '.join(line.split()[:2])}" for line, code in VERBS.items()]
    assert said == [*ends, "sockets []"], err
    assert (tmp_path / "predicted.tsv").exists()


@pytest.mark.fault
def test_offline_what_is_not_here_is_told_with_all_that_is_needed_to_bring_it(tmp_path):
    (tmp_path / "genes.tsv").write_text("TP53\n")
    lines = [
        "ls",
        "info gtex-tissue-v1",
        "predict --model gtex-tissue-v1 genes.tsv -o predicted.tsv",
        "fetch hg38-open-v1",
    ]
    said, err = without_sockets(lines, tmp_path, bare=True)
    assert [line.split()[1] for line in said[:-1]] == ["0", "0", "3", "3"]
    assert said[-1] == "sockets []"
    artifact = Store.default().registry.resolve("gtex-tissue-v1")
    entry = artifact.files["manifest.json"]
    assert f"manifest.json of {artifact.id} ({entry.size} bytes, sha256 {entry.sha256})" in err
    assert f"https://zoo.example/a/{artifact.folder}/manifest.json: not tried, offline" in err
    place = Path(os.environ["DECODE_ZOO_CACHE"]) / artifact.folder / "manifest.json"
    assert f"Or put the file at {place} by hand" in err
    assert "DECODE_ZOO_OFFLINE" in err
    assert files_in(place.parents[2]) == []
    assert not (tmp_path / "predicted.tsv").exists()


def test_online_the_forbidden_sockets_are_missed(tmp_path):
    """The tests above could fail."""
    said, err = without_sockets(["fetch gtex-tissue-v1"], tmp_path, bare=True, offline=False)
    assert said[0].startswith("exit 3")
    assert "socket." in said[1]
    assert "a socket was opened" in err


@pytest.mark.fault
@pytest.mark.usefixtures("toy_zoo")
def test_offline_the_system_sees_no_socket_either(tmp_path):
    """Libraries in C would not tell Python."""
    trace = tmp_path / "trace"
    tracer = ["strace", "-o", trace, "true"]
    if not shutil.which("strace") or subprocess.run(tracer, capture_output=True).returncode:
        pytest.skip("no strace here, or it is not allowed")
    (tmp_path / "genes.tsv").write_text("TP53\n")
    lines = ["predict --model toy-decode-v1 genes.tsv -o predicted.tsv"]
    assert without_sockets(lines, tmp_path, trace=str(trace))[0][0].startswith("exit 0")
    assert "AF_INET" not in trace.read_text()


# --- bytes that change under way -------------------------------------------------------


@pytest.mark.fault
def test_mirror_that_changes_between_two_files_mixes_nothing(cache, server):
    store = Store(REGISTRY, None, cache, (f"{server.url}/good",))
    store.locate("tissue", "manifest.json")
    server.files = {name: data[::-1] for name, data in CONTENT.items()}
    with pytest.raises(Exception, match="expected sha256"):
        store.fetch("tissue")
    server.files = CONTENT
    for path in replace(store).fetch("tissue"):
        assert hash_file(path) == REGISTRY.artifacts["tissue-v1"].files[path.name]
