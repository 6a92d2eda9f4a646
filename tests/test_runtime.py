"""Back ends: same digits, same bits whatever the neighbours, strict devices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import decode_zoo as dz
from decode_zoo.core.errors import DeviceError, MissingExtraError, UsageError, VerificationError
from decode_zoo.features.spec import SIDES
from decode_zoo.networks import backends as runtime
from decode_zoo.networks.backends import BLOCK, NumpyBackend, OnnxBackend, open_backend

onnxruntime = pytest.importorskip("onnxruntime")
BACKENDS = ["numpy", "onnxruntime"]


@pytest.fixture(scope="module")
def model():
    return dz.load("gtex-tissue-decode-v1")


@pytest.fixture(scope="module")
def rows(model):
    """A thousand genes from all over the genome, in no order."""
    return np.random.default_rng(0).permutation(len(model.features))[:1000]


@pytest.fixture
def graph(toy) -> Path:
    return toy / "models/toy-decode-v1/model.onnx"


def test_back_ends_agree(model, rows):
    bound = model.bind()
    scale = np.array([output.scale for output in model.manifest.outputs])
    a, b = (model.predict_rows(rows, bound, model.backend(name, "cpu")) for name in BACKENDS)
    assert np.abs((a - b) / scale).max() <= 1e-5


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("size", [1, 2, 255, BLOCK, 257])
def test_prediction_does_not_depend_on_batch_order_chunk_or_neighbours(model, rows, name, size):
    bound, backend = model.bind(), model.backend(name, "cpu")
    whole = model.predict_rows(rows, bound, backend)
    order = np.random.default_rng(size).permutation(rows.size)
    np.testing.assert_array_equal(model.predict_rows(rows[order], bound, backend), whole[order])
    np.testing.assert_array_equal(model.predict_rows(rows[-size:], bound, backend), whole[-size:])
    parts = [model.predict_rows(rows[i : i + size], bound, backend) for i in range(0, 20, size)]
    joined = np.concatenate(parts)
    np.testing.assert_array_equal(joined, whole[: len(joined)])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_onnx_prediction_does_not_depend_on_threads(model, rows, threads, monkeypatch):
    bound = model.bind()
    expected = model.predict_rows(rows[:300], bound, model.backend("onnxruntime", "cpu"))
    monkeypatch.setattr(runtime, "allowed_cores", lambda: threads)
    other = OnnxBackend(model.locate("model.onnx"), "cpu")
    np.testing.assert_array_equal(model.predict_rows(rows[:300], bound, other), expected)


def test_full_matrices_and_position_sums_agree_in_every_back_end(model):
    """The same graph takes a gene's hundreds of bins or its three sums."""
    features = model.features
    try:
        features.locate("sites.npz")
    except dz.DecodeZooError:
        pytest.skip("no positions (sites.npz)")
    bound, shortest = model.bind(), np.argsort(features.rows.rna_lengths)
    scale = np.array([output.scale for output in model.manifest.outputs])
    for row in [*shortest[[0, 5, 30000, -200, -1]], 100, 2000, 41000]:
        full = bound.full(np.array([row]))
        # Given by the definition, not by the stored sums.
        sums = {
            side: np.stack([full[side][:, k:].sum(axis=1) for k in range(n)], axis=1)
            for side, n in bound.kernels.items()
        }
        stored = {side: part.dense() for side, part in bound.pooled(np.array([row])).items()}
        exact = model.network.forward(full)
        assert np.abs((model.network.forward(sums) - exact) / scale).max() <= 1e-10
        onnx, numpy = (model.backend(name, "cpu") for name in ("onnxruntime", "numpy"))
        assert np.abs((onnx.run(full) - exact) / scale).max() <= 1e-4
        for backend in (onnx, numpy):  # that of NumPy is folded: it takes sums only
            assert np.abs((backend.run(stored) - exact) / scale).max() <= 1e-5
        for side in SIDES:
            np.testing.assert_array_equal(stored[side], sums[side])


