"""``decode-zoo doctor``: what it finds, what it says, and that nothing breaks it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from decode_zoo.cli import doctor
from decode_zoo.cli.doctor import Check, examine, exit_code
from decode_zoo.core.errors import DeviceError, VerificationError
from decode_zoo.zoo.registry import load_registry, write_registry
from decode_zoo.zoo.store import Store
from tests.server import Server
from tests.test_cache import CONTENT, HALF, REGISTRY, ROOT, WEIGHTS, lay_out, places

pytestmark = pytest.mark.fault
NAMES = [
    *("decode-zoo", "python", "packages", "onnxruntime", "threads", "environment", "registry"),
    *("cache", "free space", "mirrors", "bundled files", "cached files", "stale files"),
    *("parity numpy", "parity onnxruntime-cpu", "device"),
]


def only(checks: Iterable[Check]) -> Check:
    (check,) = checks
    return check


def says(
    checks: Iterable[Check],
    state: str,
    found: str = "",
    remedy: str = "",
    *,
    code: int = 0,
    name="",
) -> Check:
    """Return the only check, or that of a name; it must be and say this."""
    check = only(check for check in checks if not name or check.name == name)
    assert (check.state, check.code) == (state, code)
    assert found in check.found
    assert remedy in str(check.remedy)
    return check


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A zoo whose files are all bundled."""
    bundled = lay_out(tmp_path / "bundled", CONTENT)
    return Store(replace(REGISTRY, mirrors=()), bundled, tmp_path / "cache")


@pytest.fixture
def checks(monkeypatch) -> Callable[..., None]:
    """Let the doctor find these."""

    def use(*found: Check) -> None:
        monkeypatch.setattr(doctor, "examine", lambda: list(found))

    return use


# --- the whole ---------------------------------------------------------------------


@pytest.fixture
def builtin(monkeypatch, toy, tmp_path) -> Store:
    """The toy zoo, with a default model, stands in for the one that comes with the package."""
    zoo = replace(load_registry(toy / "registry.yaml"), default_model="toy-decode-v1")
    write_registry(zoo, tmp_path / "registry.yaml")
    monkeypatch.setattr(
        "decode_zoo.zoo.store.builtin_registry_path", lambda: tmp_path / "registry.yaml"
    )
    monkeypatch.setattr("decode_zoo.zoo.store.bundled_root", lambda: toy)
    return Store.default()


def test_a_healthy_installation_is_one_object_of_json_and_untouched(call, builtin):
    code, out, _ = call("doctor", "--json")
    document = json.loads(out)
    keys = ["format_version", "decode_zoo", "healthy", "exit_code", "summary", "checks"]
    assert list(document) == keys
    assert (code, document["exit_code"], document["healthy"]) == (0, 0, True)
    found = {check["name"]: check for check in document["checks"]}
    assert [name for name in found if name in NAMES] == NAMES
    for check in found.values():
        assert list(check) == ["name", "state", "found", "remedy", "code", "facts"]
        assert check["state"] in ("ok", "warning")
        assert check["code"] == 0
    assert found["parity numpy"]["facts"]["largest_difference"] < 1e-5
    assert not builtin.cache.exists() or places(builtin.cache) == []


HIDE = """
import importlib.metadata, importlib.util, pathlib, sys
from importlib.abc import MetaPathFinder

hidden, places = {hidden!r}, {places!r}

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

find, version = importlib.util.find_spec, importlib.metadata.version
def absent(name):
    if name in hidden:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

importlib.util.find_spec = lambda name, package=None: None if name in hidden else find(name)
importlib.metadata.version = absent
sys.meta_path.insert(0, Hidden())
from decode_zoo.cli import main
try:
    from decode_zoo.zoo import store
    store.builtin_registry_path, store.bundled_root = (lambda p=pathlib.Path(p): p for p in places)
except ModuleNotFoundError:
    pass
sys.argv = ["decode-zoo", "doctor", "--json"]
main()
"""
EXTRAS = ("onnxruntime", "tensorflow", "pyarrow", "anndata", "shap", "matplotlib", "jinja2")


