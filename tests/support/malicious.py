"""Model files from a stranger: each claims, names or does something that must not come to pass.

A row of `CASES` is how to make one in a folder, and what its error says. A path that a case needs to stay out of reach lies
beside the folder (`SECRET`).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from support.onnx_models import build, save

SECRET = np.full(12, 7, np.float32)
"""The weights that a good file would have, and what lies where no model may read."""

INPUTS, OUTPUTS = "float[N,12] x", "float[N,12] y"


@dataclass(frozen=True)
class Case:
    """One file."""

    make: Callable[[Path], onnx.ModelProto | bytes | Path]
    """Makes the file in a folder, or what is to be written there."""
    error: str
    """A part of the error's text."""


def small() -> onnx.ModelProto:
    """A model that can be served."""
    return build("y = Mul(x, w)", inputs=INPUTS, outputs=OUTPUTS, weights={"w": SECRET})


# ---- tensors in other files ------------------------------------------------------------------------------------------


def external(location: str, **entries: str) -> onnx.ModelProto:
    """A model whose weights lie elsewhere."""
    model = small()
    move(model.graph.initializer[0], {"location": location, "offset": "0", "length": str(SECRET.nbytes)} | entries)
    return model


def move(tensor: onnx.TensorProto, entries: dict[str, str]) -> None:
    """Makes a tensor external."""
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def beside(folder: Path) -> Path:
    """The secret, outside of the folder."""
    (path := folder.parent / "secret.bin").write_bytes(SECRET.tobytes())
    return path


def weights(folder: Path, content: bytes = SECRET.tobytes()) -> Path:
    """Weights as they should be."""
    (path := folder / "weights.bin").write_bytes(content)
    return path


def linked(folder: Path) -> onnx.ModelProto:
    (folder / "link.bin").symlink_to(beside(folder))
    return external("link.bin")


def linked_relatively(folder: Path) -> onnx.ModelProto:
    beside(folder)
    (folder / "link.bin").symlink_to("../secret.bin")
    return external("link.bin")


def linked_folder(folder: Path) -> onnx.ModelProto:
    beside(folder)
    (folder / "up").symlink_to("..")
    return external("up/secret.bin")


def linked_twice(folder: Path) -> onnx.ModelProto:
    linked(folder)
    (folder / "again.bin").symlink_to("link.bin")
    return external("again.bin")


def linked_in_a_circle(folder: Path) -> onnx.ModelProto:
    (folder / "link.bin").symlink_to("link.bin")
    return external("link.bin")


def linked_hard(folder: Path) -> onnx.ModelProto:
    (folder / "hard.bin").hardlink_to(beside(folder))
    return external("hard.bin")


def linked_to_memory(folder: Path) -> onnx.ModelProto:
    (folder / "link.bin").symlink_to("/proc/self/mem")
    return external("link.bin")


def fifo(folder: Path) -> onnx.ModelProto:
    os.mkfifo(folder / "pipe.bin")
    return external("pipe.bin")


def a_folder(folder: Path) -> onnx.ModelProto:
    (folder / "weights.bin").mkdir()
    return external("weights.bin")


def a_file_as_folder(folder: Path) -> onnx.ModelProto:
    weights(folder)
    return external("weights.bin/weights.bin")


def short(folder: Path) -> onnx.ModelProto:
    weights(folder, SECRET.tobytes()[:-1])
    return external("weights.bin")


def beside_with(folder: Path, **entries: str) -> onnx.ModelProto:
    weights(folder)
    return external("weights.bin", **entries)


def a_marker_that_is_there(folder: Path) -> onnx.ModelProto:
    (folder / "*/_ORT_MEM_ADDR_").mkdir(parents=True)
    (folder / "*/_ORT_MEM_ADDR_/*").write_bytes(SECRET.tobytes())
    return external("*/_ORT_MEM_ADDR_/*")


def overlapping(folder: Path) -> onnx.ModelProto:
    """A thousand tensors, each of which is the same 256 MiB."""
    with weights(folder, b"").open("wb") as file:
        file.truncate(2**28)  # a hole: takes no space
    model = small()
    for number in range(1000):
        tensor = model.graph.initializer.add(name=f"v{number}", dims=[2**26], data_type=TensorProto.FLOAT)
        move(tensor, {"location": "weights.bin"})
    return model


