"""Is this installation healthy: versions, backends, threads, cache, mirrors, files.

Nothing is changed, and nothing fetched but what `Store.default` reads. A check that breaks is
reported as a problem of its own. What decode-zoo needs is imported inside the checks, so that a
package that is missing is a finding.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import decode_zoo
from decode_zoo.core.errors import ArtifactError, DecodeZooError, DeviceError
from decode_zoo.core.system import silence_stderr
from decode_zoo.core.text import masked, megabytes, printable

if TYPE_CHECKING:
    from decode_zoo.zoo.artifact import Artifact, FileEntry
    from decode_zoo.zoo.cache import CachedFile
    from decode_zoo.zoo.model import Model
    from decode_zoo.zoo.store import Store

__all__ = ["Check", "examine", "exit_code", "summary"]

# Worst first: wrong numbers, then what stops work, then what may.
_WORST = (5, 6, 3, 4, 2, 1)
# They all bring the module onnxruntime, and overwrite each other's files.
_RUNTIMES = tuple("onnxruntime" + end for end in ("", "-gpu", "-directml", "-openvino", "-rocm"))
_THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
_OWN = tuple("DECODE_ZOO_" + end for end in ("CACHE", "MIRRORS", "OFFLINE", "REGISTRY"))
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_OTHERS = (
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"),
    *("XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE"),
)
_PATIENCE = 4.0  # seconds for all mirrors together
_SPARE = 100_000_000  # bytes
_ELSEWHERE = "Name a folder of your own in DECODE_ZOO_CACHE."
_CUDA = "CUDAExecutionProvider"
_UNLOADED = re.compile(r"Failed to load library .*")
_DRIVER = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")

# What is wrong: exit code (0: only a warning), words that end the finding, remedy.
Fault = tuple[int, str, str]


@dataclass(frozen=True)
class Check:
    """What was looked at and found, with nothing secret in it."""

    name: str
    state: Literal["ok", "warning", "problem"]
    found: str  # for people; one line
    remedy: str | None = None  # if all is well, it is only advice
    code: int = 0  # exit code of a problem
    facts: Mapping[str, Any] = field(default_factory=dict)  # for programs, in terms of JSON

    def __post_init__(self) -> None:
        """Mask what is secret, whatever text it came in with."""
        for name in ("name", "found", "remedy", "facts"):
            object.__setattr__(self, name, _clean(getattr(self, name)))

    def as_json(self) -> dict[str, Any]:
        """Return it in terms that JSON has."""
        return asdict(self)


def examine(store: Store | None = None) -> list[Check]:
    """Run every check, on the store of this environment if none is given.

    Checks that need the registry are left out if it cannot be read, which then is a problem.
    """
    done: list[Check] = []

    def run(check: Callable[..., Iterable[Check]], *arguments: object) -> None:
        try:
            done.extend(check(*arguments))
        except Exception as error:
            done.append(_broken(check.__name__.strip("_").replace("_", " "), error))

    for check in (_versions, _packages, _onnxruntime, _threads, _environment):
        run(check)
    try:
        from decode_zoo.zoo.store import Store

        store = Store.default() if store is None else store
    except Exception as error:
        return [*done, _broken("registry", error)]
    for of_store in (_registry, _cache, _free_space, _mirrors, _bundled_files, _cached_files):
        run(of_store, store)
    run(_known_answers, store)
    return done


def exit_code(checks: Iterable[Check]) -> int:
    """Return 0 if there is no problem, else the code of the worst."""
    codes = {check.code for check in checks if check.state == "problem"}
    return min(codes, key=_WORST.index, default=0)


def summary(checks: Iterable[Check]) -> str:
    """Return in one line how healthy this is."""
    found = list(checks)
    parts = ["Healthy"] if exit_code(found) == 0 else []
    for state in ("problem", "warning"):
        if names := [check.name for check in found if check.state == state]:
            parts.append(f"{len(names)} {state}{'s' * (len(names) > 1)} ({', '.join(names)})")
    return f"{'' if parts[0] == 'Healthy' else 'Not healthy: '}{'; '.join(parts)}."


def _check(
    name: str,
    found: str,
    facts: Mapping[str, Any],
    faults: Sequence[Fault] = (),
    *,
    advice: str | None = None,
) -> Check:
    """Report the first of the faults, if there is any."""
    for code, wrong, remedy in faults:
        return Check(name, "problem" if code else "warning", found + wrong, remedy, code, facts)
    return Check(name, "ok", found, advice, facts=facts)


def _broken(name: str, error: Exception) -> Check:
    """Report a check that an error ended."""
    if isinstance(error, DecodeZooError):
        found, code, remedy = error.message, error.exit_code, error.remedy
    else:
        found, code = f"this check broke: {type(error).__name__}: {error}", 1
        remedy = "See what stands above it first; else it is a bug."
    return Check(name, "problem", " ".join(found.split()), remedy, code)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return "\n".join(map(printable, masked(value).split("\n")))
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


# -- what is installed, and what the machine allows ------------------------------------------------


def _versions() -> Iterator[Check]:
    version, folder = decode_zoo.__version__, str(Path(decode_zoo.__file__).parent)
    yield _check("decode-zoo", f"{version} in {folder}", {"version": version, "folder": folder})
    python, system = platform.python_version(), platform.platform()
    facts = {"version": python, "executable": sys.executable, "platform": system}
    yield _check("python", f"{python} ({sys.executable}) on {system}", facts)


def _packages() -> Iterator[Check]:
    """Compare the packages that are here with those that decode-zoo and its extras need."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(line) for line in importlib.metadata.requires("decode-zoo") or []]
        extras = importlib.metadata.metadata("decode-zoo").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        found = "decode-zoo runs from a folder and was not installed, so what it needs is not known"
        yield _check("packages", found, {}, [(0, "", "Install it from there: pip install -e .")])
        return
    base: Collection[str] = ()
    for extra in ("", *(extra for extra in extras if extra != "dev")):
        applies = (n for n in needed if n.marker is None or n.marker.evaluate({"extra": extra}))
        needs = {need.name: need for need in applies if need.name not in base}
        base = base or needs
        here = _installed(needs)
        missing = [name for name in needs if name not in here]
        spelt = {name: f"{name}{need.specifier}" for name, need in needs.items()}
        old = [n for n in here if not needs[n].specifier.contains(here[n], prereleases=True)]
        wrong_version = [spelt[name] for name in old]
        parts = [_listed(here)] if here else []
        parts += [f"not installed: {', '.join(missing)}"] if missing else []
        parts += [f"not of the version needed: {', '.join(wrong_version)}"] if old else []
        lacking = old if extra else missing + old
        remedy = "pip install -U " + " ".join(f"'{spelt[name]}'" for name in lacking)
        advice = f"If you need it: pip install 'decode-zoo[{extra}]'"
        yield _check(
            f"extra {extra}" if extra else "packages",
            "; ".join(parts) or "needs nothing here",
            {"here": here, "missing": missing, "wrong_version": wrong_version},
            [(0 if extra else 2, "", remedy)] if lacking else [],
            advice=advice if missing and extra != "gpu" else None,
        )