@pytest.mark.parametrize("hidden", [EXTRAS, ("numpy",), ("pooch",)])
def test_a_missing_package_is_a_finding_and_a_missing_extra_none(builtin, tmp_path, toy, hidden):
    # Without this one, the place of the cache is asked of pooch.
    environment = {name: value for name, value in os.environ.items() if name != "DECODE_ZOO_CACHE"}
    code = HIDE.format(hidden=hidden, places=(str(tmp_path / "registry.yaml"), str(toy)))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    if hidden == EXTRAS:
        assert done.returncode == 0
        assert "the NumPy back end answers" in found["onnxruntime"]["found"]
        assert found["parity numpy"]["state"] == "ok"
        assert not any(name.startswith("parity onnxruntime") for name in found)
    else:
        assert done.returncode in (1, 2)  # 2 where ONNX Runtime, too, lacks it
        assert any(hidden[0] in check["found"] for check in found.values() if check["code"])


def test_check_that_breaks_is_a_problem_and_the_others_go_on(store, monkeypatch):
    def fail(*args: object) -> Iterable[Check]:
        yield Check("threads", "ok", "begun")
        raise ZeroDivisionError("oh\nno")

    fail.__name__ = "_threads"
    monkeypatch.setattr(doctor, "_threads", fail)
    monkeypatch.setattr(doctor, "_free_space", fail)
    found = examine(store)
    broke = [check for check in found if "this check broke" in check.found]
    assert len(broke) == 2
    assert broke[0].found.endswith("ZeroDivisionError: oh no")
    assert broke[0].code == 1
    says(found, "ok", name="bundled files")


# --- what it says ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "code"),
    [((), 0), ((1,), 1), ((2, 1), 2), ((4, 2), 4), ((3, 4), 3), ((3, 6), 6), ((6, 5, 3), 5)],
)
def test_exit_code_is_that_of_the_worst_problem(call, checks, codes, code):
    bad = (Check("bad", "problem", "x", "y", c) for c in codes)
    checks(Check("fine", "ok", "x", "only advice"), Check("hm", "warning", "x", "do this"), *bad)
    found, out, err = call("doctor")
    assert found == code
    assert ("Healthy; 1 warning (hm)." in out) == (code == 0)
    assert ("Not healthy: " in err) == (code != 0)
    assert "-> do this" in out
    assert "advice" not in out
    found, out, err = call("doctor", "--json")
    document = json.loads(out)
    assert (found, document["exit_code"], document["healthy"]) == (code, code, code == 0)
    assert ("Not healthy: " in err) == (code != 0)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://user:secret@zoo.example/a", "https://***@zoo.example/a"),
        ("https://secret@zoo.example", "https://***@zoo.example"),
        ("https://user:sec/ret@zoo.example", "https://***@zoo.example"),
        ("https://user:sec@secret@zoo.example", "https://***@zoo.example"),
        ("404 for url: https://u:secret@h/a?token=secret (x)", "404 for url: https://***@h/a?*** "),
        ("https://h/a#secret", "https://h/a?***"),
        ("/a/SPI1@GM12878 of 3", "/a/SPI1@GM12878 of 3"),
    ],
)
def test_no_secret_of_a_url_is_printed(text, kept):
    for check in (
        Check(text, "warning", text, text, facts={"deep": {"x": [text]}}),
        doctor._broken("a", ValueError(text)),
    ):
        printed = json.dumps(check.as_json())
        assert "secret" not in printed
        assert kept in printed
    assert Check("a", "ok", "a\x1b[2Jb\udce4\nc").found == "a\\x1b[2Jb\\udce4\nc"


# --- installation ------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch) -> Callable[..., None]:
    """Pretend that these packages are installed, and that decode-zoo needs those."""

    def use(needs: list[str] | None, **packages: str) -> None:
        def version(name: str) -> str:
            if name.replace("-", "_") not in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return packages[name.replace("-", "_")]

        metadata = SimpleNamespace(get_all=lambda key: ["cpu", "train", "dev"])
        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.metadata, "requires", lambda name: version(name) and needs)
        monkeypatch.setattr(importlib.metadata, "metadata", lambda name: metadata)

    return use