def test_cuda_is_strict(toy_model):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(DeviceError, match="CUDA was asked for"):
        toy_model.backend("onnxruntime", "cuda")
    with pytest.raises(UsageError, match="CPU only"):
        toy_model.backend("numpy", "cuda")


@pytest.mark.fault
@pytest.mark.parametrize(
    ("left", "error", "words", "remedy"),
    [
        (None, MissingExtraError, "onnxruntime", r"decode-zoo\[cpu\]"),
        # Two packages bring the module; removing one leaves it empty.
        (types.ModuleType("onnxruntime"), UsageError, "missing", "pip uninstall -y onnxruntime"),
    ],
)
def test_without_a_whole_onnxruntime_numpy_answers(
    toy_model, graph, monkeypatch, caplog, left, error, words, remedy
):
    monkeypatch.setitem(sys.modules, "onnxruntime", left)
    assert isinstance(open_backend(toy_model.network, graph), NumpyBackend)
    assert ("parts of it are missing" in caplog.text) == (left is not None)
    with pytest.raises(error, match=rf"{words}[\s\S]*{remedy}"):
        open_backend(toy_model.network, graph, backend="onnxruntime")
    for backend in ("auto", "onnxruntime"):
        with pytest.raises(DeviceError, match=r"cannot be imported[\s\S]*decode-zoo\[gpu\]") as e:
            open_backend(toy_model.network, graph, backend=backend, device="cuda")
        assert e.value.exit_code == 6


SESSION = """
import os, sys, time
from pathlib import Path
if sys.argv[1] == "ours":
    from decode_zoo.networks.backends import OnnxBackend
    OnnxBackend(Path(sys.argv[2]), "cpu")
else:
    import onnxruntime
    onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
time.sleep(float(sys.argv[3]))
os._exit(0)  # at a usual end events could be sent
"""


@pytest.mark.fault
@pytest.mark.slow
def test_onnxruntime_tells_nobody_what_runs(graph, tmp_path):
    """Some builds keep a device id and events in the home, and send those ten seconds later.

    Where a session of ONNX Runtime's own is seen to open these files at once, one without them has
    nothing to send; where it opens none, sockets are watched for longer than ten seconds.
    """
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    strace, trace = shutil.which("strace"), tmp_path / "trace"
    watched = [strace, "-f", "-e", "trace=socket", "-o", trace] if strace else []

    def kept(whose, seconds):
        home = tmp_path / whose
        home.mkdir()
        command = [*watched, sys.executable, "-c", SESSION, whose, graph, str(seconds)]
        subprocess.run(command, env={**environ, "HOME": str(home)}, check=True)
        return list(home.rglob("*"))

    assert not kept("ours", 1 if kept("its own", 0) else 14)
    assert "AF_INET" not in (trace.read_text() if strace else "")


def test_a_damaged_graph_is_no_fault_of_the_device(graph, tmp_path, monkeypatch):
    """CUDA is pretended: its sessions always fail."""
    session = onnxruntime.InferenceSession

    def open_session(path, options, providers):
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError("no driver")
        return session(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(DeviceError, match="no driver"):
        OnnxBackend(graph, "cuda")
    assert open_backend(None, graph, device="auto").name == "onnxruntime-cpu"
    (tmp_path / "model.onnx").write_bytes(graph.read_bytes()[:1000])
    for device in ("cuda", "auto", "cpu"):
        with pytest.raises(VerificationError, match=r"model\.onnx cannot be loaded") as error:
            open_backend(None, tmp_path / "model.onnx", device=device)
        assert error.value.exit_code == 5


def test_what_a_graph_cannot_compute_is_refused(graph):
    backend, sizes = OnnxBackend(graph, "cpu"), {"promoter": 12, "rna": 9}
    for value, more, words in ((np.inf, 0, "not finite"), (1, 1, "cannot be run by onnxruntime")):
        block = {side: np.full((1, 3, n + more), value, np.float32) for side, n in sizes.items()}
        with pytest.raises(VerificationError, match=words):
            backend.run(block)