def external_strings(folder: Path) -> onnx.ModelProto:
    weights(folder)
    model = small()
    tensor = model.graph.initializer.add(name="s", dims=[12], data_type=TensorProto.STRING)
    move(tensor, {"location": "weights.bin"})
    return model


def external_in_a_list(folder: Path) -> onnx.ModelProto:
    weights(folder)
    model = small()
    attribute = model.graph.node[0].attribute.add(name="all", type=onnx.AttributeProto.TENSORS)
    move(attribute.tensors.add(name="t", dims=[12], data_type=TensorProto.FLOAT), {"location": "weights.bin"})
    return model


EXTERNAL = {
    "above": Case(lambda folder: beside(folder) and external("../secret.bin"), "got another place"),
    "above, after a way round": Case(lambda folder: beside(folder) and external("a/../../secret.bin"), "got another place"),
    "above and back": Case(lambda folder: external(f"../{folder.name}/weights.bin"), "got another place"),
    "absolute": Case(lambda folder: external(str(beside(folder))), "got another place"),
    "absolute, within": Case(lambda folder: external(str(weights(folder))), "got another place"),
    "a link": Case(linked, "got another place"),
    "a relative link": Case(linked_relatively, "got another place"),
    "a linked folder": Case(linked_folder, "got another place"),
    "a link to a link": Case(linked_twice, "got another place"),
    "a circle of links": Case(linked_in_a_circle, "got 'link.bin', which cannot be opened: "),
    "a hard link": Case(linked_hard, "got 'hard.bin', which has 2 hard links: copy it"),
    "a link to the memory of the process": Case(linked_to_memory, "got another place"),
    "the memory of the process": Case(lambda _: external("/proc/self/mem"), "got another place"),
    "a device": Case(lambda _: external("/dev/zero"), "got another place"),
    "a pipe": Case(fifo, "got something that is no regular file"),
    "a folder": Case(a_folder, "got 'weights.bin', which cannot be opened: Is a directory"),
    "a file as a folder": Case(a_file_as_folder, "got 'weights.bin/weights.bin', which cannot be opened: Not a directory"),
    "the folder itself": Case(lambda _: external("."), "got another place"),
    "no name": Case(lambda _: external(""), "got another place"),
    "a NUL in the name": Case(lambda _: external("weights\0.bin"), "which cannot be opened: embedded null"),
    "a name without end": Case(
        lambda _: external("a" * 5000), "expected the place of a tensor in at most 1024 characters, got 5000"
    ),
    "nothing there": Case(lambda _: external("weights.bin"), "got no file 'weights.bin'"),
    "too short": Case(short, "got 47 of 48 bytes of it in 'weights.bin'"),
    "behind the end": Case(lambda f: beside_with(f, offset="1000"), "got 0 of 48 bytes of it in 'weights.bin'"),
    "over the end": Case(lambda f: beside_with(f, offset="1"), "got 47 of 48 bytes of it in 'weights.bin'"),
    "a negative offset": Case(lambda f: beside_with(f, offset="-8"), "got the offset '-8' of the external data of 'w'"),
    "an offset that overflows": Case(lambda f: beside_with(f, offset=str(2**63)), f"got the offset '{2**63}' of the"),
    "an offset of a thousand digits": Case(lambda f: beside_with(f, offset="9" * 5000), "got the offset '9999"),
    "an offset that is no number": Case(lambda f: beside_with(f, offset="0x10"), "got the offset '0x10' of the"),
    "a negative length": Case(lambda f: beside_with(f, length="-1"), "got the length '-1' of the external data of 'w'"),
    "a length of petabytes": Case(lambda f: beside_with(f, length=str(2**60)), f"got {2**60} instead of 48 bytes"),
    "another length": Case(lambda f: beside_with(f, length="8"), "got 8 instead of 48 bytes of external data of 'w'"),
    "an attribute of the reader": Case(lambda f: beside_with(f, basepath="/"), "got 'basepath' in the external data"),
    "a dunder of the reader": Case(lambda f: beside_with(f, __class__="x"), "got '__class__' in the external data"),
    "an address": Case(lambda _: external("*/_ORT_MEM_ADDR_/*", offset="4096"), "got an address in memory"),
    "an address that is a file": Case(a_marker_that_is_there, "got an address in memory as the external data of 'w'"),
    "the same bytes a thousand times": Case(overlapping, "expected tensors of at most 16384 MiB (max_model_mib) together"),
    "strings": Case(external_strings, "got tensor 's' of strings as external data"),
    "in a list of tensors": Case(external_in_a_list, "got external data of 't' where there can be none"),
}

