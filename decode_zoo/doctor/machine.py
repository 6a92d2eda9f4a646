"""What the machine and the environment allow this process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from decode_zoo.doctor.check import Check, ok, warning

__all__ = ["environment", "quota", "threads"]

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "SLURM_CPUS_PER_TASK",
)
_OWN = ("DECODE_ZOO_CACHE", "DECODE_ZOO_MIRRORS", "DECODE_ZOO_OFFLINE", "DECODE_ZOO_REGISTRY")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_OTHERS = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    *_BUNDLES,
    "XDG_CACHE_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
)


def threads(root: Path = Path("/")) -> Iterator[Check]:
    """Compare the cores that are used with those that the machine really gives.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    from decode_zoo.cores import allowed_cores

    used, there, allowed = allowed_cores(), os.cpu_count(), quota(root)
    limits = {name: os.environ[name] for name in _THREADS if name in os.environ}
    found = f"{used} used of {there} cores"
    found += f", cgroup quota {allowed:g}" if allowed is not None else ", no cgroup quota"
    found += "".join(f", {name}={value}" for name, value in limits.items())
    facts = {"used": used, "cores": there, "quota": allowed, "variables": limits}
    if allowed is not None and allowed < used:
        yield warning(
            "threads",
            f"{found}: threads will wait for each other",
            f"Start it on as many cores as the quota gives, e.g. taskset -c "
            f"0-{max(int(allowed), 1) - 1} decode-zoo …, or ask for whole cores.",
            **facts,
        )
        return
    odd = [
        name
        for name, value in limits.items()
        if not (re.fullmatch("[0-9]{1,6}", value.strip()) and 0 < int(value) <= used)
    ]
    if odd:
        yield warning(
            "threads",
            f"{found}: not between 1 and {used}: {', '.join(odd)}",
            f"Unset it, or: export {odd[0]}={used}",
            **facts,
        )
        return
    yield ok("threads", found, **facts)


def quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that the control groups of this process give it; None if no limit."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            tops = ("", "unified")
        elif "cpu" in controllers.split(","):
            tops = (controllers, "cpu")
        else:
            continue
        for top in tops:
            folder = root / "sys/fs/cgroup" / top
            # In a container, the group's own name may not be there, but its limits are.
            parts = [part for part in group.split("/") if part not in ("", "..")]
            for depth in range(len(parts) + 1):
                found.append(_limit(folder.joinpath(*parts[:depth])))
    return min((limit for limit in found if limit is not None), default=None)


def environment() -> Iterator[Check]:
    """List the variables that are in force, without their secrets."""
    values = {
        name: _hidden(name, os.environ[name]) for name in (*_OWN, *_OTHERS) if os.environ.get(name)
    }
    unknown = sorted(n for n in os.environ if n.startswith("DECODE_ZOO_") and n not in _OWN)
    found = "; ".join(f"{name}={value}" for name, value in values.items()) or "no variable is set"
    facts: Mapping[str, object] = {"variables": values, "unknown": unknown}
    missing = [
        name for name in _BUNDLES if os.environ.get(name) and not os.path.exists(os.environ[name])
    ]
    if unknown:
        yield warning(
            "environment",
            f"{found}; unknown, so without effect: {', '.join(unknown)}",
            f"decode-zoo knows {', '.join(_OWN)}.",
            **facts,
        )
    elif missing:
        yield warning(
            "environment",
            f"{found}; no such file: {', '.join(missing)}",
            f"Correct or unset {missing[0]}: https fails without it.",
            **facts,
        )
    elif os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        yield warning(
            "environment",
            f"{found}; TF32 changes predictions in the third digit",
            "unset NVIDIA_TF32_OVERRIDE",
            **facts,
        )
    else:
        yield ok("environment", found, **facts)


def _hidden(name: str, value: str) -> str:
    """Hide the user and password of a proxy, which needs no scheme before them."""
    return re.sub(r"[^\s,/]+@", "***@", value) if name.lower().endswith("_proxy") else value


def _limit(folder: Path) -> float | None:
    """Read the limit of one control group: version 2, else version 1."""
    words = _text(folder / "cpu.max").split() or [
        _text(folder / "cpu.cfs_quota_us").strip(),
        _text(folder / "cpu.cfs_period_us").strip(),
    ]
    try:
        granted, period = (float(word) for word in words[:2])
    except ValueError:  # 'max', or no such file
        return None
    return granted / period if granted > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
