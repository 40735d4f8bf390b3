"""Arrays to the wire and back; the dtype table against NumPy, ONNX and the Open Inference Protocol."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradserve.errors import InvalidTensor
from gradserve.tensors import DTYPES, add_named, from_wire, named_from_wire, to_wire
from gradserve.v1.gradient_service_pb2 import InferRequest
from gradserve.v1.tensor_pb2 import NamedTensor, Tensor

NUMERIC = sorted(DTYPES.keys() - {"string"})
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
OIP_NAMES = {"float": "FP", "bfloat": "BF", "int": "INT", "uint": "UINT", "bool": "BOOL", "string": "BYTES"}


def bytes_as(dtype: str, shape: tuple[int, ...], data: st.DataObject) -> np.ndarray:
    """Any bit pattern, NaNs with payloads included."""
    if dtype == "bool":
        return data.draw(hnp.arrays(np.bool_, shape))
    size = DTYPES[dtype].bytes
    raw = data.draw(hnp.arrays(np.uint8, (int(np.prod(shape)) * size,)))
    return raw.view(DTYPES[dtype].numpy).reshape(shape)


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == expected.dtype.newbyteorder("<")
    assert got.shape == expected.shape
    assert got.tobytes() == expected.astype(expected.dtype.newbyteorder("<")).tobytes()


# ---- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DTYPES)
def test_a_row_agrees_with_onnx(name):
    row = DTYPES[name]
    assert row.name == name
    expected = np.dtype(object) if name == "string" else row.numpy
    assert onnx.helper.tensor_dtype_to_np_dtype(row.onnx) == expected


@pytest.mark.parametrize("name", NUMERIC)
def test_a_row_agrees_with_numpy(name):
    row = DTYPES[name]
    assert row.numpy.name == name
    assert row.numpy.itemsize == row.bytes
    assert row.numpy == row.numpy.newbyteorder("<")


@pytest.mark.parametrize("name", DTYPES)
def test_a_row_agrees_with_the_open_inference_protocol(name):
    kind = name.rstrip("0123456789")
    assert DTYPES[name].oip == OIP_NAMES[kind] + name.removeprefix(kind)


@pytest.mark.parametrize("column", ["onnx", "oip"])
def test_names_are_unique(column):
    assert len({getattr(row, column) for row in DTYPES.values()}) == len(DTYPES)


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMERIC)
@given(shape=SHAPES, data=st.data())
def test_every_bit_survives(dtype, shape, data):
    array = bytes_as(dtype, shape, data)
    message = to_wire(array)
    assert (message.dtype, tuple(message.shape)) == (dtype, shape)
    assert_same(from_wire(Tensor.FromString(message.SerializeToString())), array)


@pytest.mark.parametrize("dtype", sorted(set(NUMERIC) - {"bfloat16"}))
def test_big_endian_arrays_travel_as_little_endian(dtype):
    array = np.array([[0, 1, 2], [3, 100, 1]], dtype)
    assert_same(from_wire(to_wire(array.astype(array.dtype.newbyteorder(">")))), array)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[::-1, ::2],
        lambda a: a[:, 1:],
        np.asfortranarray,
        lambda a: np.broadcast_to(a[:, :1], a.shape),
        lambda a: a[::-1].astype(">f4"),
    ],
)
def test_any_memory_layout_travels_row_major(view):
    array = view(np.arange(12, dtype=np.float32).reshape(3, 4))
    np.testing.assert_array_equal(from_wire(to_wire(array)), array)


@pytest.mark.parametrize(
    ("given", "dtype"), [(1.5, "float64"), (True, "bool"), ([1, 2], "int64"), ("text", "string"), (np.float16(2), "float16")]
)
def test_whatever_asarray_takes_travels(given, dtype):
    array = from_wire(to_wire(given))
    assert to_wire(given).dtype == dtype
    assert array.shape == np.shape(given)
    assert array.tolist() == given


def test_what_arrives_is_a_read_only_view():
    array = from_wire(to_wire(np.ones(3, np.float32)))
    assert not array.flags.writeable
    assert array.base is not None


@given(shape=SHAPES, data=st.data())
def test_strings_survive(shape, data):
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    array = data.draw(hnp.arrays(object, shape, elements=text))
    got = from_wire(to_wire(array))
    assert got.dtype == object
    assert got.shape == shape
    assert got.tolist() == array.tolist()


@pytest.mark.parametrize("strings", [["", "é", "日本語", "a\0b", "👩‍🔬"], [""], np.array(["fixed", "width"])])
def test_strings_survive_in_each_spelling(strings):
    assert from_wire(to_wire(strings)).tolist() == list(strings)


def test_the_bytes_of_a_string_are_what_the_proto_says():
    assert to_wire(["é"]).data == b"\x02\x00\x00\x00\xc3\xa9"


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.ones(2, np.complex64), "complex64"),
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
        (np.array([b"ab"]), "bytes16"),
        (np.zeros(1, "i4,f4"), "void64"),
    ],
)
def test_a_dtype_that_does_not_travel(array, got):
    with pytest.raises(InvalidTensor, match=rf"^input 'x': expected one of the dtypes bool, .*, string, got {got}"):
        to_wire(array, what="input 'x'")


@pytest.mark.parametrize("element", [3, None, b"bytes", 1.5])
def test_an_object_that_is_no_str(element):
    with pytest.raises(InvalidTensor, match=f"^x: expected str elements, got {type(element).__name__}$"):
        to_wire(np.array(["fine", element], object), what="x")


def test_a_str_that_utf8_cannot_hold():
    with pytest.raises(InvalidTensor, match="^x: "):
        to_wire(["lone surrogate \ud800"], what="x")


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Tensor(dtype="float", shape=[1], data=bytes(4)), r"expected one of the dtypes .*, got 'float'"),
        (Tensor(), r"expected one of the dtypes .*, got ''"),
        (Tensor(dtype="float32", shape=[2, -1], data=b""), r"expected sizes of 0 or more, got \[2, -1\]"),
        (Tensor(dtype="float32", shape=[2, 3], data=bytes(20)), r"expected 24 bytes for float32 \[2, 3\], got 20"),
        (Tensor(dtype="float16", shape=[], data=bytes(4)), r"expected 2 bytes for float16 \[\], got 4"),
        (Tensor(dtype="int8", shape=[0], data=bytes(1)), r"expected 0 bytes for int8 \[0\], got 1"),
        (Tensor(dtype="float32", shape=[2**62, 4], data=b""), r"expected 73786976294838206464 bytes for"),
        (Tensor(dtype="string", shape=[1], data=b"\x01\0\0"), "expected 5 bytes of strings, got 3|expected .* bytes"),
        (Tensor(dtype="string", shape=[1], data=b"\x05\0\0\0abc"), "expected 9 bytes of strings, got 7"),
        (Tensor(dtype="string", shape=[1], data=b"\xff\xff\xff\xff"), "expected 4294967299 bytes of strings, got 4"),
        (Tensor(dtype="string", shape=[2], data=b"\x01\0\0\0a\x01\0\0\0\xff"), "expected UTF-8 strings, .* at element 1"),
        (Tensor(dtype="string", shape=[2], data=b"\x01\0\0\0a"), r"expected 2 strings for shape \[2\], got 1"),
        (Tensor(dtype="string", shape=[0], data=b"\x01\0\0\0a"), r"expected 0 strings for shape \[0\], got 1"),
        (Tensor(dtype="string", shape=[-1], data=b""), r"expected sizes of 0 or more, got \[-1\]"),
    ],
)
def test_a_message_that_cannot_be_read(message, error):
    with pytest.raises(InvalidTensor, match=f"^here: ({error})"):
        from_wire(message, what="here")


@pytest.mark.parametrize("dtype", ["float32", "string"])
@pytest.mark.parametrize("shape", [[0, 2**62, 4], [0] * 65, [2**40, 0, 2**40]])
def test_an_empty_tensor_of_a_shape_that_numpy_refuses(dtype, shape):
    with pytest.raises(InvalidTensor, match="^here: "):
        from_wire(Tensor(dtype=dtype, shape=shape), what="here")


@given(
    message=st.builds(Tensor, dtype=st.sampled_from([*DTYPES, "?"]), shape=st.lists(st.integers(-2, 3)), data=st.binary())
)
def test_any_message_is_an_array_or_an_error_of_ours(message):
    try:
        array = from_wire(message)
    except InvalidTensor:
        return
    assert array.shape == tuple(message.shape)


def test_names_travel_in_order():
    arrays = {"b": np.ones(2, np.float32), "a": np.zeros((), np.int64), "": np.array(["x"], object)}
    request = InferRequest()
    add_named(request.inputs, arrays)
    got = named_from_wire(InferRequest.FromString(request.SerializeToString()).inputs)
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)


def test_a_name_given_twice():
    message = NamedTensor(name="x", tensor=to_wire(1.0))
    with pytest.raises(InvalidTensor, match="^tensor 'x': expected once, got twice$"):
        named_from_wire([message, message])


def test_errors_name_the_tensor():
    with pytest.raises(InvalidTensor, match="^tensor 'x': expected one of the dtypes"):
        add_named(InferRequest().inputs, {"x": np.ones(1, np.complex64)})
    with pytest.raises(InvalidTensor, match="^tensor 'x': expected one of the dtypes"):
        named_from_wire([NamedTensor(name="x")])


def test_bytes_that_are_no_booleans_are_refused():
    with pytest.raises(InvalidTensor, match="expected bytes of 0 and 1 for bool, got 255"):
        from_wire(Tensor(dtype="bool", shape=[3], data=b"\x00\x01\xff"))
