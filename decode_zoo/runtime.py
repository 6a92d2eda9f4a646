"""Back ends that run a model: ONNX Runtime (CPU, CUDA) and NumPy.

Matrix libraries choose their kernels by shape, so the last bits of a gene's prediction could
depend on how many genes are asked for. Every back end therefore runs blocks of one fixed shape,
filled up with empty rows: the same gene gives the same bits whatever its neighbours.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from decode_zoo.cores import allowed_cores
from decode_zoo.errors import DeviceError, MissingExtraError, UsageError, VerificationError
from decode_zoo.families import Network
from decode_zoo.graph import Graph, read_graph
from decode_zoo.layout import Side
from decode_zoo.quiet import quiet

__all__ = [
    "BLOCK",
    "Backend",
    "BackendName",
    "Device",
    "NumpyBackend",
    "OnnxBackend",
    "import_onnxruntime",
    "open_backend",
]

_log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]
Device = Literal["auto", "cpu", "cuda"]
BackendName = Literal["auto", "onnxruntime", "numpy"]

# Genes in a block: enough to keep matrix products busy, few enough that one gene costs little.
BLOCK = 256

# The two packages overwrite each other: one must go before the other comes.
_GPU_REMEDY = "Install it with: pip uninstall -y onnxruntime; pip install 'decode-zoo[gpu]'"


_BROKEN_REMEDY = (
    "Install it anew: pip uninstall -y onnxruntime onnxruntime-gpu; pip install 'decode-zoo[cpu]'"
)


class Backend(Protocol):
    """Runs a network on blocks."""

    name: str

    def run(self, block: Mapping[Side, FloatArray]) -> FloatArray:
        """Predict one block.

        Parameters
        ----------
        block : Mapping of Side to ndarray of float32, shape (n, bins, channels)
            In bases, channel 0 the mask.

        Returns
        -------
        ndarray of float32, shape (n, n_outputs)
            In the outputs' units.

        Raises
        ------
        VerificationError
            If the network cannot be run, or gives values that are not finite.
        """
        ...


class NumpyBackend:
    """The network in NumPy, in float64, rounded once at the end."""

    name = "numpy"

    def __init__(self, network: Network) -> None:
        self._network = network.fold() if network.config.pools else network

    def run(self, block: Mapping[Side, FloatArray]) -> FloatArray:
        """Predict one block (see `Backend`)."""
        with np.errstate(over="ignore", invalid="ignore"):
            predicted: FloatArray = self._network.forward(block).astype(np.float32)
        if not np.isfinite(predicted).all():
            raise VerificationError("The network's weights give values that are not finite.")
        return predicted


class OnnxBackend:
    """The network in ONNX Runtime.

    Parameters
    ----------
    graph : Graph or Path
        model.onnx; it is read and checked (`graph.read_graph`) before a session is made.
    device : {"cpu", "cuda"}
        With ``cuda`` everything must run there: ONNX Runtime would otherwise fall back to the CPU
        and only log it.

    Attributes
    ----------
    name : str
    providers : tuple of str
        What the session really uses, in ONNX Runtime's names; the CPU's is always among them, for
        it runs what no other provider can. With ``cuda`` there is no such part.
    outputs : tuple of str or None
        Names of the outputs, in column order, as the graph's metadata have them; None if they do
        not tell.

    Raises
    ------
    DeviceError
        If CUDA was asked for and cannot be had.
    MissingExtraError
        If ONNX Runtime is not installed (on the CPU).
    VerificationError
        If the file is not the graph of a model.
    """

    def __init__(self, graph: Graph | Path, device: Literal["cpu", "cuda"]) -> None:
        ort = _onnxruntime_for(device)
        graph = read_graph(graph) if isinstance(graph, Path) else graph
        self.outputs = graph.output_names
        options = ort.SessionOptions()
        # The default asks the machine, not the process, and fails where cpusets or a batch
        # system allow fewer cores than there are.
        options.intra_op_num_threads = allowed_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if device == "cpu":
            providers: list[Any] = ["CPUExecutionProvider"]
        else:
            if "CUDAExecutionProvider" not in ort.get_available_providers():
                raise DeviceError(
                    "CUDA was asked for, but this ONNX Runtime has no CUDA provider "
                    f"(it has {', '.join(ort.get_available_providers())}).",
                    remedy=_GPU_REMEDY,
                )
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            # TF32 would change predictions in the third digit; exhaustive search would re-tune
            # for seconds at the first block.
            providers = [
                ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
            ]
        try:
            self._session = ort.InferenceSession(graph.content, options, providers=providers)
        except Exception as error:  # ONNX Runtime raises several unrelated types
            if device == "cuda":
                OnnxBackend(graph, "cpu")  # a graph that the CPU refuses too is to blame itself
                raise DeviceError(f"CUDA was asked for, but cannot be used: {error}") from error
            raise VerificationError(
                f"{graph.path} cannot be loaded by ONNX Runtime {ort.__version__}: {error}",
                remedy="It is damaged (fetch or export it again), or ONNX Runtime is too old for "
                "it (pip install -U onnxruntime).",
            ) from error
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        if device == "cuda" and "CUDAExecutionProvider" not in self.providers:
            raise DeviceError(
                f"CUDA was asked for, but the session uses {', '.join(self.providers)}."
            )
        self.name = f"onnxruntime-{device}"
        self._path = graph.path

    def run(self, block: Mapping[Side, FloatArray]) -> FloatArray:
        """Predict one block (see `Backend`)."""
        try:
            (outputs,) = self._session.run(["prediction"], dict(block))
        except Exception as error:  # ONNX Runtime raises several unrelated types
            failed = f"{self._path} cannot be run by {self.name}: {error}"
            raise (DeviceError if self.name.endswith("cuda") else VerificationError)(
                failed
            ) from error
        predicted: FloatArray = np.asarray(outputs, np.float32)
        if not np.isfinite(predicted).all():
            raise VerificationError(f"{self._path} gives values that are not finite.")
        return predicted


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, told to send nothing and to keep no record of what runs.

    Current builds tell their maker of sessions some seconds after one is made, and keep a device
    id and the events not sent yet in the user's home. Only the environment turns that off, and
    only before the import.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed, or what is left of it cannot run anything.
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
    graph: Graph | Path,
    *,
    backend: BackendName = "auto",
    device: Device = "auto",
) -> Backend:
    """Open the back end that was asked for, or the best there is.

    Parameters
    ----------
    network : DecodeNetwork or PerceptronNetwork
        For NumPy.
    graph : Graph or Path
        model.onnx, for ONNX Runtime.
    backend : {"auto", "onnxruntime", "numpy"}
        ``auto`` takes ONNX Runtime if it is installed.
    device : {"auto", "cpu", "cuda"}
        ``auto`` takes CUDA if ONNX Runtime has it and a session can be made on it.

    Raises
    ------
    MissingExtraError
        If ONNX Runtime was asked for (not on CUDA) and is not installed.
    DeviceError
        If CUDA was asked for and cannot be had.
    VerificationError
        If model.onnx is not the graph of a model.
    UsageError
        If CUDA is asked of NumPy, or ONNX Runtime was asked for and its installation is broken.
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
    if device == "auto" and "CUDAExecutionProvider" in ort.get_available_providers():
        try:
            with quiet():
                return OnnxBackend(graph, "cuda")
        except DeviceError:  # a GPU build on a machine without a GPU
            return OnnxBackend(graph, "cpu")
    return OnnxBackend(graph, "cuda" if device == "cuda" else "cpu")