def _onnxruntime() -> Iterator[Check]:
    """Report which ONNX Runtime is installed; two at once overwrite each other's files."""
    name, here = "onnxruntime", _installed(_RUNTIMES)
    facts: dict[str, Any] = {"installed": here}
    fresh = "pip install 'decode-zoo[cpu]' (or 'decode-zoo[gpu]')"
    again = f"pip uninstall -y {' '.join(here) or name}; {fresh}"
    if len(here) > 1:
        fault = (2, ": they overwrite each other's files", f"Keep one: {again}")
        yield _check(name, _listed(here), facts, [fault])
    elif not here and importlib.util.find_spec(name) is None:
        found = "not installed: the NumPy back end answers, to the same digits"
        yield _check(name, found, facts, advice=f"For speed: {fresh}")
    else:
        try:
            # As `backends.import_onnxruntime`, which needs packages that may be missing.
            os.environ["ORT_DISABLE_TELEMETRY"] = "1"
            with silence_stderr():
                module = importlib.import_module(name)
                offered = [str(provider) for provider in module.get_available_providers()]
            found = f"{next(iter(here), name)} {module.__version__}, offers {', '.join(offered)}"
            yield _check(name, found, {**facts, "offered": offered})
        # What is left of a package that another one overwrote breaks in unforeseeable ways.
        except Exception as error:
            fault = (2, f" cannot be used: {error!r}", f"Install it again: {again}")
            yield _check(name, _listed(here) or "remains of it", facts, [fault])


