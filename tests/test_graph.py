"""Graphs are looked at before a session is made, and must be the network of the bundle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decode_zoo as dz
from decode_zoo.core.errors import VerificationError
from decode_zoo.core.files import sha256_of
from decode_zoo.networks.backends import OnnxBackend
from decode_zoo.networks.forward import check_agreement, check_graph
from decode_zoo.networks.manifest import fingerprint_of
from decode_zoo.networks.onnx import MAX_GRAPH_BYTES, check_with_onnx, read_graph

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def model(toy_models):
    return toy_models["decode"]


@pytest.fixture(scope="module")
def graph(model) -> Path:
    return model.locate("model.onnx")


def write_changed(graph: Path, change: Change, path: Path) -> Path:
    content = onnx.load(str(graph))
    change(content)
    path.write_bytes(content.SerializeToString())
    return path


@pytest.fixture
def changed(graph, tmp_path) -> Callable[[Change], Path]:
    return lambda change: write_changed(graph, change, tmp_path / "model.onnx")


@pytest.fixture
def bundle(model, tmp_path, toy_zoo) -> Callable[..., dz.Model]:
    """A bundle with a changed graph or manifest that vouches for it: only its sense is wrong."""

    def write(change: Change | None = None, of: dz.Model = model, **values: object) -> dz.Model:
        folder = tmp_path / "m"
        folder.mkdir()
        for name in ("manifest.json", "weights.npz", "model.onnx"):
            shutil.copy(of.locate(name), folder / name)
        if change is not None:
            write_changed(of.locate("model.onnx"), change, folder / "model.onnx")
        manifest = json.loads((folder / "manifest.json").read_bytes()) | values
        manifest["files"]["model.onnx"] = sha256_of(folder / "model.onnx")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return dz.load(folder)

    return write


def tell(key: str, text: str | None) -> Change:
    """Change what the metadata say, or leave it out."""

    def change(m):
        kept = [item for item in m.metadata_props if item.key != key]
        del m.metadata_props[:]
        m.metadata_props.extend(kept)
        if text is not None:
            m.metadata_props.add(key=key, value=text)

    return change


def test_a_graph_is_read_as_it_is_and_says_what_the_manifest_says(model, graph, changed):
    assert read_graph(graph) == graph.read_bytes()
    found = OnnxBackend(graph, "cpu")
    content = onnx.load(str(graph))
    assert found.metadata == {item.key: item.value for item in content.metadata_props}
    assert found.outputs == tuple(model.outputs)
    assert (found.channels, found.n_outputs) == ({"promoter": 12, "rna": 9}, 3)
    assert found.providers == ("CPUExecutionProvider",)
    assert "valid ONNX" in check_with_onnx(graph)
    assert OnnxBackend(changed(tell("outputs", None)), "cpu").outputs is None


# -- refused before a session is made, or by what the open session says --------------------------


def external(m):
    array = m.graph.initializer[2]
    array.ClearField("raw_data")
    array.data_location = onnx.TensorProto.EXTERNAL
    array.external_data.add(key="location", value="../../../../etc/passwd")


FOREIGN, INSIDE = "not of the ONNX standard", "arrays or a graph inside"
HOSTILE: dict[str, tuple[Change, str]] = {
    "weights in another file": (external, "another file"),
    "weights in another file, unflagged": (
        lambda m: m.graph.initializer[2].external_data.add(key="location", value="weights.bin"),
        "another file",
    ),
    "an operator": (lambda m: setattr(m.graph.node[3], "domain", "com.example"), FOREIGN),
    "a domain": (lambda m: m.opset_import.add(domain="com.microsoft", version=1), FOREIGN),
    "a function of its own": (lambda m: m.functions.add(name="Conv", domain=""), "functions"),
    "training steps": (lambda m: m.training_info.add(), "training steps"),
    "a sparse array": (lambda m: m.graph.sparse_initializer.add(), "sparse"),
    "a graph": (lambda m: m.graph.node[3].attribute.add(name="x").g.SetInParent(), INSIDE),
    "graphs": (lambda m: m.graph.node[3].attribute.add(name="x").graphs.add(), INSIDE),
    "an array": (lambda m: m.graph.node[3].attribute.add(name="x").t.SetInParent(), INSIDE),
    "arrays": (lambda m: m.graph.node[3].attribute.add(name="x").tensors.add(), INSIDE),
    "sparse": (lambda m: m.graph.node[3].attribute.add(name="x").sparse_tensors.add(), INSIDE),
    "many nodes": (lambda m: m.graph.node.extend([m.graph.node[3]] * 10_000), "more parts than"),
}


def value(kind: str, changes: Callable[[Any], object]) -> Change:
    """Change the type of the first input or output."""
    return lambda m: changes(getattr(m.graph, kind)[0].type.tensor_type)


def one_more(kind: str) -> Change:
    def change(m):
        array = onnx.numpy_helper.from_array(np.zeros((1, 1), np.float32), "constant")
        m.graph.initializer.append(array)
        values = getattr(m.graph, kind)
        values.add().CopyFrom(values[0])
        values[-1].name = "secret"
        if kind == "output":
            m.graph.node.add(op_type="Identity", input=["constant"], output=["secret"])

    return change


def renamed(m):
    for part in m.graph.input:
        part.name = part.name.replace("rna", "dna")
    for part in m.graph.node:
        part.input[:] = ["dna" if name == "rna" else name for name in part.input]


def flat_output(m):
    m.graph.node[-1].output[0] = "pre"
    m.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    m.graph.node.add(op_type="ReduceSum", input=["pre", "axes"], output=["prediction"])
    m.graph.node[-1].attribute.add(name="keepdims", type=onnx.AttributeProto.INT, i=0)
    del m.graph.output[0].type.tensor_type.shape.dim[1]


BY_RUNTIME, ANY = "cannot be loaded by ONNX Runtime", "any number of genes"
ODD: dict[str, tuple[Change, str]] = {
    "no graph": (lambda m: m.ClearField("graph"), BY_RUNTIME),
    "an unknown operator": (lambda m: setattr(m.graph.node[3], "op_type", "Frobni"), BY_RUNTIME),
    "a future operator set": (lambda m: setattr(m.opset_import[0], "version", 99), BY_RUNTIME),
    "an array of terabytes": (
        lambda m: m.graph.initializer[2].dims.__setitem__(slice(None), [1 << 20, 1 << 20]),
        BY_RUNTIME,
    ),
    "many dimensions": (  # packed or not, as the library of onnx has it
        lambda m: m.graph.initializer[2].dims.extend([1] * 10_000),
        "cannot be loaded",
    ),
    "another input": (renamed, "it turns .*dna.* into prediction"),
    "one more input": (one_more("input"), "it turns .*secret"),
    "one more output": (one_more("output"), "'secret' is a tensor"),
    "replaced weights": (lambda m: setattr(m.graph.initializer[0], "name", "rna"), "model.onnx"),
    "doubles": (
        value("input", lambda x: setattr(x, "elem_type", onnx.TensorProto.DOUBLE)),
        r"cannot be loaded by|is a tensor\(double\)",
    ),
    "seven genes": (value("input", lambda x: setattr(x.shape.dim[0], "dim_value", 7)), ANY),
    "any channels": (value("input", lambda x: setattr(x.shape.dim[2], "dim_param", "x")), ANY),
    "an output of one dimension": (flat_output, "'prediction' is a tensor.*of shape"),
    **{
        f"outputs that are {text}": (tell("outputs", text), "no list of names")
        for text in ("Liver", "[1]", '{"a": 1}')
    },
}


@pytest.mark.fault
@pytest.mark.parametrize("case", [*HOSTILE, *ODD])
def test_a_graph_that_is_not_of_a_model_is_refused(changed, case, monkeypatch):
    change, words = (HOSTILE | ODD)[case]
    path = changed(change)
    if case in HOSTILE:  # before a session is made
        monkeypatch.setattr(ort, "InferenceSession", None)
    with pytest.raises(VerificationError, match=words) as error:
        OnnxBackend(path, "cpu")
    assert str(path) in error.value.message


BYTES = {
    "a field of type 7": b"\x0f",
    "a group": b"\x0b\x0c",
    "field 0": b"\x02\x00",
    "a length past the end": b"\x3a\xff\xff\xff\xff\x0f",
    "a number without end": b"\xff" * 12,
    "a number where bytes belong": b"\x08\x08\x38\x01",
    "a key of more than 32 bits": b"\x08\x08\xba\x80\x80\x80\x80\x01\x00",
    "ten million fields": b"\x10\x01" * 10_000_000,
}


@pytest.mark.fault
@pytest.mark.parametrize("case", BYTES)
def test_what_is_no_protocol_buffer_is_refused(tmp_path, case):
    path = tmp_path / "model.onnx"
    path.write_bytes(BYTES[case])
    with pytest.raises(VerificationError, match="cannot be loaded as the graph of a model"):
        read_graph(path)


@pytest.mark.fault
def test_gigabytes_and_pipes_are_refused_unread(tmp_path):
    path = tmp_path / "model.onnx"
    with open(path, "wb") as file:
        file.truncate(MAX_GRAPH_BYTES + 1)  # sparse
    with pytest.raises(VerificationError, match="more than 64 MiB"):
        read_graph(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(VerificationError, match="is a named pipe"):
            read_graph(tmp_path / "pipe")


@pytest.mark.fault
@settings(max_examples=300)
@given(st.data())
def test_no_change_of_a_graph_does_anything_but_fail_cleanly(graph, tmp_path_factory, data):
    mutated = bytearray(graph.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        piece = data.draw(st.binary(max_size=6))
        mutated[place : place + data.draw(st.integers(0, 6))] = piece
    path = tmp_path_factory.mktemp("fuzz") / "model.onnx"
    path.write_bytes(bytes(mutated))
    try:
        found = OnnxBackend(path, "cpu")
        assert set(found.channels) == {"promoter", "rna"}
        assert found.outputs is None or found.outputs
    except VerificationError as error:
        assert str(path) in str(error)  # noqa: PT017


@pytest.mark.fault
def test_a_graph_that_onnx_refuses_is_not_valid(changed):
    path = changed(lambda m: setattr(m.graph.node[3], "op_type", "Frobnicate"))
    with pytest.raises(VerificationError, match="is not valid ONNX"):
        check_with_onnx(path)


# -- refused by what it computes -----------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"outputs": ("a",)}, "other outputs"),
        ({"outputs": ("Liver", "Lung")}, "other outputs"),
        ({"metadata": {"id": "other-v1"}}, "other id"),
        ({"metadata": {"fingerprint": "0" * 64}}, "other fingerprint"),
        ({"channels": {"promoter": 12, "rna": 10}}, "other rna channels"),
        ({"n_outputs": 2}, "other outputs"),
    ],
)
def test_a_graph_of_another_manifest_is_refused(model, graph, says, words):
    opened = OnnxBackend(graph, "cpu")
    vars(opened).update(says)
    with pytest.raises(VerificationError, match=f"{words} than the manifest") as error:
        check_graph(opened, graph, model.manifest)
    assert "mixed up" in str(error.value)


def test_what_a_graph_says_of_itself_is_compared_before_it_is_used(bundle):
    with pytest.raises(VerificationError, match="other id than the manifest"):
        bundle(tell("id", "other-v1")).backend("onnxruntime", "cpu")


def behind(*steps: tuple[object, ...], **arrays: object) -> Change:
    """Put steps (operator, inputs, output, attributes) behind the network, which gives 'pre'."""

    def change(m):
        m.graph.node[-1].output[0] = "pre"
        for name, values in arrays.items():
            m.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        for operator, inputs, output, *attributes in steps:
            node = onnx.helper.make_node(operator, inputs.split(), [output], **dict(*attributes))
            m.graph.node.append(node)

    return change


def other_weights(m):
    array = max(m.graph.initializer, key=lambda item: len(item.raw_data))
    array.raw_data = np.frombuffer(array.raw_data, np.float32)[::-1].tobytes()


def added(weight: float) -> Change:
    """Add the bases of one track, however little each counts."""
    return behind(
        ("ReduceSum", "rna bins", "sums", {"keepdims": 0}),
        ("MatMul", "sums w", "last"),
        ("Add", "pre last", "prediction"),
        bins=[1],
        w=(np.arange(9)[:, None] == 5) * np.full((1, 3), weight, np.float32),
    )


def waker(m) -> None:
    """Let a hidden unit sleep but for genes with a great many sites."""
    arrays = {array.name: array for array in m.graph.initializer}
    for name, number in (("array13", -2e3), ("array16", 1.0)):
        values = np.frombuffer(arrays[name].raw_data, np.float32).copy()
        values[0] = number
        arrays[name].raw_data = values.tobytes()


OTHERS: dict[str, Change] = {
    "other weights": other_weights,
    "a track more": added(1e-2),
    "a little of a track more": added(1e-4),
    "a unit that wakes for large genes": waker,
    "one more ReLU": behind(("Relu", "pre", "prediction")),
    "a bound": behind(("Min", "pre high", "prediction"), high=np.float32(1.0)),
    "one ReLU less": lambda m: setattr(m.graph.node[22], "op_type", "Identity"),
}


@pytest.mark.fault
@pytest.mark.parametrize("case", OTHERS)
def test_a_graph_that_is_not_the_network_is_refused_without_any_features(bundle, case):
    # A unit sleeps for usual genes only in a network of real size.
    of = {"of": dz.load("gtex-tissue-decode-v1")} if OTHERS[case] is waker else {}
    with pytest.raises(VerificationError, match=r"graph and the weights .* different networks"):
        bundle(OTHERS[case], **of).backend("onnxruntime", "cpu")


def test_a_published_graph_agrees_whatever_genes_are_made_up():
    model = dz.load("gtex-tissue-decode-v1")
    for _ in range(30):
        check_agreement(model.backend("onnxruntime", "cpu"), model.network, model.manifest)


def test_terms_that_cancel_in_a_small_network_are_no_disagreement(toy_model, monkeypatch):
    backend, made = toy_model.backend("onnxruntime", "cpu"), np.random.default_rng
    for seed in (485, 859, 1418, *range(100)):  # the first three have outputs near zero
        monkeypatch.setattr(np.random, "default_rng", partial(made, seed))
        check_agreement(backend, toy_model.network, toy_model.manifest)


# -- fingerprints --------------------------------------------------------------------------------


def test_tracks_in_another_order_are_found_by_the_fingerprint_where_there_is_one(model, bundle):
    manifest = json.loads(model.locate("manifest.json").read_bytes())
    tracks = manifest["inputs"]["rna"]["tracks"]
    tracks[0], tracks[1] = tracks[1], tracks[0]
    with pytest.raises(VerificationError, match="those of its fingerprint"):
        bundle(inputs=manifest["inputs"], fingerprint=model.manifest.fingerprint)
    old = dz.load("gtex-tissue-decode-v1")
    assert json.loads(old.manifest.to_json())["fingerprint"] == old.manifest.fingerprint
    assert "fingerprint" not in json.loads(old.locate("manifest.json").read_bytes())


def test_fingerprints_tell_order_and_place_apart():
    names = [
        (["a", "b"], {"promoter": ["c"], "rna": ["d"]}),
        (["b", "a"], {"promoter": ["c"], "rna": ["d"]}),
        (["a"], {"promoter": ["b", "c"], "rna": ["d"]}),
        (["a", "b"], {"promoter": ["c", "d"], "rna": []}),
        (["a", "b"], {"promoter": ["d"], "rna": ["c"]}),
        (["ab"], {"promoter": ["c"], "rna": ["d"]}),
    ]
    assert len({fingerprint_of(*each) for each in names}) == len(names)
