"""Back ends: same digits, same bits whatever the neighbours, strict devices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest

import decode_zoo as dz
from decode_zoo.errors import DeviceError, MissingExtraError, UsageError, VerificationError
from decode_zoo.runtime import BLOCK, NumpyBackend, OnnxBackend, open_backend

onnxruntime = pytest.importorskip("onnxruntime")
BACKENDS = ["numpy", "onnxruntime"]


@pytest.fixture(scope="module")
def model():
    return dz.load("gtex-tissue-decode-v1")


@pytest.fixture(scope="module")
def rows(model):
    """A thousand genes from all over the genome, in no order."""
    return np.random.default_rng(0).permutation(len(model.features))[:1000]


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
    from decode_zoo import runtime

    bound = model.bind()
    expected = model.predict_rows(rows[:300], bound, model.backend("onnxruntime", "cpu"))
    monkeypatch.setattr(runtime, "allowed_cores", lambda: threads)
    other = runtime.OnnxBackend(model.locate("model.onnx"), "cpu")
    np.testing.assert_array_equal(model.predict_rows(rows[:300], bound, other), expected)


def test_full_matrices_and_position_sums_agree_in_every_back_end(model):
    """The same graph takes a gene's hundreds of bins or its three sums."""
    features, bound = model.features, model.bind()
    if not (features_with_positions(features)):
        pytest.skip("no positions (sites.npz)")
    lengths = np.array(features.rows.rna_lengths)
    rows = np.concatenate([np.argsort(lengths)[[0, 5, 30000, -200, -1]], [100, 2000, 41000]])
    scale = np.array([output.scale for output in model.manifest.outputs])
    network = model.network
    for row in rows:
        full = bound.full(np.array([row]))
        sums = {
            side: features.pooled(
                [features.rows.ids[row]],
                side,
                kernel=bound.kernels[side],
                tracks=[track.name for track in model.manifest.inputs[side].tracks],
            )
            for side in ("promoter", "rna")
        }
        exact = network.forward(full)
        assert np.abs((network.forward(sums) - exact) / scale).max() <= 1e-10
        for name in BACKENDS:
            backend = model.backend(name, "cpu")
            if name == "onnxruntime":  # the NumPy back end is folded: it takes sums only
                assert np.abs((backend.run(full) - exact) / scale).max() <= 1e-4
            assert np.abs((backend.run(sums) - exact) / scale).max() <= 1e-5


def features_with_positions(features) -> bool:
    try:
        return features.locate("sites.npz").is_file()
    except dz.DecodeZooError:
        return False


def test_cuda_is_strict(model):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(DeviceError, match="CUDA was asked for"):
        model.backend("onnxruntime", "cuda")
    with pytest.raises(UsageError, match="CPU only"):
        model.backend("numpy", "cuda")


def test_without_onnxruntime_numpy_answers(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    graph = model.locate("model.onnx")
    assert isinstance(open_backend(model.network, graph), NumpyBackend)
    with pytest.raises(MissingExtraError, match=r"decode-zoo\[cpu\]"):
        open_backend(model.network, graph, backend="onnxruntime")
    for backend in ("auto", "onnxruntime"):
        with pytest.raises(
            DeviceError, match=r"cannot be imported[\s\S]*decode-zoo\[gpu\]"
        ) as error:
            open_backend(model.network, graph, backend=backend, device="cuda")
        assert error.value.exit_code == 6


@pytest.mark.fault
def test_what_is_left_of_onnxruntime_is_not_used(model, monkeypatch, caplog):
    """Two packages bring the module; removing one leaves it empty."""
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    graph = model.locate("model.onnx")
    assert isinstance(open_backend(model.network, graph), NumpyBackend)
    assert "parts of it are missing" in caplog.text
    with pytest.raises(UsageError, match=r"missing[\s\S]*pip uninstall -y onnxruntime"):
        open_backend(model.network, graph, backend="onnxruntime")
    with pytest.raises(DeviceError, match="missing"):
        open_backend(model.network, graph, device="cuda")


@pytest.mark.fault
@pytest.mark.slow
def test_onnxruntime_tells_nobody_what_runs(graph, tmp_path):
    """Some builds send events ten seconds after the first session, and keep them in the home."""
    code = """
        import sys, time
        from pathlib import Path
        from decode_zoo.runtime import OnnxBackend
        OnnxBackend(Path(sys.argv[1]), "cpu")
        time.sleep(float(sys.argv[2]))
        """
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    strace, trace = shutil.which("strace"), tmp_path / "trace"
    watched = [strace, "-f", "-e", "trace=socket", "-o", trace] if strace else []
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(
        [*watched, sys.executable, "-c", textwrap.dedent(code), graph, "14" if strace else "1"],
        env={**environ, "HOME": str(home)},
        check=True,
    )
    assert not any(home.rglob("*"))
    assert "AF_INET" not in (trace.read_text() if strace else "")


@pytest.fixture
def graph(toy) -> Path:
    return toy / "models/toy-decode-v1/model.onnx"


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999])
def test_a_damaged_graph_is_named(graph, tmp_path, kept):
    data = graph.read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(VerificationError, match=r"model\.onnx cannot be loaded") as error:
        OnnxBackend(path, "cpu")
    assert str(path) in error.value.message
    assert error.value.exit_code == 5


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
    for device in ("cuda", "auto"):
        with pytest.raises(VerificationError, match="cannot be loaded"):
            open_backend(None, tmp_path / "model.onnx", device=device)


def test_a_graph_tells_its_outputs(graph, tmp_path):
    onnx = pytest.importorskip("onnx")
    backend = OnnxBackend(graph, "cpu")
    assert backend.providers == ("CPUExecutionProvider",)
    names = backend.outputs
    assert len(names) == 3
    assert names[-1] == "median_log2_tpm"

    def changed(change) -> Path:
        content = onnx.load(str(graph))
        change(content)
        onnx.save(content, str(tmp_path / "model.onnx"))
        return tmp_path / "model.onnx"

    def tell(text):
        def change(content):
            kept = [item for item in content.metadata_props if item.key != "outputs"]
            del content.metadata_props[:]
            content.metadata_props.extend(kept)
            if text is not None:
                content.metadata_props.add(key="outputs", value=text)

        return change

    assert OnnxBackend(changed(tell(None)), "cpu").outputs is None
    assert OnnxBackend(changed(tell('["a", "b"]')), "cpu").outputs == ("a", "b")
    for text in ("Liver", '"Liver"', "[1]", '{"a": 1}'):
        with pytest.raises(VerificationError, match="no list of names"):
            OnnxBackend(changed(tell(text)), "cpu")
