"""Graphs are looked at before a session is made: what a network does not need is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decode_zoo as dz
from decode_zoo.errors import VerificationError
from decode_zoo.files import sha256_of
from decode_zoo.graph import MAX_GRAPH_BYTES, read_graph
from decode_zoo.manifest import fingerprint_of
from decode_zoo.runtime import OnnxBackend
from tests.fuzz.targets import shrink

onnx = pytest.importorskip("onnx")
Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def model():
    return dz.load("gtex-tissue-decode-v1")


@pytest.fixture(scope="module")
def graph(model) -> Path:
    return model.locate("model.onnx")


@pytest.fixture
def changed(graph, tmp_path) -> Callable[[Change], Path]:
    def write(change: Change) -> Path:
        content = onnx.load(str(graph))
        change(content)
        path = tmp_path / "model.onnx"
        path.write_bytes(content.SerializeToString())
        return path

    return write


def test_the_published_graph_says_what_the_manifest_says(model, graph):
    found = read_graph(graph)
    assert found.output_names == tuple(model.outputs)
    assert found.metadata["id"] == model.id
    for side, shape in found.inputs.items():
        assert shape == ("batch", f"{side}_bins", 1 + len(model.manifest.inputs[side].tracks))
    assert found.outputs == {"prediction": ("batch", 54)}


def test_the_reader_agrees_with_onnx(graph):
    content = onnx.load(str(graph))
    found = read_graph(graph)
    assert found.metadata == {item.key: item.value for item in content.metadata_props}
    assert found.content == graph.read_bytes()


# -- hostile graphs --------------------------------------------------------------------------------


def external(m):
    array = m.graph.initializer[2]
    array.ClearField("raw_data")
    array.data_location = onnx.TensorProto.EXTERNAL
    array.external_data.add(key="location", value="../../../../etc/passwd")


def external_without_a_flag(m):
    m.graph.initializer[2].external_data.add(key="location", value="weights.bin")


def custom_operator(m):
    m.graph.node[3].domain = "com.example"


def custom_domain(m):
    m.opset_import.add(domain="com.microsoft", version=1)


def operator(name: str) -> Change:
    def change(m):
        m.graph.node[3].op_type = name

    return change


def opset(version: int) -> Change:
    def change(m):
        m.opset_import[0].version = version

    return change


def two_opsets(m):
    m.opset_import.add(domain="ai.onnx", version=18)


def function(m):
    m.functions.add(name="Conv", domain="")


def training_steps(m):
    m.training_info.add()


def sparse_array(m):
    m.graph.sparse_initializer.add().dims.extend([10**9, 10**9])


def subgraph(m):
    attribute = m.graph.node[3].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.name = "inner"


def array_in_a_node(m):
    attribute = m.graph.node[3].attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.dims.extend([2**40])


def array_dims(*dims: int) -> Change:
    def change(m):
        m.graph.initializer[2].dims[:] = dims

    return change


def array_of_texts(m):
    m.graph.initializer[0].data_type = onnx.TensorProto.STRING


def array_in_fields(m):
    array = m.graph.initializer[0]
    array.ClearField("raw_data")
    array.float_data.extend([1.0] * 476)


def large_padding(m):
    conv = next(node for node in m.graph.node if node.op_type == "Conv")
    conv.attribute.add(name="pads", type=onnx.AttributeProto.INTS, ints=[0, 10**12, 0, 10**12])


def many_nodes(m):
    for _ in range(2000):
        m.graph.node.add(op_type="Relu", input=["rna"], output=["x"])


def renamed_input(m):
    m.graph.input[0].name = "dna"


def weights_as_inputs(m):
    m.graph.initializer[0].name = "rna"


def one_more_input(m):
    m.graph.input.add().CopyFrom(m.graph.input[0])
    m.graph.input[-1].name = "secret"


def one_more_output(m):
    m.graph.output.add().CopyFrom(m.graph.output[0])
    m.graph.output[-1].name = "secret"


def input_of_doubles(m):
    m.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def fixed_batch(m):
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7


def open_channels(m):
    m.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "channels"


def flat_output(m):
    del m.graph.output[0].type.tensor_type.shape.dim[0]


def no_graph(m):
    m.ClearField("graph")


def one_key_twice(m):
    m.metadata_props.add(key="id", value="other-v1")


# Steps put behind the network; what it gives is 'pre' there.


def behind(*steps: tuple[object, ...], **arrays: object) -> Change:
    """Add steps (operator, inputs, output, attributes) that end in the prediction."""

    def change(m):
        from onnx import helper, numpy_helper

        m.graph.node[-1].output[0] = "pre"
        for name, values in arrays.items():
            m.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        for operator, inputs, output, *attributes in steps:
            node = helper.make_node(operator, inputs.split(), [output], **dict(*attributes))
            m.graph.node.append(node)

    return change


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


END = ("Add", "pre last", "prediction")
BOMBS = {
    "an outer product of arrays": (
        behind(
            ("Add", "a b", "large"),
            ("ReduceSum", "large axes", "last"),
            END,
            a=floats(9000, 1),
            b=floats(1, 9000),
            axes=[0, 1],
        ),
        "is of neither",
    ),
    "an outer product with the genes": (
        behind(
            ("Unsqueeze", "pre axis", "deep"),
            ("Add", "deep a", "large"),
            ("ReduceSum", "large axis", "last", {"keepdims": 0}),
            END,
            a=floats(1, 1, 9000),
            axis=[2],
        ),
        "more numbers than",
    ),
    "genes doubled twenty times": (
        behind(
            ("Concat", "pre pre", "c0", {"axis": 0}),
            *(("Concat", f"c{i} c{i}", f"c{i + 1}", {"axis": 0}) for i in range(19)),
            ("Add", "pre c19", "prediction"),
        ),
        "not used as a network would",
    ),
    "columns doubled twenty times": (
        behind(
            ("Concat", "pre pre", "c0", {"axis": 1}),
            *(("Concat", f"c{i} c{i}", f"c{i + 1}", {"axis": 1}) for i in range(19)),
            ("ReduceSum", "c19 axis", "last", {"keepdims": 1}),
            END,
            axis=[1],
        ),
        "more numbers than",
    ),
    "genes against genes": (
        behind(
            ("Unsqueeze", "pre first", "a"),
            ("Unsqueeze", "pre second", "b"),
            ("Add", "a b", "large"),
            ("ReduceSum", "large first", "last", {"keepdims": 0}),
            END,
            first=[0],
            second=[1],
        ),
        "mixes genes",
    ),
    "bins against bins": (
        behind(
            ("Unsqueeze", "rna one", "a"),
            ("Unsqueeze", "rna two", "b"),
            ("Add", "a b", "large"),
            ("ReduceSum", "large all", "last", {"keepdims": 0}),
            END,
            one=[1],
            two=[2],
            all=[1, 2, 3],
        ),
        "mixes genes, or bins",
    ),
    "a sum over genes": (
        behind(("ReduceSum", "pre axis", "last", {"keepdims": 1}), END, axis=[0]),
        "mixes genes",
    ),
    "a square": (behind(("Mul", "pre pre", "prediction")), "not used as a network would"),
    "a quotient": (behind(("Div", "pre pre", "prediction")), "not used as a network would"),
    "a division by the genes": (
        behind(("Div", "a pre", "prediction"), a=floats(54)),
        "not used as a network would",
    ),
    "a bound that depends on the genes": (
        behind(("Min", "pre pre", "prediction")),
        "not used as a network would",
    ),
    "a matrix made of the genes": (
        behind(("MatMul", "a pre", "prediction"), a=floats(54, 54)),
        "not used as a network would",
    ),
    "a convolution with steps": (
        lambda m: m.graph.node[3].attribute[0].ints.__setitem__(0, 2),
        "not used as a network",
    ),
    "padding": (
        lambda m: m.graph.node[3].attribute.add(
            name="pads", type=onnx.AttributeProto.INTS, ints=[0, 50, 0, 50]
        ),
        "not used as a network would",
    ),
    "padding by name": (
        lambda m: m.graph.node[3].attribute.add(
            name="auto_pad", type=onnx.AttributeProto.STRING, s=b"SAME_UPPER"
        ),
        "attribute that is not allowed, 'auto_pad'",
    ),
    "an attribute twice": (
        lambda m: m.graph.node[3].attribute.append(m.graph.node[3].attribute[0]),
        "two attributes",
    ),
    "a result of nothing": (behind(("Relu", "ghost", "last"), END), "which nothing makes"),
    "a result twice": (behind(("Relu", "pre", "pre"), END), "one new result"),
    "an array in place of a result": (
        behind(END, value5=floats(54), last=floats(54)),
        "one new result",
    ),
    "an array twice": (
        lambda m: m.graph.initializer.append(m.graph.initializer[0]),
        "two arrays",
    ),
    "two results of one node": (
        lambda m: m.graph.node[3].output.append("more"),
        "one new result",
    ),
    "columns that nodes do not make": (
        lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 55),
        "do not make a prediction of 55 columns",
    ),
    "no prediction": (
        lambda m: m.graph.node[-1].output.__setitem__(0, "pre"),
        "do not make a prediction",
    ),
    "a node of megabytes": (
        lambda m: setattr(m.graph.node[3], "doc_string", "x" * (1 << 20)),
        "more than 4096 bytes",
    ),
}


HOSTILE = BOMBS | {
    "weights in another file": (external, "another file"),
    "weights in another file, unflagged": (external_without_a_flag, "another file"),
    "a custom operator": (custom_operator, "custom operator"),
    "a custom domain": (custom_domain, "another maker"),
    "a loop": (operator("Loop"), "not allowed, 'Loop'"),
    "a branch": (operator("If"), "not allowed"),
    "an operator that makes large arrays": (operator("Expand"), "not allowed"),
    "a random operator": (operator("RandomNormal"), "not allowed"),
    "an unknown operator": (operator("Frobnicate"), "not allowed"),
    "an old operator set": (opset(7), r"operator set is \[7\]"),
    "a future operator set": (opset(99), r"operator set is \[99\]"),
    "two operator sets": (two_opsets, "operator set is"),
    "a function of its own": (function, "functions"),
    "training steps": (training_steps, "training steps"),
    "a sparse array": (sparse_array, "sparse"),
    "a subgraph": (subgraph, "graph inside"),
    "an array in a node": (array_in_a_node, "arrays or a graph inside"),
    "an array of terabytes": (array_dims(1 << 20, 1 << 20), "not as long as its shape"),
    "an array of negative size": (array_dims(-1, 476), "not of plain numbers"),
    "an array of negative sizes": (array_dims(-160, -476, 1, 2), "not of plain numbers"),
    "an array of fifty dimensions": (array_dims(*[1] * 50), "not of plain numbers"),
    "an array of a thousand dimensions": (array_dims(*[1] * 1000), "more parts"),
    "an array of texts": (array_of_texts, "not of plain numbers"),
    "an array in other fields": (array_in_fields, "not as long as its shape"),
    "padding of terabytes": (large_padding, "out of range"),
    "thousands of nodes": (many_nodes, "nodes"),
    "another input": (renamed_input, "not the graph of a model: it turns dna"),
    "weights that callers may replace": (weights_as_inputs, "not the graph of a model"),
    "one more input": (one_more_input, "not the graph of a model"),
    "one more output": (one_more_output, "not the graph of a model"),
    "an input of doubles": (input_of_doubles, "32-bit"),
    "a fixed number of genes": (fixed_batch, "any number of genes"),
    "any number of channels": (open_channels, "has the shape"),
    "an output of one dimension": (flat_output, "has the shape"),
    "no graph": (no_graph, "no ONNX model"),
    "one key twice": (one_key_twice, "twice"),
}


@pytest.mark.fault
@pytest.mark.parametrize("case", HOSTILE)
def test_a_graph_is_refused_before_a_session_is_made(changed, case, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a session was made")

    change, words = HOSTILE[case]
    path = changed(change)
    ort = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(ort, "InferenceSession", forbidden)
    with pytest.raises(VerificationError, match=words) as error:
        OnnxBackend(path, "cpu")
    assert str(path) in error.value.message
    assert error.value.remedy


BYTES = {
    "empty": b"",
    "text": b"hello, world",
    "a field of type 7": b"\x0f",
    "a group": b"\x0b\x0c",
    "field 0": b"\x02\x00",
    "a length past the end": b"\x3a\xff\xff\xff\xff\x0f",
    "a number without end": b"\xff" * 12,
    "a number where bytes belong": b"\x08\x08\x38\x01",
    "bytes where a number belongs": b"\x0a\x01x\x3a\x00",
    "a key of more than 32 bits": b"\x08\x08\xba\x80\x80\x80\x80\x01\x00",
    "ten million fields": b"\x10\x01" * 10_000_000,
    "two graphs": b"\x08\x08\x3a\x00\x3a\x00",
}


@pytest.mark.fault
@pytest.mark.parametrize("case", BYTES)
def test_what_is_no_protocol_buffer_is_refused(tmp_path, case):
    path = tmp_path / "model.onnx"
    path.write_bytes(BYTES[case])
    with pytest.raises(VerificationError, match="cannot be loaded as the graph of a model"):
        read_graph(path)


@pytest.mark.fault
def test_a_graph_of_gigabytes_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    with open(path, "wb") as file:
        file.truncate(MAX_GRAPH_BYTES + 1)  # sparse
    with pytest.raises(VerificationError, match="more than 64 MiB"):
        read_graph(path)


@pytest.mark.fault
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_no_graph(tmp_path):
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(VerificationError, match="is a named pipe"):
        read_graph(tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def small(graph, tmp_path_factory) -> bytes:
    """The published graph with little in its arrays, so that changes hit what matters."""
    content = onnx.load(str(graph))
    shrink(content.graph)
    data = content.SerializeToString()
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    path.write_bytes(data)
    assert read_graph(path).output_names
    return data


@pytest.mark.fault
@settings(max_examples=300)
@given(st.data())
def test_no_change_of_a_graph_does_anything_but_fail_cleanly(small, tmp_path_factory, data):
    mutated = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        piece = data.draw(st.binary(max_size=6))
        mutated[place : place + data.draw(st.integers(0, 6))] = piece
    path = tmp_path_factory.mktemp("fuzz") / "model.onnx"
    path.write_bytes(bytes(mutated))
    try:
        found = read_graph(path)
        assert set(found.inputs) == {"promoter", "rna"}
        assert found.output_names is None or found.output_names
    except VerificationError as error:
        assert len(str(error)) < 2000  # noqa: PT017


# -- the graph and its manifest --------------------------------------------------------------------


@pytest.fixture
def bundle(model, tmp_path) -> Callable[..., dz.Model]:
    """A bundle with a changed graph or manifest that vouches for it: only its sense is wrong."""

    def write(change: Change | None = None, **values: object) -> dz.Model:
        folder = tmp_path / "m"
        folder.mkdir()
        for name in ("manifest.json", "weights.npz", "model.onnx"):
            shutil.copy(model.locate(name), folder / name)
        if change is not None:
            content = onnx.load(str(folder / "model.onnx"))
            change(content)
            (folder / "model.onnx").write_bytes(content.SerializeToString())
        manifest = json.loads((folder / "manifest.json").read_bytes()) | values
        manifest["files"]["model.onnx"] = sha256_of(folder / "model.onnx")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return dz.load(folder)

    return write


def tell(key: str, value: str) -> Change:
    def change(m):
        kept = [item for item in m.metadata_props if item.key != key]
        del m.metadata_props[:]
        m.metadata_props.extend(kept)
        m.metadata_props.add(key=key, value=value)

    return change


def resize(m, old: int, new: int) -> None:
    """Change one size wherever it occurs, so that the graph still fits together."""
    for array in m.graph.initializer:
        if old in array.dims:
            array.dims[:] = [new if size == old else size for size in array.dims]
            array.raw_data = bytes(4 * int(np.prod(array.dims)))
    for value in (*m.graph.input, *m.graph.output):
        size = value.type.tensor_type.shape.dim[-1]
        size.dim_value = new if size.dim_value == old else size.dim_value


def more_channels(m):
    resize(m, 476, 477)


def fewer_outputs(m):
    resize(m, 54, 53)


def other_weights(m):
    array = max(m.graph.initializer, key=lambda item: len(item.raw_data))
    array.raw_data = np.frombuffer(array.raw_data, np.float32)[::-1].tobytes()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (tell("outputs", '["a"]'), "other outputs"),
        (tell("id", "other-v1"), "other id"),
        (tell("fingerprint", "0" * 64), "other fingerprint"),
        (more_channels, "other rna channels"),
        (fewer_outputs, "other outputs"),
    ],
)
def test_a_graph_of_another_manifest_is_refused(bundle, change, words):
    with pytest.raises(VerificationError, match=f"{words} than the manifest") as error:
        bundle(change).backend("onnxruntime", "cpu")
    assert "mixed up" in str(error.value)


@pytest.mark.fault
def test_a_graph_with_other_weights_is_refused_without_any_features(bundle):
    with pytest.raises(VerificationError, match=r"graph and the weights .* different networks"):
        bundle(other_weights).backend("onnxruntime", "cpu")


def added(m, *, weight: float) -> None:
    """Add the bases of one track, however little each counts."""
    behind(
        ("ReduceSum", "rna bins", "sums", {"keepdims": 0}),
        ("MatMul", "sums w", "last"),
        END,
        bins=[1],
        w=(np.arange(476)[:, None] == 77) * np.full((1, 54), weight, np.float32),
    )(m)


def waker(m) -> None:
    """Let a hidden unit sleep but for genes with a great many sites."""
    arrays = {array.name: array for array in m.graph.initializer}
    for name, value in (("array13", -2e3), ("array16", 1.0)):
        values = np.frombuffer(arrays[name].raw_data, np.float32).copy()
        values[0] = value
        arrays[name].raw_data = values.tobytes()


@pytest.mark.fault
@pytest.mark.parametrize("weight", [1e-2, 1e-4])
def test_a_graph_that_adds_a_little_to_the_network_is_refused(bundle, weight):
    with pytest.raises(VerificationError, match="of different networks"):
        bundle(lambda m: added(m, weight=weight)).backend("onnxruntime", "cpu")


@pytest.mark.fault
def test_a_graph_that_differs_for_large_genes_only_is_refused(bundle):
    with pytest.raises(VerificationError, match="of different networks"):
        bundle(waker).backend("onnxruntime", "cpu")


MORE_STEPS = {
    "a unit that wakes on large sums": behind(
        ("ReduceSum", "rna both", "sum", {"keepdims": 0}),
        ("Add", "sum low", "over"),
        ("Relu", "over", "unit"),
        ("Mul", "unit little", "some"),
        ("Unsqueeze", "some one", "last"),
        END,
        both=[1, 2],
        low=np.float32([-1e5]),
        little=np.float32([1e-4]),
        one=[1],
    ),
    "one more ReLU": behind(("Relu", "pre", "prediction")),
    "a square root": behind(("Sqrt", "pre", "prediction")),
    "a bound": behind(("Min", "pre high", "prediction"), high=np.float32(1.0)),
    "one ReLU less": lambda m: setattr(m.graph.node[22], "op_type", "Identity"),
    "a square root for a ReLU": lambda m: setattr(m.graph.node[22], "op_type", "Sqrt"),
}


@pytest.mark.fault
@pytest.mark.parametrize("case", MORE_STEPS)
def test_a_graph_bends_where_its_family_does_and_nowhere_else(bundle, case, monkeypatch):
    opened = bundle(MORE_STEPS[case])
    ort = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(ort, "InferenceSession", None)  # it must not come to that
    with pytest.raises(VerificationError, match="has other steps that are not linear"):
        opened.backend("onnxruntime", "cpu")


def test_where_a_graph_bends_is_what_its_configuration_says(model, graph):
    config = model.manifest.network
    channels = {"rna": 3, "promoter": 4}
    assert read_graph(graph).nonlinear == config.nonlinear(channels) == (("Relu", 160),) * 2
    bent = replace(config, conv_relu=True, full_relu=False, rna_channels=7, promoter_layers=1)
    assert bent.nonlinear(channels) == (("Relu", 7), ("Relu", 7), ("Relu", 120))


def test_the_published_graph_agrees_whatever_genes_are_made_up(model):
    for _ in range(30):
        model._check_agreement(model.backend("onnxruntime", "cpu"))


@pytest.mark.fault
@pytest.mark.parametrize("side", ["promoter", "rna"])
def test_tracks_in_another_order_are_found_by_the_fingerprint(model, bundle, side):
    manifest = json.loads(model.locate("manifest.json").read_bytes())
    tracks = manifest["inputs"][side]["tracks"]
    tracks[0], tracks[1] = tracks[1], tracks[0]
    with pytest.raises(VerificationError, match="those of its fingerprint"):
        bundle(inputs=manifest["inputs"], fingerprint=model.manifest.fingerprint)


def test_a_fingerprint_is_optional_and_kept(model, bundle):
    assert bundle(fingerprint=model.manifest.fingerprint).manifest.outputs == model.manifest.outputs
    written = json.loads(model.manifest.to_json())
    assert written["fingerprint"] == model.manifest.fingerprint
    assert "fingerprint" not in json.loads(model.locate("manifest.json").read_bytes())


def test_fingerprints_tell_order_and_place_apart():
    names = [["a", "b"], {"promoter": ["c"], "rna": ["d"]}]
    others = [
        (["b", "a"], {"promoter": ["c"], "rna": ["d"]}),
        (["a"], {"promoter": ["b", "c"], "rna": ["d"]}),
        (["a", "b"], {"promoter": ["c", "d"], "rna": []}),
        (["a", "b"], {"promoter": ["d"], "rna": ["c"]}),
        (["ab"], {"promoter": ["c"], "rna": ["d"]}),
    ]
    assert len({fingerprint_of(*names), *(fingerprint_of(*other) for other in others)}) == 6