NEEDS = [
    "numpy>=1.26",
    "pooch>=1.8",
    'onnxruntime>=1.17; extra == "cpu"',
    'tensorflow>=2.16; extra == "train"',
    'tf2onnx>=1.16; extra == "train"',
    'pytest; extra == "dev"',
]


def test_packages_that_lack_or_are_too_old_are_told(installed):
    installed(NEEDS, decode_zoo="0.1.0", numpy="2.1.0", pooch="1.8", tf2onnx="1.17")
    found = list(doctor._packages())
    assert [check.name for check in found] == ["packages", "extra cpu", "extra train"]
    says(found, "ok", "numpy 2.1.0, pooch 1.8", name="packages")
    missing = "tf2onnx 1.17; not installed: tensorflow"
    says(found, "ok", missing, "'decode-zoo[train]'", name="extra train")
    installed(NEEDS, decode_zoo="0.1.0", numpy="1.24.0", onnxruntime="1.9")
    found = list(doctor._packages())
    wrong = "not installed: pooch; not of the version needed: numpy>=1.26"
    update = "pip install -U 'pooch>=1.8' 'numpy>=1.26'"
    says(found, "problem", wrong, update, code=2, name="packages")
    says(found, "warning", name="extra cpu")
    installed(None, numpy="2.1.0")
    says(doctor._packages(), "warning", "was not installed", "pip install -e .")


def test_runtimes_that_overwrite_each_other_are_a_problem(installed, monkeypatch):
    installed(NEEDS, onnxruntime="1.20.0", onnxruntime_gpu="1.20.0")
    remedy = "pip uninstall -y onnxruntime onnxruntime-gpu; pip install"
    says(doctor._onnxruntime(), "problem", "overwrite each other", remedy, code=2)
    installed(NEEDS, onnxruntime_gpu="1.20.0")
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))  # an empty shell
    says(doctor._onnxruntime(), "problem", "cannot be used", code=2)


# --- machine -----------------------------------------------------------------------


@pytest.fixture
def quiet(monkeypatch) -> None:
    """Let no variable be set that the doctor lists."""
    for name in list(os.environ):
        if re.search("XDG|ZOO|PROXY|THREADS|CUDA|BUNDLE", name.upper()):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("quiet")
def test_threads_that_will_wait_for_each_other_are_told(monkeypatch, tmp_path):
    limit = tmp_path / "cpu.max"
    assert doctor._quota(limit) is None
    for text, quota in (("max 100000\n", None), ("150000 100000\n", 1.5)):
        limit.write_text(text)
        assert doctor._quota(limit) == quota
    monkeypatch.setattr("decode_zoo.core.system.allowed_cores", lambda: 4)
    monkeypatch.setattr(doctor, "_quota", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert says(doctor._threads(), "ok").facts["variables"] == {"OMP_NUM_THREADS": "4"}
    monkeypatch.setattr(doctor, "_quota", lambda: 2.0)
    says(doctor._threads(), "warning", "cgroup quota 2", "taskset -c 0-1 ")


@pytest.mark.usefixtures("quiet")
def test_variables_in_force_are_listed_without_secrets(monkeypatch):
    says(doctor._environment(), "ok", "no variable is set")
    monkeypatch.setenv("DECODE_ZOO_CACHE", "/scratch/zoo")
    monkeypatch.setenv("DECODE_ZOO_OFFLINE", "")
    assert says(doctor._environment(), "ok").found == "DECODE_ZOO_CACHE=/scratch/zoo"
    for scheme in ("", "http://", "http://user:se@"):
        monkeypatch.setenv("https_proxy", f"{scheme}user:secret@proxy:3128")
        check = says(doctor._environment(), "ok", "***@proxy:3128")
        assert "secret" not in json.dumps(check.as_json())
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    says(doctor._environment(), "warning", "TF32 changes predictions")
    monkeypatch.setenv("DECODE_ZOO_CASH", "secret")
    check = says(doctor._environment(), "warning", "DECODE_ZOO_CASH")
    assert "secret" not in json.dumps(check.as_json())


# --- storage -----------------------------------------------------------------------


def test_cache_is_described_wherever_it_is(store, monkeypatch):
    assert not says(doctor._cache(store), "ok", "made when it is first needed").facts["exists"]
    store.cache.mkdir()
    facts = says(doctor._cache(replace(store, offline=True)), "ok", "writable").facts
    # Offline, nobody is asked for its owner's name.
    assert (facts["writable"], facts["owner"]) == (True, f"user {os.stat(store.cache).st_uid}")
    store.cache.rmdir()
    for make in (lambda: store.cache.symlink_to("nothing"), lambda: store.cache.write_bytes(b"")):
        make()
        says(doctor._cache(store), "problem", "cannot be made", "DECODE_ZOO_CACHE", code=3)
        store.cache.unlink()
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: not mode & os.W_OK)
    says(doctor._cache(store), "ok", "only read")
    lacking = "not every file that predictions need is here"
    says(doctor._cache(replace(store, bundled=None)), "warning", lacking)
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    says(doctor._cache(store), "problem", code=3)
    monkeypatch.setenv("DECODE_ZOO_CACHE", "~nosuch/x")
    homeless = replace(store, cache=None)
    says(doctor._cache(homeless), "warning", "DECODE_ZOO_CACHE=~nosuch/x")
    assert list(doctor._free_space(homeless)) == list(doctor._cached_files(homeless)) == []