# ---- tensors that are not what they say ------------------------------------------------------------------------------


def tensor(*dims: int, kind: int = TensorProto.FLOAT, **fields) -> Callable[[Path], onnx.ModelProto]:
    """A model with a tensor as it is given."""

    def make(_: Path) -> onnx.ModelProto:
        model = small()
        model.graph.initializer.append(TensorProto(name="t", dims=dims, data_type=kind, **fields))
        return model

    return make


def in_a_constant(_: Path) -> onnx.ModelProto:
    """A hundred bytes that claim petabytes."""
    model = build("c = Constant<value = float[1] {7}>() y = Mul(x, c)", inputs=INPUTS, outputs=OUTPUTS)
    model.graph.node[0].attribute[0].t.dims[0] = 2**50
    return model


def sparse(_: Path) -> onnx.ModelProto:
    model = small()
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))
    return model


TENSORS = {
    "less bytes than sizes": Case(
        tensor(12, raw_data=bytes(47)), "tensor 't' of the sizes [12] with 47 instead of 48 bytes"
    ),
    "more bytes than sizes": Case(
        tensor(12, raw_data=bytes(49)), "tensor 't' of the sizes [12] with 49 instead of 48 bytes"
    ),
    "petabytes": Case(tensor(2**50), "expected tensors of at most 16384 MiB (max_model_mib) together, got more: 't'"),
    "petabytes in a constant": Case(in_a_constant, "expected tensors of at most 16384 MiB (max_model_mib) together"),
    "nothing in it": Case(tensor(2**10), "tensor 't' of the sizes [1024] with 0 instead of 1024 float_data"),
    "numbers of another type": Case(tensor(1, int64_data=[1]), "with 0 instead of 1 float_data"),
    "sizes that overflow": Case(tensor(2**32, 2**31), "tensor 't' of the impossible sizes [4294967296, 2147483648]"),
    "sizes that overflow to 0": Case(tensor(2**32, 2**32), "tensor 't' of the impossible sizes"),
    "sizes that overflow beside a 0": Case(tensor(0, 2**62, 2**62), "tensor 't' of the impossible sizes"),
    "a negative size": Case(tensor(-1), "tensor 't' of the impossible sizes [-1]"),
    "two negative sizes": Case(tensor(-4, -3, raw_data=SECRET.tobytes()), "tensor 't' of the impossible sizes [-4, -3]"),
    "a hundred axes": Case(tensor(*[1] * 100, raw_data=bytes(4)), "tensor 't' of the impossible sizes [1, 1,"),
    "an unknown type": Case(tensor(1, kind=200, raw_data=bytes(4)), "tensor 't' of the unknown type 200"),
    "no type": Case(tensor(1, kind=0, raw_data=bytes(4)), "tensor 't' of the unknown type 0"),
    "half a byte": Case(tensor(3, kind=TensorProto.INT4, raw_data=b"1"), "of the sizes [3] with 1 instead of 2 bytes"),
    "complex": Case(tensor(3, kind=TensorProto.COMPLEX64, float_data=[1.0] * 5), "with 5 instead of 6 float_data"),
    "strings as bytes": Case(tensor(3, kind=TensorProto.STRING, raw_data=b"abc"), "tensor 't' of strings as bytes"),
    "too few strings": Case(tensor(3, kind=TensorProto.STRING, string_data=[b"a"]), "with 1 instead of 3 string_data"),
    "sparse": Case(sparse, "got a sparse initializer, which is not supported"),
}

# ---- graphs that grow ------------------------------------------------------------------------------------------------


def nodes(_: Path) -> onnx.ModelProto:
    model = small()
    model.graph.node.extend(helper.make_node("Neg", ["x"], [f"n{number}"]) for number in range(250_000))
    return model


def nested(depth: int) -> Callable[[Path], onnx.ModelProto]:
    """Branches in branches."""

    def make(_: Path) -> onnx.ModelProto:
        out = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
        leaf = graph = helper.make_graph([helper.make_node("Neg", ["x"], ["b"])], "leaf", [], [out])
        for _level in range(depth - 1):
            node = helper.make_node("If", ["c"], ["b"], then_branch=graph, else_branch=leaf)
            graph = helper.make_graph([node], "branch", [], [out])
        model = build("y = Mul(x, w)", inputs=f"{INPUTS}, bool c", outputs=OUTPUTS, weights={"w": SECRET})
        model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=graph, else_branch=leaf))
        return model

    return make