def _installed(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _listed(here: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in here.items())


def _threads() -> Iterator[Check]:
    """Compare the cores that are used with those that the machine really gives."""
    from decode_zoo.core.system import allowed_cores

    used, there, quota = allowed_cores(), os.cpu_count(), _quota()
    names = (*(f"{name}_NUM_THREADS" for name in _THREADS), "SLURM_CPUS_PER_TASK")
    limits = {name: os.environ[name] for name in names if name in os.environ}
    found = f"{used} used of {there} cores"
    found += f", cgroup quota {quota:g}" if quota is not None else ", no cgroup quota"
    found += "".join(f", {name}={value}" for name, value in limits.items())
    faults = list[Fault]()
    if quota is not None and quota < used:
        cores = f"0-{max(int(quota), 1) - 1}"
        remedy = f"Use as many cores as the quota gives: taskset -c {cores} decode-zoo …"
        faults.append((0, ": threads will wait for each other", remedy))
    facts = {"used": used, "cores": there, "quota": quota, "variables": limits}
    yield _check("threads", found, facts, faults)


def _quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """Return the cores' worth of time that a container (cgroup v2) gives; None if no limit."""
    with suppress(OSError, ValueError):
        granted, period = file.read_text().split()
        return int(granted) / int(period)  # 'max' is no number
    return None


def _environment() -> Iterator[Check]:
    """List the variables that are in force, without their secrets."""
    names = (*_OWN, *_PROXIES, *map(str.lower, _PROXIES), *_OTHERS)
    values = {name: os.environ[name] for name in names if os.environ.get(name)}
    for name, value in values.items():
        if name.upper() in _PROXIES:  # a proxy's user and password need no scheme before them
            values[name] = re.sub(r"[^\s,/]+@", "***@", value)
    faults = list[Fault]()
    unknown = sorted(n for n in os.environ if n.startswith("DECODE_ZOO_") and n not in _OWN)
    if unknown:
        wrong = f"; unknown, so without effect: {', '.join(unknown)}"
        faults.append((0, wrong, f"decode-zoo knows {', '.join(_OWN)}."))
    if values.get("NVIDIA_TF32_OVERRIDE") == "1":
        wrong = "; TF32 changes predictions in the third digit"
        faults.append((0, wrong, "unset NVIDIA_TF32_OVERRIDE"))
    found = "; ".join(f"{name}={value}" for name, value in values.items()) or "no variable is set"
    yield _check("environment", found, {"variables": values, "unknown": unknown}, faults)


# -- registry, cache, mirrors, files ---------------------------------------------------------------


def _registry(store: Store) -> Iterator[Check]:
    """Report what the registry lists, how much is here, and of what there are only copies."""
    from decode_zoo.zoo.remote import kept_copy, registry_places

    artifacts, absent = store.registry.artifacts, _absent(store)
    number = sum(len(artifact.files) for artifact in artifacts.values())
    found = f"{len(artifacts)} artifacts, {number} files, {number - len(absent)} here"
    if absent and not _lacking(store):
        found += ": enough to predict with any model"
    yield _check("registry", found, {"artifacts": sorted(artifacts), "not_here": sorted(absent)})
    for place in registry_places():
        if kept := kept_copy(place, store.cache):
            name, facts = f"registry {place}", {"copy_of": kept.date, "stale": kept.stale}
            if kept.stale and not store.offline:
                found = f"could not be refreshed; the copy of {kept.date} is used"
                fault = (0, "", "Check network, proxy and DECODE_ZOO_REGISTRY.")
                yield _check(name, found, facts, [fault])
            else:
                yield _check(name, f"copy of {kept.date}", facts)


def _cache(store: Store) -> Iterator[Check]:
    """Look at the cache folder: whose it is, and who may write."""
    try:
        folder = store.cache_folder()
    except ArtifactError as error:
        yield Check("cache", "warning", error.message, error.remedy)
        return
    place = _nearest(folder)
    exists = place == folder
    facts: dict[str, Any] = {"folder": str(folder), "exists": exists}
    if not place.is_dir():
        fault = (3, f" cannot be made: {place} is no folder", _ELSEWHERE)
        yield _check("cache", str(folder), facts, [fault])
        return
    mode, owner = place.stat().st_mode, f"user {place.stat().st_uid}"
    if not store.offline:  # whoever knows the names (nscd, LDAP) may be asked through a socket
        with suppress(KeyError, NotImplementedError):  # only the file server knows; Windows
            owner = place.owner()
    writable = os.access(place, os.W_OK | os.X_OK)
    facts |= {"writable": writable, "owner": owner, "mode": stat.filemode(mode)}
    found = f"{folder}, " + (
        f"of {owner}, {stat.filemode(mode)}" if exists else "made when it is first needed"
    )
    faults = list[Fault]()
    if not os.access(place, os.R_OK | os.X_OK):
        faults.append((3, ", cannot be read", _ELSEWHERE))
    elif writable:
        found += ", writable"
    elif _lacking(store):
        wrong = ", cannot be written, and not every file that predictions need is here"
        faults.append((0, wrong, f"{_ELSEWHERE} Or let its owner fetch the rest."))
    else:
        found += ", only read; every file that predictions need is here"
    yield _check("cache", found, facts, faults)


def _free_space(store: Store) -> Iterator[Check]:
    """Compare the space beside the cache with what is still to be fetched."""
    if store.cache is None:
        return
    free, wanted = shutil.disk_usage(_nearest(store.cache)).free, sum(_absent(store).values())
    found = f"{free / 1e9:.1f} GB; {megabytes(wanted)} of the registry are not here"
    fault = (0, "", f"decode-zoo cache clean, or: {_ELSEWHERE}")
    facts = {"free": free, "wanted": wanted}
    yield _check("free space", found, facts, [fault] if free < wanted + _SPARE else [])


def _mirrors(store: Store) -> Iterator[Check]:
    """Ask all mirrors at once for the smallest file that each should have.

    One that does not answer in time is not waited for.
    """
    from decode_zoo.zoo.download import WrongFileError, is_url, transfer

    artifacts = store.registry.artifacts.values()
    files = [(artifact, *item) for artifact in artifacts for item in artifact.files.items()]
    # The user's own mirrors need not have what another registry lists: that comes last.
    files.sort(key=lambda file: (file[0].id in store.registry.origins, file[2].size))
    smallest: dict[str, tuple[Artifact, str, FileEntry]] = {}
    for file in files:
        for mirror in store.mirrors_of(file[0]):
            smallest.setdefault(mirror, file)
    if not smallest:
        absent = len(_absent(store))
        found = f"none is configured; {absent} files of the registry are not here"
        advice = "Name one in DECODE_ZOO_MIRRORS." if absent else None
        yield _check("mirrors", found, {}, advice=advice)
        return
    # What each did, in a word and in a sentence.
    late = "silent", f"no answer, or not all of it, within {_PATIENCE:g} s"
    untried = "skipped", "not tried: DECODE_ZOO_OFFLINE is set"
    answers = {m: untried if store.offline and is_url(m) else late for m in smallest}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def ask(number: int, mirror: str) -> None:
            artifact, name, entry = smallest[mirror]
            place = f"{artifact.folder}/{name}"
            target = Path(folder) / str(number)
            try:
                transfer(f"{mirror.rstrip('/')}/{place}", target, entry, lambda count: None)
                answers[mirror] = "has", f"gives {place}, verified"
            except Exception as error:  # whatever happens is the finding
                kind = "wrong" if isinstance(error, WrongFileError) else "fails"
                answers[mirror] = kind, " ".join(str(error).split())[:300]

        asked = [item for item in enumerate(smallest) if answers[item[1]] == late]
        # Daemons: a server that never comes to an end must not keep this process alive.
        threads = [threading.Thread(target=ask, args=item, daemon=True) for item in asked]
        for thread in threads:
            thread.start()
        until = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        answers = dict(answers)
    stuck = _lacking(store) and not any(answer == "has" for answer, _ in answers.values())
    for mirror, (answer, said) in answers.items():
        fault = (0, "", "Check network, proxy and DECODE_ZOO_MIRRORS.")
        if stuck:
            wrong = "; no mirror answers, and not every file that predictions need is here"
            fault = (5 if answer == "wrong" else 3, wrong, fault[2])
        faults = [] if answer in ("has", "skipped") else [fault]
        yield _check(f"mirror {mirror}", said, {"answer": answer}, faults)


def _bundled_files(store: Store) -> Iterator[Check]:
    """Verify the files that came with the package."""
    from decode_zoo.zoo.cache import survey

    name, folder = "bundled files", store.bundled
    facts: dict[str, Any] = {"verified": 0, "damaged": [], "unreadable": []}
    if folder is None:
        found = "the package came without any; models must be fetched"
        fault = (0, "", f"Reinstall it, or: {store.way_to_get('ID')}")
        yield _check(name, found, facts, [fault])
        return
    files = survey(replace(store, bundled=None, cache=folder))
    for file in files:
        if file.state == "verified":
            facts["verified"] += 1
        elif file.state in ("damaged", "unreadable"):
            facts[file.state].append(file.path.relative_to(folder).as_posix())
    again = "Restore them, or reinstall with: pip install --force-reinstall --no-deps decode-zoo"
    found = f"{facts['verified']} verified in {folder}"
    yield _check(name, found, {**facts, "folder": str(folder)}, _faults(files, again))


def _cached_files(store: Store) -> Iterator[Check]:
    """Verify what is in the cache, and look for what nobody can use there."""
    from decode_zoo.zoo.cache import STATES, survey

    if store.cache is None:
        return
    files = survey(store)
    count = Counter[str](file.state for file in files)
    anew = "they are fetched again when they are needed"
    anew = f"bring them again with: {store.way_to_get()}" if store.offline else anew
    facts: dict[str, Any] = {state: count[state] for state in STATES}
    faults = _faults(files, f"decode-zoo cache clean; {anew}")
    yield _check("cached files", f"{count['verified']} verified", facts, faults)
    found = (
        f"{count['unfinished']} unfinished downloads, {count['unregistered']} files of "
        "artifacts that no registry in use has"
    )
    if count["foreign"]:
        found += f"; {count['foreign']} things that decode-zoo did not make, left alone"
    stale = [file for file in files if file.state in ("unfinished", "unregistered")]
    unregistered = sorted({file.artifact for file in stale if file.state == "unregistered"})
    remedies = ["decode-zoo cache clean"] if count["unfinished"] else []
    if unregistered:
        ids = " ".join(unregistered)
        remedies.append(f"Name their zoo in DECODE_ZOO_REGISTRY, or: decode-zoo cache clean {ids}")
    size = sum(file.size for file in stale)
    facts = {"size": size, "files": [str(file.path) for file in stale]}
    fault = (0, f": {megabytes(size)}", ". ".join(remedies))
    yield _check("stale files", found, facts, [fault] if stale else [])


def _faults(files: Sequence[CachedFile], restore: str) -> list[Fault]:
    """Return what is wrong with files where artifacts lie, worst first."""

    def of(state: str) -> list[Path]:
        return [file.path for file in files if file.state == state]

    faults = list[Fault]()
    if bad := of("damaged"):
        listed = ", ".join(f"{path.parent.name}/{path.name}" for path in bad)
        faults.append((5, f", damaged: {listed}", restore))
    for state, wrong, remedy in (
        ("unreadable", ", cannot be read", "chmod a+r '{}'"),
        ("in the way", "; a folder where a file should be", "Remove the folder {}."),
    ):
        if paths := of(state):
            faults.append((3, f"{wrong}: {', '.join(map(str, paths))}", remedy.format(paths[0])))
    return faults


def _absent(store: Store) -> dict[str, int]:
    """Return the files of the registry that are not here, with their sizes in bytes."""
    return {
        f"{artifact.folder}/{name}": entry.size
        for artifact in store.registry.artifacts.values()
        for name, entry in artifact.files.items()
        if not store.has(artifact.id, name)
    }


def _lacking(store: Store) -> bool:
    """Return whether some file that a prediction needs is not here."""
    from decode_zoo.zoo.model import needed_to_predict

    artifacts = store.registry.artifacts.values()
    return any(not store.has(a.id, name) for a in artifacts for name in needed_to_predict(a))


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above that exists."""
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


# -- backends --------------------------------------------------------------------------------------


def _known_answers(store: Store) -> Iterator[Check]:
    """Recompute known answers with each backend, and report where ONNX Runtime really ran."""
    from decode_zoo.features.featureset import FeatureSet
    from decode_zoo.networks.backends import import_onnxruntime
    from decode_zoo.zoo.model import Model

    if store.registry.default_model is None:
        yield _check("known answers", "the registry has no default model", {})
        return
    artifact = store.registry.resolve(store.registry.default_model)

    def here(artifact_id: str, name: str) -> Path:
        """Find a file without fetching it, nor deleting it if it is damaged."""
        path = store.check(artifact_id, name)
        if path is None:
            raise ArtifactError(f"{name} of {artifact_id} is not here.")
        return path

    try:
        model = Model.open(
            partial(here, artifact.id), lambda other: FeatureSet.open(partial(here, other))
        )
        _ = model.features
    except ArtifactError as error:
        # Of the feature set, it is wrapped in one with advice for other verbs.
        cause = error.__cause__ if isinstance(error.__cause__, ArtifactError) else error
        remedy = cause.remedy or store.way_to_get(*filter(None, (artifact.id, artifact.features)))
        yield Check("known answers", "problem", cause.message.splitlines()[0], remedy, 3)
        return
    yield _parity(model, "numpy", "cpu")
    try:
        with silence_stderr():
            offered = list(import_onnxruntime().get_available_providers())
    except Exception:  # see _onnxruntime
        return
    cpu = _parity(model, "onnxruntime", "cpu")
    yield cpu
    facts = {"offered": offered, "asked": "cpu", "used": None, "providers": []}
    facts |= _used(model, "cpu") if cpu.state == "ok" else {}
    if _CUDA not in offered:
        found = f"asked for cpu, used {facts['used']}; {_CUDA} is not offered"
        yield _check("device", found, facts)
        return
    facts["asked"] = "cuda"
    try:
        with silence_stderr() as said:
            facts |= _used(model, "cuda")
    except DeviceError as error:
        # Which library is missing is only written, and not in the exception.
        reasons = (match[0] for line in said if (match := _UNLOADED.search(line)))
        reason = " ".join(next(reasons, error.message).split())[:300]
        fault = (0, " (no NVIDIA driver here)", "Without a GPU, 'decode-zoo[cpu]' is smaller.")
        if any(map(os.path.exists, _DRIVER)):
            versions = "Compare the versions of CUDA, cuDNN and driver with those that this ONNX "
            fault = (6, "", error.remedy or f"{versions}Runtime was built for.")
        yield _check("device", f"asked for cuda, used {facts['used']}: {reason}", facts, [fault])
        return
    # That a session was made there means that no part of it runs on the CPU.
    yield _check("device", "asked for cuda, used cuda: the whole graph runs there", facts)
    yield _parity(model, "onnxruntime", "cuda")


def _used(model: Model, device: Literal["cpu", "cuda"]) -> dict[str, Any]:
    """Open a session; return what it really uses, in our words and in ONNX Runtime's."""
    providers = getattr(model.backend("onnxruntime", device), "providers", ())
    return {"used": "cuda" if _CUDA in providers else "cpu", "providers": list(providers)}


def _parity(
    model: Model, backend: Literal["onnxruntime", "numpy"], device: Literal["cpu", "cuda"]
) -> Check:
    """Report how far one backend is from the known answers."""
    name = f"parity {backend}" + (f"-{device}" if backend == "onnxruntime" else "")
    try:
        off = model.check_known_answers(model.backend(backend, device))
    except Exception as error:
        return replace(_broken(name, error), facts={"model": model.id})
    answers = model.manifest.known_answers
    found = (
        f"{len(answers.genes)} genes × {len(answers.outputs)} outputs of {model.id}, largest "
        f"difference {off:.1e} of an output's scale"
    )
    return _check(name, found, {"model": model.id, "largest_difference": off})