def test_too_little_space_is_told(store, monkeypatch):
    says(doctor._free_space(store), "ok")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    facts = says(doctor._free_space(replace(store, bundled=None)), "warning").facts
    assert facts == {"free": 10_000, "wanted": sum(map(len, CONTENT.values()))}


@pytest.mark.parametrize(
    ("how", "code", "said", "bundled", "cached"),
    [
        ("damaged", 5, "damaged: tissue-v1/weights.npz", "force-reinstall", "cache clean"),
        ("closed", 3, "cannot be read", "chmod a+r '{}'", "chmod a+r '{}'"),
        ("folder", 3, "a folder where", "Remove the folder {}.", "Remove the folder {}."),
    ],
)
def test_a_file_that_cannot_be_used_is_found_and_left(
    store, monkeypatch, how, code, said, bundled, cached
):
    lay_out(store.cache, CONTENT)
    assert only(doctor._bundled_files(store)).facts["verified"] == len(CONTENT)
    for root, remedy, check_of in (
        (store.bundled, bundled, doctor._bundled_files),
        (store.cache, cached, doctor._cached_files),
    ):
        path = root / WEIGHTS
        if how == "damaged":
            path.write_bytes(b"!")
        elif how == "closed":
            monkeypatch.setattr(os, "access", lambda asked, mode: not str(asked).endswith("ts.npz"))
        else:
            path.unlink()
            path.mkdir()
        name = f"{'cached' if root == store.cache else 'bundled'} files"
        says(check_of(store), "problem", said, remedy.format(path), code=code, name=name)
        assert path.is_dir() or (path.read_bytes() == b"!") == (how == "damaged")


def test_remedies_offline_do_not_tell_to_fetch(store):
    offline = replace(store, bundled=None, offline=True)
    lay_out(store.cache, {WEIGHTS: b"!"})
    found = [*doctor._bundled_files(offline), *doctor._cached_files(offline)]
    (store.cache / WEIGHTS).unlink()
    found += doctor._known_answers(offline)
    remedies = [str(check.remedy) for check in found if check.state != "ok"]
    assert len(remedies) == 3
    for remedy in remedies:
        assert "decode-zoo cache import DIR" in remedy
        assert "fetch" not in remedy


