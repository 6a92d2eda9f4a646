"""Each installed back end on the default model's known answers."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from decode_zoo.doctor.check import Check, broken, ok, problem, warning
from decode_zoo.errors import ArtifactError, DecodeZooError, DeviceError
from decode_zoo.features import FeatureSet
from decode_zoo.model import Model
from decode_zoo.quiet import quiet
from decode_zoo.runtime import BackendName, Device, OnnxBackend, import_onnxruntime
from decode_zoo.store import Store

__all__ = ["known_answers"]

_CUDA = "CUDAExecutionProvider"
_UNLOADED = re.compile(r"Failed to load library .*")
_DRIVER = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")


def known_answers(store: Store) -> Iterator[Check]:
    """Recompute known answers with each back end, and tell where ONNX Runtime really ran."""
    if store.registry.default_model is None:
        yield ok("known answers", "the registry has no default model")
        return
    artifact = store.registry.resolve(store.registry.default_model)
    ids = [artifact.id, *([artifact.features] if artifact.features else [])]
    try:
        model = Model.open(
            partial(_here, store, artifact.id),
            lambda features: FeatureSet.open(partial(_here, store, features)),
        )
        _ = model.features
    except ArtifactError as error:
        # Of the feature set, it is wrapped in one with advice for other verbs.
        cause = error.__cause__ if isinstance(error.__cause__, ArtifactError) else error
        yield problem(
            "known answers",
            cause.message.splitlines()[0],
            cause.remedy or store.way_to_get(*ids),
            3,
        )
        return
    yield _parity(model, "numpy", "cpu")
    offered = _offered()
    if offered is None:
        return
    cpu = _parity(model, "onnxruntime", "cpu")
    yield cpu
    on_cpu = _used(model, "cpu") if cpu.state == "ok" else {"used": None, "providers": []}
    if _CUDA in offered:
        yield from _cuda(model, offered, on_cpu)
    else:
        yield ok(
            "device",
            f"asked for cpu, used {on_cpu['used']}; {_CUDA} is not offered",
            offered=offered,
            asked="cpu",
            **on_cpu,
        )


def _cuda(model: Model, offered: list[str], on_cpu: dict[str, Any]) -> Iterator[Check]:
    """Ask for CUDA; that a session was made there means that no part of it runs on the CPU."""
    facts: dict[str, Any] = {"offered": offered, "asked": "cuda"}
    try:
        with quiet() as said:
            used = _used(model, "cuda")
    except DeviceError as error:
        # Which library is missing is only written, and not in the exception.
        reasons = (match[0] for line in said if (match := _UNLOADED.search(line)))
        reason = " ".join(next(reasons, error.message).split())[:300]
        found = f"asked for cuda, used {on_cpu['used']}: {reason}"
        remedy = (
            error.remedy
            or "Compare the versions of CUDA, cuDNN and driver with those that "
            "this ONNX Runtime was built for."
        )
        if any(map(os.path.exists, _DRIVER)):
            yield problem("device", found, remedy, 6, **facts, **on_cpu)
        else:
            yield warning(
                "device",
                f"{found} (no NVIDIA driver here)",
                "Without a GPU, 'decode-zoo[cpu]' is smaller.",
                **facts,
                **on_cpu,
            )
        return
    yield ok("device", "asked for cuda, used cuda: the whole graph runs there", **facts, **used)
    yield _parity(model, "onnxruntime", "cuda")


def _used(model: Model, device: Literal["cpu", "cuda"]) -> dict[str, Any]:
    """Open a session, and tell what it really uses: in our words, and in ONNX Runtime's."""
    providers = cast(OnnxBackend, model.backend("onnxruntime", device)).providers
    return {"used": "cuda" if _CUDA in providers else "cpu", "providers": list(providers)}


def _parity(model: Model, backend: BackendName, device: Device) -> Check:
    """Report how far one back end is from the known answers."""
    name = f"parity {backend}" + (f"-{device}" if backend == "onnxruntime" else "")
    try:
        off = model.check_known_answers(model.backend(backend, device))
    except DecodeZooError as error:
        found = broken(name, error)
        return problem(name, found.found, found.remedy, found.code, model=model.id)
    except Exception as error:
        return broken(name, error)
    answers = model.manifest.known_answers
    return ok(
        name,
        f"{len(answers.genes)} genes × {len(answers.outputs)} outputs of {model.id}, largest "
        f"difference {off:.1e} of an output's scale",
        model=model.id,
        largest_difference=off,
    )


def _offered() -> list[str] | None:
    """List the providers of ONNX Runtime; None if there is none that works."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    try:
        with quiet():
            return list(import_onnxruntime().get_available_providers())
    except Exception:  # see installation.onnxruntime
        return None


def _here(store: Store, artifact_id: str, name: str) -> Path:
    """Find a file without fetching it, nor deleting it if it is damaged."""
    path = store.check(artifact_id, name)
    if path is None:
        raise ArtifactError(f"{name} of {artifact_id} is not here.")
    return path