def chain(depth: int, calls: int, *, within: bool = False) -> Callable[[Path], onnx.ModelProto]:
    """Functions, each of which calls the next some times: the file is small, what it stands for is not."""

    def make(_: Path) -> onnx.ModelProto:
        model = small()
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        for level in range(depth):
            op, domain = (f"f{level + 1}", "local") if level < depth - 1 else ("Neg", "")
            steps = [helper.make_node(op, [f"v{call}"], [f"v{call + 1}"], domain=domain) for call in range(calls)]
            if within:
                out = helper.make_tensor_value_info("v1", TensorProto.FLOAT, None)
                branch = helper.make_graph(steps, "branch", [], [out])
                leaf = helper.make_graph([helper.make_node("Neg", ["v0"], ["v1"])], "leaf", [], [out])
                one = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True]))
                steps = [one, helper.make_node("If", ["c"], ["v1"], then_branch=branch, else_branch=leaf)]
            model.functions.append(helper.make_function("local", f"f{level}", ["v0"], [f"v{calls}"], steps, imports))
        model.graph.node[0].CopyFrom(helper.make_node("f0", ["x"], ["y"], domain="local"))
        model.opset_import.append(imports[1])
        return model

    return make


def circle(_: Path) -> onnx.ModelProto:
    """Two functions that call each other."""
    model = chain(2, 1)(_)
    model.functions[1].node[0].CopyFrom(helper.make_node("f0", ["v0"], ["v1"], domain="local"))
    return model


def too_deep(_: Path) -> bytes:
    """Deeper than protobuf writes."""
    graph = b""
    for _level in range(40):
        graph = field(1, field(5, field(6, graph)))  # a node's attribute's graph
    return field(8, b"\x10\x11") + field(7, graph)