def test_card_and_positions_are_not_missed_by_predictions(store, call, monkeypatch):
    """What `predict` never fetches is no reason to warn that something lacks."""
    model = store.registry.artifacts["tissue-v1"]
    files = {**model.files, "CARD.md": model.files["manifest.json"]}
    artifacts = {**store.registry.artifacts, "tissue-v1": replace(model, files=files)}
    registry = replace(store.registry, artifacts=artifacts)
    lay_out(store.cache, {p: data for p, data in CONTENT.items() if not p.endswith("sites.npz")})
    used = replace(store, registry=registry, bundled=None, mirrors=(str(store.cache / "none"),))
    assert only(doctor._mirrors(used)).state == "warning"
    check = only(doctor._registry(used))
    assert check.facts["not_here"] == ["features/sites-v1/sites.npz", "models/tissue-v1/CARD.md"]
    assert "enough to predict" in check.found
    monkeypatch.setattr(Store, "default", classmethod(lambda cls: used))
    rows = [line.split("\t") for line in call("ls")[1].splitlines()[1:]]
    assert {row[3] for row in rows} == {"enough to predict"}
    (store.cache / WEIGHTS).unlink()
    assert only(doctor._mirrors(used)).state == "problem"
    assert "tissue-v1\tmodel\t0.0 MB\tpartly here" in call("ls")[1]


def test_stale_files_are_found_and_left(store):
    old = {"models/old-v1/manifest.json": b'{"format_version": 1}'}
    lay_out(store.cache, {**old, HALF: b"half", "models/tissue-v1/notes.txt": b"mine"})
    long_ago = time.time() - 3 * 86_400
    os.utime(store.cache / HALF, (long_ago, long_ago))
    before = places(store.cache)
    remedy = "decode-zoo cache clean. Name their zoo in DECODE_ZOO_REGISTRY, or: "
    remedy += "decode-zoo cache clean old-v1"
    said = "1 unfinished downloads, 1 files of artifacts"
    check = says(doctor._cached_files(store), "warning", said, remedy, name="stale files")
    assert "1 things that decode-zoo did not make" in check.found
    assert len(check.facts["files"]) == 2
    assert places(store.cache) == before


# --- mirrors -----------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(doctor, "_PATIENCE", 0.7)
    with Server({place.rsplit("/", 1)[1]: data for place, data in CONTENT.items()}) as server:
        yield server


def test_mirrors_that_give_a_verified_file_are_well(store, server, tmp_path):
    folder = lay_out(tmp_path / "mirror", CONTENT)
    online = replace(store, mirrors=(f"{server.url}/good", str(folder), folder.as_uri()))
    assert [check.state for check in doctor._mirrors(online)] == ["ok"] * 3
    assert not store.cache.exists()
    assert [request.target for request in server.requests] == [
        "/good/features/sites-v1/features.json"  # the smallest, and nothing else
    ]


FAILURES = {
    "missing": "404",
    "flipped": "expected sha256",
    "page": "web page",
    "stalled": "no answer, or not all",
}


@pytest.mark.parametrize("how", FAILURES)
def test_mirror_that_fails_is_told_in_time(store, server, how):
    bad = replace(store, mirrors=(f"{server.url}/{how}",))
    started = time.monotonic()
    says(doctor._mirrors(bad), "warning", FAILURES[how])  # every file is here
    assert time.monotonic() - started < 5
    code = 5 if how in ("flipped", "page") else 3
    says(doctor._mirrors(replace(bad, bundled=None)), "problem", FAILURES[how], code=code)


def test_one_mirror_that_answers_is_enough_and_offline_only_folders_are_asked(
    store, server, tmp_path, monkeypatch
):
    folder = str(lay_out(tmp_path / "mirror", CONTENT))
    mirrors = (f"{server.url}/missing", folder, str(tmp_path / "none"), "ftp://zoo.example")
    asking = replace(store, bundled=None, mirrors=mirrors)
    found = list(doctor._mirrors(asking))
    assert [check.state for check in found] == ["warning", "ok", "warning", "warning"]
    assert [check.facts["answer"] for check in found] == ["fails", "has", "fails", "fails"]
    monkeypatch.setattr(socket, "socket", None)
    mirrors = ("HTTPS://zoo.example", folder)
    found = list(doctor._mirrors(replace(asking, offline=True, mirrors=mirrors)))
    assert [check.facts["answer"] for check in found] == ["skipped", "has"]
    assert "not tried: DECODE_ZOO_OFFLINE" in found[0].found


