"""Bytes joined by hand are those of the message that protobuf makes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from gradserve.joined import varint, with_named
from gradserve.tensors import DTYPES, add_named
from gradserve.v1 import gradient_service_pb2 as pb

DTYPE = st.sampled_from([row.numpy for row in DTYPES.values() if row.bytes and row.name != "bfloat16"])
ARRAYS = st.dictionaries(st.text(max_size=8), arrays_of.arrays(DTYPE, arrays_of.array_shapes(min_dims=0, min_side=0)))


@given(st.text(max_size=200), ARRAYS, ARRAYS)
def test_the_message_is_the_same(model, inputs, tangents):
    head = pb.JacobianVectorProductRequest(model=pb.ModelRef(name=model), outputs=["a", "b"])
    joined = with_named(head, inputs=inputs, tangents=tangents)
    add_named(head.inputs, inputs)
    add_named(head.tangents, tangents)
    read = pb.JacobianVectorProductRequest.FromString(joined)
    assert read.SerializeToString(deterministic=True) == head.SerializeToString(deterministic=True)


@pytest.mark.parametrize("size", [0, 1, 31, 127, 128, 16383, 16384, 2**21])
def test_every_length_of_a_length(size):
    arrays = {"x": np.arange(size, dtype=np.uint32).astype(np.uint8), "words": np.array(["a", "\u00e9"], object)}
    expected = pb.InferResponse()
    add_named(expected.outputs, arrays)
    assert pb.InferResponse.FromString(with_named(pb.InferResponse(), outputs=arrays)) == expected


def test_varints():
    assert [varint(value) for value in (0, 127, 128, 300)] == [b"\0", b"\x7f", b"\x80\1", b"\xac\2"]