def field(number: int, content: bytes) -> bytes:
    """A message in a message, on the wire."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def computed(body: str, dims: tuple[int, ...]) -> Callable[[Path], onnx.ModelProto]:
    """A node that makes a large value from small constants."""
    weights = {"w": SECRET, "s": np.array(dims, np.int64), "one": np.ones(1, np.float32)}
    return lambda _: build(
        f"{body} y = Mul(x, w)", inputs=INPUTS, outputs=f"{OUTPUTS}, float[{','.join('?' * len(dims))}] big", weights=weights
    )


def ranged(_: Path) -> onnx.ModelProto:
    weights = {"w": SECRET, "a": np.array(0, np.int64), "b": np.array(2**60, np.int64), "d": np.array(1, np.int64)}
    body = "big = Range(a, b, d) y = Mul(x, w)"
    return build(body, inputs=INPUTS, outputs=f"{OUTPUTS}, int64[?] big", weights=weights)


def long_name(_: Path) -> onnx.ModelProto:
    model = small()
    model.graph.node[0].name = "n" * 10**6
    return model


GROWING = {
    "a million nodes": Case(nodes, "expected at most 250000 nodes and tensors (max_nodes), got 25000"),
    "branches in branches": Case(nested(17), "expected at most 16 subgraphs in one another, got 17"),
    "more branches than a parser follows": Case(too_deep, "expected a readable ONNX model, got DecodeError"),
    "functions that double": Case(chain(60, 2), "expected at most 250000 nodes and tensors (max_nodes), got "),
    "functions in branches in functions": Case(chain(17, 1, within=True), "expected at most 16 subgraphs in one another"),
    "functions in a circle": Case(circle, "got functions that call one another in a circle: f"),
    "a long name": Case(long_name, "expected names of at most 4096 characters, got 1000000"),
    "ConstantOfShape": Case(computed("big = ConstantOfShape(s)", (2**20, 2**20)), "expected values of at most 16384 MiB"),
    "Expand": Case(computed("big = Expand(one, s)", (2**20, 2**20)), "expected values of at most 16384 MiB"),
    "Tile": Case(computed("big = Tile(one, s)", (2**45,)), "expected values of at most 16384 MiB"),
    "Range": Case(ranged, "expected values of at most 16384 MiB (max_model_mib), got 'big'"),
}

# ---- operators that do more than compute -----------------------------------------------------------------------------


def operator(domain: str, op_type: str) -> Callable[[Path], onnx.ModelProto]:
    """A model with this node."""

    def make(_: Path) -> onnx.ModelProto:
        model = small()
        model.graph.node[0].CopyFrom(helper.make_node(op_type, ["x"], ["y"], name="node", domain=domain))
        model.opset_import.append(helper.make_opsetid(domain, 1))
        return model

    return make


def in_a_function(_: Path) -> onnx.ModelProto:
    model = chain(2, 1)(_)
    model.functions[1].node[0].CopyFrom(helper.make_node("Run", ["v0"], ["v1"], domain="com.example"))
    model.functions[1].opset_import.append(helper.make_opsetid("com.example", 1))
    return model


OPERATORS = {
    **{
        f"{domain}.{op_type}": Case(
            operator(domain, op_type), f"got node 'node' ({domain}.{op_type}, opset 1), which {does}"
        )
        for domain, op_type, does in (
            ("com.microsoft", "EPContext", "names a file, or is code, for a device"),
            ("com.microsoft", "Snpe", "is code for a device"),
            ("com.microsoft", "PythonOp", "calls Python by name"),
            ("com.microsoft", "PythonOpGrad", "calls Python by name"),
            ("com.microsoft", "TritonOp", "is compiled when it runs"),
        )
    },
    "custom": Case(operator("com.example", "Run"), "(com.example.Run, opset 1): custom operators are off"),
    "custom, in a function": Case(in_a_function, "(com.example.Run, opset 1): custom operators are off"),
    "of torch": Case(operator("org.pytorch.aten", "ATen"), "(org.pytorch.aten.ATen, opset 1): custom operators are off"),
    "our own": Case(operator("gradserve", "Fused"), "got domain 'gradserve', which is for the server's own"),
}

# ---- files -----------------------------------------------------------------------------------------------------------


def huge(folder: Path) -> Path:
    """17 GiB of nothing."""
    with (path := folder / "m.onnx").open("wb") as file:
        file.truncate(17 * 2**30)
    return path


def bytes_of(content: bytes) -> Callable[[Path], bytes]:
    """A file of these bytes."""
    return lambda _: content


def device(folder: Path) -> Path:
    """Zeros without end."""
    (path := folder / "m.onnx").symlink_to("/dev/zero")
    return path


def old(_: Path) -> onnx.ModelProto:
    model = small()
    model.opset_import[0].version = 6
    return model


def without_opset(_: Path) -> onnx.ModelProto:
    model = small()
    del model.opset_import[:]
    return model


CRASHES = {
    "a stride of 0": lambda: build(
        "y = Conv<strides = [0, 0]>(x, w)",
        inputs="float[N,1,4,4] x",
        outputs="float[N,?,?,?] y",
        weights={"w": np.ones((1, 1, 1, 1), np.float32)},
    ),
    "the smallest integer divided by -1": lambda: build(
        "y = Div(x, d)",
        inputs="int32[N] x",
        outputs="int32[N] y",
        weights={"x": np.array([-(2**31)], np.int32), "d": np.array([-1], np.int32)},
    ),
}
"""Models that end the process when the native code of some onnxruntime opens or runs them: an integer division by 0."""

FILES = {
    "too large": Case(huge, f"expected at most {16 * 2**30} bytes, got {17 * 2**30}"),
    "empty": Case(bytes_of(b""), "got one without an operator set"),
    "garbage": Case(bytes_of(bytes(range(256)) * 100), "expected a readable ONNX model, got DecodeError"),
    "a length beyond the end": Case(
        bytes_of(b"\x3a\xff\xff\xff\xff\x07"), "expected a readable ONNX model, got DecodeError"
    ),
    "a pickle": Case(bytes_of(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."), "expected a readable ONNX model"),
    "text": Case(bytes_of(b'ir_version: 8 graph { name: "g" }'), "expected a readable ONNX model, got DecodeError"),
    "too old": Case(old, "expected opset 7 or newer, got 6; convert it first"),
    "without operator set": Case(without_opset, "got one without an operator set"),
}

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "external": EXTERNAL,
        "tensor": TENSORS,
        "growing": GROWING,
        "operator": OPERATORS,
        "file": FILES,
    }.items()
    for name, case in cases.items()
}


def write(case: Case, folder: Path) -> Path:
    """Makes the file of a case."""
    made, path = case.make(folder), folder / "m.onnx"
    if isinstance(made, bytes):
        path.write_bytes(made)
    elif isinstance(made, onnx.ModelProto):
        save(made, path)
    return path
