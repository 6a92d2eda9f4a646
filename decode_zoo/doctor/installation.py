"""What is installed, and whether it fits together."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import decode_zoo
from decode_zoo.doctor.check import Check, ok, problem, warning
from decode_zoo.quiet import quiet

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["onnxruntime", "packages", "versions"]

_OWN = "decode-zoo"
# They all bring the module onnxruntime, and overwrite each other's files.
_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
    "ort-nightly",
    "ort-nightly-gpu",
)
_WITHOUT_METADATA = ("numpy", "scipy", "pandas", "pooch", "click", "pyyaml", *_RUNTIMES)


def versions() -> Iterator[Check]:
    """Name the versions of decode-zoo, Python and the operating system."""
    folder = Path(decode_zoo.__file__).parent
    yield ok(
        _OWN,
        f"{decode_zoo.__version__} in {folder}",
        version=decode_zoo.__version__,
        folder=str(folder),
    )
    python, system = platform.python_version(), platform.platform()
    found = f"{python} ({sys.executable}) on {system}"
    facts = {"version": python, "executable": sys.executable, "platform": system}
    wanted = _required_python()
    if wanted is not None and not _fits(wanted, python):
        yield warning(
            "python",
            f"{found}; decode-zoo is made for {wanted}",
            f"Use a Python {wanted}.",
            **facts,
        )
    else:
        yield ok("python", found, **facts)


def packages() -> Iterator[Check]:
    """Compare the packages that are here with those that decode-zoo and its extras need."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(_OWN) or []
        extras = importlib.metadata.metadata(_OWN).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        here = {name: v for name in _WITHOUT_METADATA if (v := _version(name)) is not None}
        yield warning(
            "packages",
            f"{_list(here)}; decode-zoo runs from a folder and was not installed, so its extras "
            "are not known",
            "Install it from there: pip install -e .",
            here=here,
        )
        return
    needed = [Requirement(line) for line in lines]
    base = [need for need in needed if _applies(need, "")]
    yield _group("packages", base, required=True)
    for extra in extras:
        if extra != "dev":
            own = [need for need in needed if need not in base and _applies(need, extra)]
            yield _group(f"extra {extra}", own, required=False)


def onnxruntime() -> Iterator[Check]:
    """Tell which ONNX Runtime is installed; two at once overwrite each other's files."""
    name = "onnxruntime"
    here = {package: v for package in _RUNTIMES if (v := _version(package)) is not None}
    facts = {"installed": here}
    fresh = "pip install 'decode-zoo[cpu]' (or 'decode-zoo[gpu]')"
    again = f"pip uninstall -y {' '.join(here) or name}; {fresh}"
    if len(here) > 1:
        yield problem(
            name,
            f"{_list(here)}: they overwrite each other's files",
            f"Keep one: {again}",
            2,
            **facts,
        )
        return
    if not here and importlib.util.find_spec(name) is None:
        yield ok(
            name,
            "not installed: the NumPy back end answers, to the same digits",
            f"For speed: {fresh}",
            **facts,
        )
        return
    try:
        # As `runtime.import_onnxruntime`, which needs packages that may be missing.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        with quiet():
            module = importlib.import_module(name)
            offered = [str(provider) for provider in module.get_available_providers()]
        version = str(module.__version__)
    # What is left of a package that another one overwrote breaks in unforeseeable ways.
    except Exception as error:
        yield problem(
            name,
            f"{_list(here) or 'remains of it'} cannot be used: {error!r}",
            f"Install it again: {again}",
            2,
            **facts,
        )
        return
    package = next(iter(here), None)
    if package is not None and here[package] != version:
        yield problem(
            name,
            f"{_list(here)} is installed, but {version} is imported",
            f"Install it again: {again}",
            2,
            **facts,
        )
        return
    yield ok(
        name, f"{package or name} {version}, offers {', '.join(offered)}", **facts, offered=offered
    )


def _group(name: str, needed: list[Requirement], *, required: bool) -> Check:
    """Report on the requirements of the package itself, or of one of its extras."""
    here = {need.name: v for need in needed if (v := _version(need.name)) is not None}
    lacking = [need for need in needed if need.name not in here]
    old = [
        need
        for need in needed
        if need.name in here and not need.specifier.contains(here[need.name], prereleases=True)
    ]
    parts = [_list(here)] if here else []
    parts += [f"not installed: {', '.join(need.name for need in lacking)}"] if lacking else []
    parts += [f"not of the version needed: {', '.join(map(_spelt, old))}"] if old else []
    found = "; ".join(parts) or "needs nothing here"
    facts = {
        "here": here,
        "missing": [need.name for need in lacking],
        "wrong_version": [_spelt(need) for need in old],
    }
    wanted = " ".join(f"'{_spelt(need)}'" for need in (lacking + old if required else old))
    remedy = f"pip install -U {wanted}"
    if required and (lacking or old):
        return problem(name, found, remedy, 2, **facts)
    if old:
        return warning(name, found, remedy, **facts)
    if lacking and name != "extra gpu":
        return ok(
            name, found, f"If you need it: pip install 'decode-zoo[{name.split()[-1]}]'", **facts
        )
    return ok(name, found, **facts)


def _applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _spelt(need: Requirement) -> str:
    return f"{need.name}{need.specifier}"


def _list(here: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in here.items())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _required_python() -> str | None:
    try:
        return importlib.metadata.metadata(_OWN)["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        return None


def _fits(wanted: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)
