"""Backends that run a model: ONNX Runtime (CPU, CUDA) and NumPy.

Matrix libraries choose their kernels by shape, so the last bits of a gene's prediction could
depend on how many genes are asked for. Every backend therefore runs blocks of one fixed shape,
filled up with empty rows: the same gene gives the same bits whatever its neighbours.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from decode_zoo.core.arrays import SingleArray
from decode_zoo.core.errors import DeviceError, MissingExtraError, UsageError, VerificationError
from decode_zoo.core.system import allowed_cores, silence_stderr
from decode_zoo.features.spec import SIDES, Side
from decode_zoo.networks.families import Network
from decode_zoo.networks.onnx import read_graph
from decode_zoo.networks.perceptron import PerceptronNetwork

__all__ = [
    "BLOCK",
    "Backend",
    "BackendName",
    "Device",
    "NumpyBackend",
    "OnnxBackend",
    "SpreadBackend",
    "import_onnxruntime",
    "open_backend",
]

_log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]
BackendName = Literal["auto", "onnxruntime", "numpy"]

# Genes in a block: enough to keep matrix products busy, few enough that one gene costs little.
BLOCK = 256

_CUDA = "CUDAExecutionProvider"
# The two packages overwrite each other: one must go before the other comes.
_GPU_REMEDY = "Install it with: pip uninstall -y onnxruntime; pip install 'decode-zoo[gpu]'"
_BROKEN_REMEDY = (
    "Install it anew: pip uninstall -y onnxruntime onnxruntime-gpu; pip install 'decode-zoo[cpu]'"
)


class Backend(Protocol):
    """Runs a network on blocks."""

    name: str

    def run(self, block: Mapping[Side, SingleArray]) -> SingleArray:
        """Predict one block, in the outputs' units: float32, shape (n, n_outputs).

        The block has float32 arrays of shape (n, bins, channels), in bases, channel 0 the mask.
        Raises VerificationError if the network cannot be run or gives values that are not finite.
        """
        ...


class NumpyBackend:
    """The network in NumPy, in float64, rounded once at the end."""

    name = "numpy"

    def __init__(self, network: Network) -> None:
        self._network = network.fold() if network.config.pools else network

    def run(self, block: Mapping[Side, SingleArray]) -> SingleArray:
        """Predict one block (see `Backend`)."""
        with np.errstate(over="ignore", invalid="ignore"):
            predicted: SingleArray = self._network.forward(block).astype(np.float32)
        if not np.isfinite(predicted).all():
            raise VerificationError("The network's weights give values that are not finite.")
        return predicted


class SpreadBackend:
    """How far the members of an ensemble lie apart: their standard deviation, n - 1 below."""

    name = "numpy"

    def __init__(self, network: Network) -> None:
        if not isinstance(network, PerceptronNetwork) or network.config.members < 2:
            raise UsageError("This model is a single network: no members, no spread.")
        self._network = network.fold()

    def run(self, block: Mapping[Side, SingleArray]) -> SingleArray:
        """Give the spread of one block (see `Backend`)."""
        spread = np.std(self._network.by_member(block), axis=0, ddof=1)
        return np.asarray(spread, np.float32)


class OnnxBackend:
    """The network of a model.onnx in ONNX Runtime.

    On ``cuda`` everything must run there: ONNX Runtime would otherwise fall back to the CPU and
    only log it. DeviceError is raised if CUDA cannot be had, VerificationError if the file is not
    the graph of a model.
    """

    name: str
    # What the session really uses; the CPU's is always among them, for it runs what no other can.
    # With ``cuda`` there is no such part.
    providers: tuple[str, ...]
    metadata: Mapping[str, str]  # the graph's
    outputs: tuple[str, ...] | None  # names in column order, if the metadata have them
    channels: Mapping[Side, int]  # columns of the inputs
    n_outputs: int

    def __init__(self, path: Path, device: Literal["cpu", "cuda"]) -> None:
        ort = _onnxruntime_for(device)
        content = read_graph(path)
        options = ort.SessionOptions()
        # The default asks the machine, not the process, and fails where cpusets or a batch
        # system allow fewer cores than there are.
        options.intra_op_num_threads = allowed_cores()
        options.inter_op_num_threads = 1
        # Threads that wait for work sleep instead of spinning: for a short list that is half of
        # the processor time, for all genes nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        providers: list[Any] = ["CPUExecutionProvider"]
        if device == "cuda":
            if _CUDA not in ort.get_available_providers():
                raise DeviceError(
                    "CUDA was asked for, but this ONNX Runtime has no CUDA provider "
                    f"(it has {', '.join(ort.get_available_providers())}).",
                    remedy=_GPU_REMEDY,
                )
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            # TF32 would change predictions in the third digit; exhaustive search would re-tune
            # for seconds at the first block.
            providers = [(_CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})]
        try:
            self._session = ort.InferenceSession(content, options, providers=providers)
            meta = self._session.get_modelmeta()  # whose texts need not be UTF-8
            self.metadata = meta.custom_metadata_map
        except Exception as error:  # ONNX Runtime raises several unrelated types
            if device == "cuda":
                OnnxBackend(path, "cpu")  # a graph that the CPU refuses too is to blame itself
                raise DeviceError(f"CUDA was asked for, but cannot be used: {error}") from error
            raise VerificationError(
                f"{path} cannot be loaded by ONNX Runtime {ort.__version__}: {error}",
                remedy="It is damaged (fetch or export it again), or ONNX Runtime is too old for "
                "it (pip install -U onnxruntime).",
            ) from error
        self.providers = tuple(self._session.get_providers())
        if device == "cuda" and _CUDA not in self.providers:
            raise DeviceError(
                f"CUDA was asked for, but the session uses {', '.join(self.providers)}."
            )
        self.name = f"onnxruntime-{device}"
        self._path = path
        self.outputs = _output_names(self.metadata, path)
        inputs = _columns(self._session.get_inputs(), 3, path)
        outputs = _columns(self._session.get_outputs(), 2, path)
        if set(inputs) != set(SIDES) or set(outputs) != {"prediction"}:
            raise VerificationError(
                f"{path} is not the graph of a model: it turns {', '.join(inputs) or 'nothing'} "
                f"into {', '.join(outputs)}, not promoter and rna into prediction."
            )
        self.channels = {side: inputs[side] for side in SIDES}
        self.n_outputs = outputs["prediction"]

    def run(self, block: Mapping[Side, SingleArray]) -> SingleArray:
        """Predict one block (see `Backend`)."""
        try:
            (outputs,) = self._session.run(["prediction"], dict(block))
        except Exception as error:  # ONNX Runtime raises several unrelated types
            failed = f"{self._path} cannot be run by {self.name}: {error}"
            kind = DeviceError if self.name.endswith("cuda") else VerificationError
            raise kind(failed) from error
        predicted: SingleArray = np.asarray(outputs, np.float32)
        if not np.isfinite(predicted).all():
            raise VerificationError(f"{self._path} gives values that are not finite.")
        return predicted


def _output_names(metadata: Mapping[str, str], path: Path) -> tuple[str, ...] | None:
    if "outputs" not in metadata:
        return None
    try:
        names = json.loads(metadata["outputs"])
    except (ValueError, RecursionError):
        names = None
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise VerificationError(f"{path}: 'outputs' in its metadata is no list of names.")
    return tuple(names)


def _columns(arrays: Any, rank: int, path: Path) -> dict[str, int]:
    """Return the last dimension of each array, by name; the others must be of any size."""
    found = {}
    for array in arrays:
        *free, columns = array.shape or [None]
        if (
            array.type != "tensor(float)"
            or len(free) != rank - 1
            or any(isinstance(size, int) for size in free)
            or not isinstance(columns, int)
        ):
            raise VerificationError(
                f"{path} is not the graph of a model: '{array.name[:60]}' is a {array.type} of "
                f"shape {array.shape}, not 32-bit numbers for any number of genes and bins."
            )
        found[array.name[:60]] = columns
    return found


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, told to send nothing and to keep no record of what runs.

    Current builds tell their maker of sessions some seconds after one is made, and keep a device
    id and the events not sent yet in the user's home. Only the environment turns that off, and
    only before the import. Raises ImportError if it is not installed, or what is left of it cannot
    run anything.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    # Of two packages that overwrite each other, removing one leaves an empty module.
    if not hasattr(onnxruntime, "InferenceSession"):
        raise ImportError(
            "the installation of onnxruntime is broken, parts of it are missing", name="onnxruntime"
        )
    return onnxruntime


def _onnxruntime_for(device: Device) -> Any:
    try:
        return import_onnxruntime()
    except ImportError as error:
        if device == "cuda":
            raise DeviceError(
                f"CUDA was asked for, but ONNX Runtime cannot be imported ({error}).",
                remedy=_GPU_REMEDY,
            ) from error
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtraError("onnxruntime", "cpu") from error
        raise UsageError(
            f"ONNX Runtime cannot be imported: {error}.", remedy=_BROKEN_REMEDY
        ) from error


def open_backend(
    network: Network,
    graph: Path,
    *,
    backend: BackendName = "auto",
    device: Device = "auto",
) -> Backend:
    """Open the backend that was asked for, or the best there is.

    `network` is for NumPy, `graph` (model.onnx) for ONNX Runtime. The backend ``auto`` takes ONNX
    Runtime if it is installed, the device ``auto`` takes CUDA if a session can be made on it.
    Raises UsageError (MissingExtraError, if ONNX Runtime is not installed) for what cannot be
    asked for, and DeviceError and VerificationError as `OnnxBackend` does.
    """
    for what, value, allowed in (
        ("back end", backend, get_args(BackendName)),
        ("device", device, get_args(Device)),
    ):
        if value not in allowed:
            raise UsageError(f"There is no {what} {value!r}; choose {', '.join(allowed)}.")
    if backend == "numpy":
        if device == "cuda":
            raise UsageError(
                "The NumPy back end runs on the CPU only.",
                remedy="Use --backend onnxruntime --device cuda.",
            )
        return NumpyBackend(network)
    try:
        ort = _onnxruntime_for(device)
    except UsageError as error:
        if backend == "onnxruntime":
            raise
        if not isinstance(error, MissingExtraError):
            _log.warning("%s NumPy is used instead. %s", error.message, error.remedy)
        return NumpyBackend(network)
    if device == "auto" and _CUDA in ort.get_available_providers():
        try:
            with silence_stderr():
                return OnnxBackend(graph, "cuda")
        except DeviceError:  # a GPU build on a machine without a GPU
            pass
    return OnnxBackend(graph, "cuda" if device == "cuda" else "cpu")
