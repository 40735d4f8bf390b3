"""Whether arrays fit a model's inputs, and what the errors say."""

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build

from gradserve.descriptions import TensorDescription
from gradserve.errors import InvalidTensor, UnknownInput
from gradserve.tensors import DTYPES
from gradserve_server.runtime.feeds import check_feeds, describe_tensor

X = TensorDescription("x", "float32", ("N", 3, None))
MASK = TensorDescription("mask", "bool", ("N", "L"))
LENGTH = TensorDescription("length", "int64", ())
TEXT = TensorDescription("text", "string", ("L",))


def x(*shape, dtype="float32"):
    return np.ones(shape, dtype)


# ---- what fits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 1), (5, 3, 7), (0, 3, 0)])
def test_open_sizes_take_any_size(shape):
    assert check_feeds([X], {"x": x(*shape)})["x"].shape == shape


def test_a_scalar_stays_a_scalar():
    assert check_feeds([LENGTH], {"length": np.int64(3)})["length"].shape == ()


@pytest.mark.parametrize("text", [np.array(["a", "bc"]), np.array(["a", "bc"], object), ["a", "bc"]])
def test_strings_in_each_spelling(text):
    assert check_feeds([TEXT], {"text": text})["text"].tolist() == ["a", "bc"]


@pytest.mark.parametrize(
    "array",
    [x(2, 3, 8)[:, :, ::2], x(4, 3, 2).transpose(2, 1, 0), x(2, 3, 4).astype(">f4"), np.asfortranarray(x(2, 3, 4))],
)
def test_what_comes_out_is_contiguous_and_native(array):
    got = check_feeds([X], {"x": array})["x"]
    assert got.flags.c_contiguous
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, array)


def test_an_array_that_fits_as_it_is_is_not_copied():
    array = x(2, 3, 4)
    assert np.shares_memory(check_feeds([X], {"x": array})["x"], array)


def test_feeds_come_in_the_order_of_the_model():
    given = {"mask": x(2, 5, dtype="bool"), "x": x(2, 3, 4)}
    assert list(check_feeds([X, MASK], given)) == ["x", "mask"]


def test_symbols_agree_within_and_across_inputs():
    square = TensorDescription("s", "float32", ("L", "L"))
    given = {"mask": x(2, 5, dtype="bool"), "x": x(2, 3, 4), "s": x(5, 5)}
    assert check_feeds([X, MASK, square], given).keys() == given.keys()


# ---- what does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, r"input 'x': expected float32 \[N,3,\?\], got nothing"),
        ({"x": x(2, 4, 4)}, r"input 'x': expected float32 \[N,3,\?\], got float32 \[2,4,4\]"),
        ({"x": x(3, 4)}, r"input 'x': expected float32 \[N,3,\?\], got float32 \[3,4\]"),
        ({"x": x(2, 3, 4, 1)}, r"input 'x': expected float32 \[N,3,\?\], got float32 \[2,3,4,1\]"),
        ({"x": x()}, r"input 'x': expected float32 \[N,3,\?\], got float32 \[\]"),
        ({"x": x(2, 3, 4, dtype="float64")}, r"input 'x': expected float32 \[N,3,\?\], got float64 \[2,3,4\]"),
        ({"x": x(2, 3, 4, dtype="int64")}, r"input 'x': expected float32 \[N,3,\?\], got int64 \[2,3,4\]"),
        ({"x": x(2, 3, 4, dtype="complex64")}, r"input 'x': expected float32 \[N,3,\?\], got complex64 \[2,3,4\]"),
        ({"x": [["a"]]}, r"input 'x': expected float32 \[N,3,\?\], got string \[1,1\]"),
    ],
)
def test_a_tensor_that_does_not_fit(given, error):
    with pytest.raises(InvalidTensor, match=f"^{error}$"):
        check_feeds([X], given)


@pytest.mark.parametrize("ragged", [[[1.0], [1.0, 2.0]], [[1.0], 2.0]])
def test_lists_that_make_no_array(ragged):
    with pytest.raises(InvalidTensor, match="^input 'x': "):
        check_feeds([X], {"x": ragged})


def test_an_unknown_name():
    with pytest.raises(UnknownInput, match="^input 'y': expected one of 'mask', 'x'$"):
        check_feeds([X, MASK], {"y": x(1)})


def test_sizes_that_must_agree():
    with pytest.raises(InvalidTensor, match="^input 'mask': expected N=2 as in input 'x', got N=3$"):
        check_feeds([X, MASK], {"x": x(2, 3, 4), "mask": x(3, 5, dtype="bool")})


def test_sizes_of_one_input_that_must_agree():
    square = TensorDescription("s", "float32", ("L", "L"))
    with pytest.raises(InvalidTensor, match="^input 's': expected L=2 as in input 's', got L=3$"):
        check_feeds([square], {"s": x(2, 3)})


# ---- descriptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DTYPES.keys() - {"string"}))
def test_every_dtype_has_its_name(name):
    value = ir.Value(name="v", type=ir.TensorType(ir.DataType(DTYPES[name].onnx)), shape=ir.Shape([2]))
    assert describe_tensor(value) == TensorDescription("v", name, (2,))


def test_sizes_are_numbers_symbols_or_unknown():
    graph = ir.from_proto(build("y = Relu(x)", inputs="float[N,3,?] x", outputs="float[N,3,?] y")).graph
    assert describe_tensor(graph.inputs[0]) == X
