"""The store among processes: many at once, killed ones, other users' files, and no network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from decode_zoo.zoo.download import leftovers
from decode_zoo.zoo.registry import write_registry
from decode_zoo.zoo.store import Store
from tests.server import Server
from tests.test_store import CONTENT, DATA, FOLDER, NAME, REGISTRY, WRONG, files_in, lay_out

ROOT = Path(__file__).resolve().parents[1]

# The command line on a zoo of the test's own. File locks fail unless LOCKS is set, for nothing may
# depend on them.
PROGRAM = """
import errno, fcntl, os, sys
from pathlib import Path

def no_locks(*args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

if "LOCKS" not in os.environ:
    fcntl.flock = fcntl.lockf = no_locks

from decode_zoo.zoo import download
from decode_zoo.cli import main
from decode_zoo.zoo.registry import load_registry
from decode_zoo.zoo.store import Store

download._BLOCK = 512
# So small a file would stay in a buffer until it is whole; here it grows as large ones do.
download.open = lambda *args, **named: open(*args, **{"buffering": 512, **named})
_, registry, cache, mirror, gate = sys.argv
store = Store(load_registry(registry), None, Path(cache), tuple(mirror.split()))
Store.default = classmethod(lambda cls: store)
if gate:
    import pooch, requests
    print("ready", flush=True)
    sys.stdin.read()
sys.argv = ["decode-zoo", "fetch", "tissue"]
main()
"""


@pytest.fixture
def server():
    with Server(CONTENT) as server:
        yield server


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def start(tmp_path, cache):
    """Start to fetch the files in a process of its own."""
    write_registry(REGISTRY, tmp_path / "registry.yaml")
    processes: list[subprocess.Popen[str]] = []

    def start(mirror="", *, gate=False, mortal=False):
        # To root all files are open; a process without these capabilities is as others are.
        bounds = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if not mortal or os.geteuid() != 0:
            bounds = []
        elif shutil.which("setpriv") is None:
            pytest.skip("root may do anything, and there is no setpriv")
        arguments = [tmp_path / "registry.yaml", cache, mirror, "gate" * gate]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(
            [*bounds, sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, text=True, **pipes
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


@pytest.mark.fault
@pytest.mark.parametrize("locks", [False, True])
def test_processes_at_once_give_one_good_file(start, server, cache, monkeypatch, locks):
    """With locks one fetches for all; without, each for itself, and no one harms another."""
    if locks:
        monkeypatch.setenv("LOCKS", "1")
    lay_out(cache, WRONG)  # damaged, and replaced
    processes = [start(f"{server.url}/slow-but-steady", gate=True) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.close()
        process.stdin = None
    paths = "".join(f"{cache / FOLDER / name}\n" for name in CONTENT)
    assert [ended(process) for process in processes] == [(0, paths, "")] * 3
    assert files_in(cache) == sorted(CONTENT)
    for name, data in CONTENT.items():
        assert (cache / FOLDER / name).read_bytes() == data
    assert len(server.requests) == 2 if locks else len(server.requests) > 3


@pytest.mark.fault
def test_killed_download_leaves_the_cache_intact_and_is_tidied_up(start, server, cache):
    lay_out(cache, {"manifest.json": CONTENT["manifest.json"]})
    process = start(f"{server.url}/slow-but-steady")
    wait_for(lambda: any(path.stat().st_size > 512 for path in cache.rglob("*.part")))
    process.kill()
    process.wait()
    left = sorted(cache.rglob("*.part"))
    assert len(left) == 2  # its lock, and what had arrived
    assert files_in(cache) == sorted(["manifest.json", *(path.name for path in left)])
    assert leftovers(cache) == []  # for all we know it is at work
    for path in left:
        os.utime(path, (1, 1))
    assert leftovers(cache) == left
    assert ended(start(f"{server.url}/good"))[0] == 0
    assert files_in(cache) == sorted(CONTENT)
    assert (cache / FOLDER / NAME).read_bytes() == DATA


@pytest.mark.fault
@pytest.mark.parametrize("how", ["slow-but-steady", "stalled"])
def test_interrupted_download_leaves_nothing(start, server, cache, how):
    process = start(f"{server.url}/{how}")
    wait_for(lambda: any(cache.rglob("*.part")) and server.requests != [])
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert (code, out, err.strip()) == (130, "", "Interrupted.")
    assert set(files_in(cache)) <= {"manifest.json"}


# --- caches of others ----------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize(
    ("here", "code"),
    [(CONTENT, 0), ({}, 3), ({**CONTENT, NAME: DATA[::-1]}, 5)],
    ids=["all", "nothing", "a damaged file"],
)
def test_read_only_cache_is_used_and_what_it_lacks_is_told(start, server, cache, here, code):
    lay_out(cache, here)
    places = [cache, *cache.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = files_in(cache)
    found, out, err = ended(start(f"{server.url}/good", mortal=True))
    assert found == code
    if code == 0:
        assert (out, err) == ("".join(f"{cache / FOLDER / name}\n" for name in CONTENT), "")
    else:
        assert out == ""
        assert f"The cache cannot be written: {cache / FOLDER}" in err
        assert "Permission denied" in err
        assert "in DECODE_ZOO_CACHE" in err
    assert server.requests == []
    assert files_in(cache) == before
    for path in places:
        path.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("shared", [True, False])
def test_shared_cache_stays_open_to_its_group_and_a_private_one_private(cache, tmp_path, shared):
    mirror = lay_out(tmp_path / "mirror", CONTENT)
    if shared:
        cache.mkdir()
        cache.chmod(0o2775)
    mask = os.umask(0o077)
    try:
        path = Store(REGISTRY, None, cache, (str(mirror),)).locate("tissue", NAME)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == (0o640 if shared else 0o600)
    for folder in (path.parent, path.parent.parent):
        assert folder.stat().st_mode & 0o2077 == (0o2070 if shared else 0)


# --- no network ----------------------------------------------------------------------------

# Each verb in turn; whatever a library does with sockets is noted, and fails.
OFFLINE = """
import sys

opened = []

def forbid(event, args):
    if event.startswith("socket."):
        opened.append(event)
        raise RuntimeError(f"a socket was opened: {event}")

sys.addaudithook(forbid)

import decode_zoo.zoo.store
from decode_zoo.cli import main

if sys.argv[1] == "bare":
    decode_zoo.zoo.store.bundled_root = lambda: None
for line in sys.stdin.read().splitlines():
    sys.argv = ["decode-zoo", *line.split()]
    try:
        main()
    except SystemExit as stop:
        print("exit", stop.code, *sys.argv[1:3], flush=True)
print("sockets", opened)
"""


def without_sockets(lines, cwd, *, bare=False, offline=True, tracer=()):
    """Run verbs where sockets are forbidden: what is said about their ends, and about errors."""
    environment = {"DECODE_ZOO_MIRRORS": "https://zoo.example/a", "PYTHONPATH": str(ROOT)}
    environment |= {"DECODE_ZOO_OFFLINE": "1"} if offline else {}
    done = subprocess.run(
        [*tracer, sys.executable, "-c", OFFLINE, "bare" if bare else "whole"],
        cwd=cwd,
        env=os.environ | environment,
        input="\n".join(lines),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    said = [x for x in done.stdout.splitlines() if x.startswith(("exit", "sockets"))]
    return said, done.stderr


# Each verb, and how it ends.
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
    # Libraries in C would not tell Python: where it is allowed, the system is asked.
    trace = tmp_path / "trace"
    tracer = ["strace", "-f", "-qq", "-e", "trace=socket", "-o", str(trace)]
    if not shutil.which("strace") or subprocess.run([*tracer, "true"]).returncode:
        tracer = []
        trace.touch()
    said, err = without_sockets(list(VERBS), tmp_path, tracer=tracer)
    ends = [f"exit {code} {' '.join(line.split()[:2])}" for line, code in VERBS.items()]
    assert said == [*ends, "sockets []"], err
    assert (tmp_path / "predicted.tsv").exists()
    assert "AF_INET" not in trace.read_text()


@pytest.mark.fault
def test_offline_what_is_not_here_is_described_with_all_that_is_needed_to_bring_it(tmp_path):
    (tmp_path / "genes.tsv").write_text("TP53\n")
    lines = ["predict --model gtex-tissue-v1 genes.tsv -o predicted.tsv", "fetch hg38-open-v1"]
    said, err = without_sockets(lines, tmp_path, bare=True)
    assert said == ["exit 3 predict --model", "exit 3 fetch hg38-open-v1", "sockets []"]
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