# --- registries from the web -------------------------------------------------------


def test_copy_of_a_registry_that_cannot_be_refreshed_is_told(call, monkeypatch, tmp_path):
    write_registry(replace(REGISTRY, mirrors=(), default_model=None), tmp_path / "registry.yaml")
    with Server({"registry.yaml": (tmp_path / "registry.yaml").read_bytes()}) as server:
        place = f"{server.url}/good/registry.yaml"
        monkeypatch.setenv("DECODE_ZOO_REGISTRY", place)
        says(doctor._registry(Store.default()), "ok", name=f"registry {place}")
    cache = Path(os.environ["DECODE_ZOO_CACHE"])
    (copy,) = (path for path in (cache / "registries").rglob("*") if path.is_file())
    os.utime(copy, (1, 1))
    date = time.strftime("%Y-%m-%d", time.gmtime())
    command = [sys.executable, "-m", "decode_zoo", "ls"]  # each process says it once
    for reason in ("could not be refreshed (Could not fetch", "could not be refreshed lately"):
        err = subprocess.run(command, capture_output=True, text=True).stderr
        assert err.startswith(f"The registry {place} {reason}")
        assert f"its last good copy, of {date}" in err
    name = f"registry {place}"
    says(doctor._registry(Store.default()), "warning", f"the copy of {date}", name=name)
    monkeypatch.setenv("DECODE_ZOO_OFFLINE", "1")
    says(doctor._registry(Store.default()), "ok", f"copy of {date}", name=name)


@pytest.mark.parametrize("place", ["missing", "a file that is gone"])
def test_registry_that_cannot_be_had_is_told_with_the_way_on(call, monkeypatch, tmp_path, place):
    with Server({"registry.yaml": b"?"}) as server:
        lost = " " in place
        named = str(tmp_path / "gone.yaml") if lost else f"{server.url}/{place}/registry.yaml"
        monkeypatch.setenv("DECODE_ZOO_REGISTRY", named)
        way, code = "unset DECODE_ZOO_REGISTRY", 4 if lost else 3
        found, out, err = call("ls")
        assert (found, out) == (code, "")
        assert f"{named}: {'there is no such registry' if lost else ''}" in err
        assert f"{way} to go on with the built-in zoo" in err
        says(examine(), "problem", "", way, code=code, name="registry")


# --- known answers -----------------------------------------------------------------


class Bundle:
    """Stands in for a model whose back ends do what a test wants."""

    id = "tissue-v1"
    features = None
    manifest = type("M", (), {"known_answers": type("K", (), {"genes": ["a"], "outputs": ["b"]})})

    def __init__(self, **behaviour: Exception | float) -> None:
        self.behaviour = behaviour

    def backend(self, backend: str, device: str) -> SimpleNamespace:
        key = "numpy" if backend == "numpy" else device
        if isinstance(self.behaviour[key], DeviceError):
            raise self.behaviour[key]
        return SimpleNamespace(name=key, providers=tuple(CUDA if key == "cuda" else CPU))

    def check_known_answers(self, backend: SimpleNamespace) -> float:
        done = self.behaviour[backend.name]
        if isinstance(done, Exception):
            raise done
        return done


@pytest.fixture
def bundle(store, monkeypatch) -> Callable[..., list[Check]]:
    """Examine a model whose back ends do this, with these providers on offer."""

    def examine(providers: list[str], **behaviour: Exception | float) -> list[Check]:
        runtime = SimpleNamespace(get_available_providers=lambda: providers)
        monkeypatch.setattr("decode_zoo.zoo.model.Model.open", lambda *args: Bundle(**behaviour))
        monkeypatch.setattr("decode_zoo.networks.backends.import_onnxruntime", lambda: runtime)
        return list(doctor._known_answers(store))

    return examine


