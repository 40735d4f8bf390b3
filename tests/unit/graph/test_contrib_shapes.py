"""Types and shapes after operators that onnx does not know: the same as onnxruntime's, and no matter what the file says."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from gradserve_server.graph import contrib_shapes
from gradserve_server.graph.autodiff import rules
from gradserve_server.graph.contrib_shapes import SHAPES, infer_shapes
from gradserve_server.graph.values import shape_of


def inferred(inputs: str, body: str, constants: dict[str, np.ndarray] | None = None, opset: int = 18) -> ir.Model:
    """A model in ONNX text, after the pass. The last value made is the output, and the file says nothing of its shape."""
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]> g ({inputs}) => () {{ {body} }}'
    )
    for name, array in (constants or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for name in model.graph.node[-1].output:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    loaded = ir.from_proto(model)
    infer_shapes(loaded)
    return loaded


def shapes(*arguments, **keywords) -> list[tuple]:
    """Of the outputs of the last node."""
    return [shape_of(value) for value in inferred(*arguments, **keywords).graph.outputs]


CONV = "kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]"

KNOWN = [
    ("float[N, 3, 4] X", "Y = com.microsoft.Gelu(X)", {}, [("N", 3, 4)]),
    ("float16[N, 3, 4] X, float16[4] B", "Y = com.microsoft.BiasGelu(X, B)", {}, [("N", 3, 4)]),
    (
        "float[N, 3, 8, 8] X, float[6, 3, 3, 3] W, float[6] B, float[N, 6, 4, 4] Z",
        f'Y = com.microsoft.FusedConv<activation = "Relu", {CONV}>(X, W, B, Z)',
        {},
        [("N", 6, 4, 4)],
    ),
    (
        "float[N, 3] A, float[5, 3] B, float[5] C",
        'Y = com.microsoft.FusedGemm<activation = "Relu", transB = 1>(A, B, C)',
        {},
        [("N", 5)],
    ),
    ("float[N, 3, 4] A, float[N, 5, 4] B", "Y = com.microsoft.FusedMatMul<transB = 1>(A, B)", {}, [("N", 3, 5)]),
    ("float[3, N, 4] A, float[N, 4, 5] B", "Y = com.microsoft.FusedMatMul<transBatchA = 1>(A, B)", {}, [("N", 3, 5)]),
    ("float[N, 4] A, float[4] B", "Y = com.microsoft.FusedMatMul<transB = 1>(A, B)", {}, [("N",)]),
    (
        "float[N, S, 8] A, uint8[5, 1, 16] B, float[5] s",
        "Y = com.microsoft.MatMulNBits<K = 8, N = 5>(A, B, s)",
        {},
        [("N", "S", 5)],
    ),
    (
        "float[N, S, 4] X, float[N, S, 4] k, float[4] g",
        "Y, m, v, Z = com.microsoft.SkipLayerNormalization(X, k, g)",
        {},
        [("N", "S", 4), ("N", "S", 1), ("N", "S", 1), ("N", "S", 4)],
    ),
    (
        "float[N, 3, 4] X, float[3, 4] g",
        "Y, r = SimplifiedLayerNormalization<axis = 1>(X, g)",
        {},
        [("N", 3, 4), ("N", 1, 1)],
    ),
    (
        "int32[N, S] i, int32[N, S] k, float[9, 4] w, float[7, 4] p, float[2, 4] t, float[4] g, float[4] b",
        "Y, m, Z = com.microsoft.EmbedLayerNormalization(i, k, w, p, t, g, b)",
        {},
        [("N", "S", 4), ("N",), ("N", "S", 4)],
    ),
    (
        "float[N, S, 8] X, float[8, 24] W, float[24] b",
        "Y, P = com.microsoft.Attention<num_heads = 2>(X, W, b)",
        {},
        [("N", "S", 8), (2, "N", 2, "S", 4)],
    ),
    (
        "float[N, S, 8] X, float[8, 20] W, float[20] b, float[2, N, 2, P, 4] past",
        "Y, P = com.microsoft.Attention<num_heads = 2, qkv_hidden_sizes = [8, 8, 4]>(X, W, b, , past)",
        {},
        [("N", "S", 4), (2, "N", 2, None, 2)],
    ),
    (
        "float[N, S, 8] Q, float[N, L, 8] K, float[N, L, 6] V",
        "Y, k, v = com.microsoft.MultiHeadAttention<num_heads = 2>(Q, K, V)",
        {},
        [("N", "S", 6), ("N", 2, "L", 4), ("N", 2, "L", 3)],
    ),
    (
        "float[N, S, 8] Q, float[N, 2, L, 4] K, float[N, 2, L, 3] V",
        "Y = com.microsoft.MultiHeadAttention<num_heads = 2>(Q, K, V)",
        {},
        [("N", "S", 6)],
    ),
    (
        "float[N, S, 24] Q, int32[N] s, int32 t",
        "Y, k, v = com.microsoft.GroupQueryAttention<num_heads = 4, kv_num_heads = 1>(Q, , , , , s, t)",
        {},
        [("N", "S", 16), ("N", 1, None, 4), ("N", 1, None, 4)],
    ),
    ("float[M, 3] A, float[N, 3] B", 'Y = com.microsoft.CDist<metric = "euclidean">(A, B)', {}, [("M", "N")]),
    ("float[N, 3] X", "Y = com.microsoft.ExpandDims(X, a)", {"a": np.array(-1, np.int32)}, [("N", 3, 1)]),
    ("float[N, 3] X, int32 a", "Y = com.microsoft.ExpandDims(X, a)", {}, [(None, None, None)]),
    ("float[N, 7, 2] X", "Y = com.microsoft.UnfoldTensor<dim = 1, size = 3, step = 2>(X)", {}, [("N", 3, 2, 3)]),
    ("float[N, 3] X", "Y = com.microsoft.Pad(X, p)", {"p": np.array([0, 1, 0, 2])}, [("N", 6)]),
    (
        "float[N, 2, 3, 3] X, float[2, 5, 2, 2] W",
        "Y = com.microsoft.ConvTransposeWithDynamicPads<strides = [2, 2]>(X, W, p)",
        {"p": np.array([1, 1, 1, 1])},
        [("N", 5, 4, 4)],
    ),
    (
        "float[N, 2, 3, 3] X, float[2, 5, 2, 2] W, int64[4] p",
        "Y = com.microsoft.ConvTransposeWithDynamicPads(X, W, p)",
        {},
        [("N", 5, None, None)],
    ),
    (
        "float[N, 2, H, W] X, float[2, 5, 2, 2] W",
        "Y = com.microsoft.ConvTransposeWithDynamicPads<group = 2>(X, W, p)",
        {"p": np.array([1, 1, 1, 1])},
        [("N", 10, None, None)],
    ),
    ("float[N, 3] X, int64[4] p", "Y = com.microsoft.Pad(X, p)", {}, [(None, None)]),
    ("float[N, 3] X", "Y = com.microsoft.Pad(X, p)", {"p": np.array([[0, 1, 1, 0]])}, [(None, 4)]),
    ("float a, float b, float c", "Y = com.microsoft.Range(a, b, c)", {}, [(None,)]),
]


@pytest.mark.parametrize(("inputs", "body", "constants", "expected"), KNOWN)
def test_shape(inputs, body, constants, expected):
    found = shapes(inputs, body, constants)
    # onnx gives a name to a size that it cannot tell.
    assert [tuple(None if str(size).startswith("unk__") else size for size in shape) for shape in found] == expected


def test_type_follows_the_input():
    model = inferred("float16[N, 3] X", "Y = com.microsoft.Gelu(X)")
    assert model.graph.outputs[0].dtype == ir.DataType.FLOAT16


def test_what_comes_after_is_known_too():
    """Through three operators of the other kind in turn, in one round."""
    body = "a = com.microsoft.Gelu(X) b = Relu(a) c = com.microsoft.QuickGelu(b) d = Flatten(c) Y = com.microsoft.Gelu(d)"
    assert shapes("float[N, 3, 4] X", body) == [("N", 12)]


def test_shape_that_is_computed_from_shapes():
    """onnx follows them only through the whole graph."""
    body = """
        a = com.microsoft.Gelu(X) s = Shape<start = 1, end = 2>(a) t = Concat<axis = 0>(one, s) b = Reshape(a, t)
        c = com.microsoft.Gelu(b) u = Shape<start = 1, end = 2>(c) v = Concat<axis = 0>(u, one) Y = Reshape(c, v)
    """
    assert shapes("float[2, 3] X", body, {"one": np.array([-1])})[0][0] == 3


def test_inside_a_subgraph():
    body = """
        Y = If (c) <then_branch = t () => (float[M, 3] a) { a = com.microsoft.Gelu(X) },
                    else_branch = e () => (b) { d = com.microsoft.Gelu(X) b = Relu(d) }>
    """
    model = inferred("bool c, float[M, 3] X", body)
    made = {value.name: shape_of(value) for node in model.graph.all_nodes() for value in node.outputs}
    assert (made["d"], made["b"]) == (("M", 3), ("M", 3))


def test_what_the_file_says_stays():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]>'
        "g (float[N, 3] X) => (float[batch, 3] Y) { Y = com.microsoft.Gelu(X) }"
    )
    loaded = ir.from_proto(model)
    infer_shapes(loaded)
    assert shape_of(loaded.graph.outputs[0]) == ("batch", 3)


def test_unknown_operator_and_nonsense_stay_unknown():
    assert shapes("float[N, 3] X", "a = com.microsoft.NobodyKnowsThis(X) Y = Relu(a)") == [None]
    assert shapes("float[N, 3] X, float[4, 5] B", "Y = com.microsoft.FusedMatMul(X, B)") == [None]


def test_every_operator_with_a_derivative_has_a_row():
    ruled = {
        op for (domain, op, _), state in rules.TABLE.items()
        if domain == rules.MICROSOFT and isinstance(state, (rules.Rule, rules.Expansion))
    }  # fmt: skip
    assert ruled - set(SHAPES) == set()


def test_a_graph_without_such_operators_is_gone_through_once(monkeypatch):
    monkeypatch.setattr(contrib_shapes, "infer_unknown", lambda *_: pytest.fail("walked"))
    assert shapes("float[N, 3] X", "Y = Relu(X)") == [("N", 3)]