CPU, CUDA = ["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_each_back_end_is_compared_and_the_device_told(bundle):
    found = bundle(CPU, numpy=0.0, cpu=2e-6)
    assert [check.name for check in found] == ["parity numpy", "parity onnxruntime-cpu", "device"]
    assert found[1].facts["largest_difference"] == 2e-6
    assert found[2].facts == {"offered": CPU, "asked": "cpu", "used": "cpu", "providers": CPU}
    found = bundle(CUDA, numpy=0.0, cpu=2e-6, cuda=3e-6)
    assert [check.name for check in found][2:] == ["device", "parity onnxruntime-cuda"]
    assert (found[2].facts["used"], found[2].facts["providers"]) == ("cuda", CUDA)
    assert exit_code(found) == 0


@pytest.mark.parametrize("wrong", ["numpy", "cpu", "cuda"])
@pytest.mark.parametrize(
    ("error", "code", "said", "remedy"),
    [
        (VerificationError("off by 0.3", remedy="Fetch it."), 5, "off by 0.3", "Fetch it."),
        (RuntimeError("no kernel"), 1, "this check broke: RuntimeError: no kernel", ""),
    ],
)
def test_back_end_that_is_wrong_or_breaks_is_the_only_problem(
    bundle, wrong, error, code, said, remedy
):
    found = bundle(CUDA, **{"numpy": 0.0, "cpu": 0.0, "cuda": 0.0, wrong: error})
    bad = [check for check in found if check.state == "problem"]
    assert says(bad, "problem", said, remedy, code=code).name.endswith(wrong)
    assert exit_code(found) == code
    assert len(found) == 4  # the others go on


@pytest.mark.parametrize(("driver", "state", "code"), [(True, "problem", 6), (False, "warning", 0)])
def test_cuda_that_cannot_be_used_is_told(bundle, monkeypatch, tmp_path, driver, state, code):
    monkeypatch.setattr(doctor, "_DRIVER", (str(tmp_path if driver else tmp_path / "none"),))
    found = bundle(CUDA, numpy=0.0, cpu=0.0, cuda=DeviceError("libcudnn.so.9 is missing"))
    said = "asked for cuda, used cpu: libcudnn.so.9 is missing"
    assert says(found, state, said, code=code, name="device").facts["used"] == "cpu"
    assert exit_code(found) == code


def test_what_onnxruntime_writes_past_python_is_the_reason_and_nothing_else(
    bundle, monkeypatch, capfd
):
    """A GPU package without a GPU: coloured lines, from C++."""

    def fail(model: object, device: str) -> dict[str, object]:
        if device == "cuda":
            os.write(2, b"\x1b[1;31m[E:x] FAIL : Failed to load library a.so: no b.so\x1b[m\n")
            raise DeviceError("no device")
        return {"used": "cpu", "providers": CPU}

    monkeypatch.setattr(doctor, "_used", fail)
    said = "asked for cuda, used cpu: Failed to load library a.so: no b.so"
    says(bundle(CUDA, numpy=0.0, cpu=0.0), "warning", said, name="device")
    os.write(2, b"after")
    assert capfd.readouterr() == ("", "after")


def test_default_model_that_is_not_here_is_a_problem_and_not_fetched(store, tmp_path):
    folder = lay_out(tmp_path / "mirror", CONTENT)
    empty = replace(store, bundled=None, mirrors=(str(folder),))
    way = "decode-zoo fetch tissue-v1 sites-v1"
    says(doctor._known_answers(empty), "problem", "", way, code=3)
    assert not store.cache.exists()
    none = replace(empty, registry=replace(empty.registry, default_model=None))
    says(doctor._known_answers(none), "ok", "no default model")


def test_damaged_default_model_is_a_problem_and_left(call, builtin, monkeypatch, tmp_path, toy):
    """A copy in a cache, so that the store could delete it."""
    shutil.copytree(toy, tmp_path / "copy")
    path = tmp_path / "copy/models/toy-decode-v1/model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr("decode_zoo.zoo.store.bundled_root", lambda: None)
    monkeypatch.setenv("DECODE_ZOO_CACHE", str(tmp_path / "copy"))
    code, out, err = call("doctor")
    assert code == 5
    assert re.search("problem +cached files", out)
    assert "Not healthy" in err
    assert path.read_bytes() == data
