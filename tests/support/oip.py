"""The Open Inference Protocol with the stock client's own messages."""

from collections.abc import Mapping
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from support.onnx_models import build, save
from tritonclient.grpc import InferInput, service_pb2, service_pb2_grpc

from gradserve.tensors import DTYPES, to_buffer
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server

OIP = {row.name: row.oip for row in DTYPES.values()}
_ONNX = {"float32": "float", "float64": "double"}

SAMPLES = {
    "bool": [[True, False], [False, True]],
    "uint8": [[0, 255], [1, 2]],
    "uint16": [[0, 65535], [1, 2]],
    "uint32": [[0, 2**32 - 1], [1, 2]],
    "uint64": [[0, 2**64 - 1], [1, 2]],
    "int8": [[-128, 127], [1, 2]],
    "int16": [[-32768, 32767], [1, 2]],
    "int32": [[-(2**31), 2**31 - 1], [1, 2]],
    "int64": [[-(2**63), 2**63 - 1], [1, 2]],
    "float16": [[-0.5, 65504], [1, 2]],
    "bfloat16": [[-0.5, 256], [1, 2]],
    "float32": [[-0.5, 3e38], [np.nan, np.inf]],
    "float64": [[-0.5, 1e308], [np.nan, -np.inf]],
    "string": [["", "a"], ["zwölf", "日本"]],
}
"""Two samples of each type of the table, its limits among them."""


def sample(dtype: str) -> np.ndarray:
    """As an array."""
    return np.array(SAMPLES[dtype], DTYPES[dtype].numpy)


def echo_repository(root):
    """A model for each type of the table, `echo_<type>`, that answers y = x of [N, 2]; and one that fails for N != 2."""
    for dtype in DTYPES:
        kind = _ONNX.get(dtype, dtype)
        model = build("y = Identity(x)", inputs=f"{kind}[N,2] x", outputs=f"{kind}[N,2] y")
        save(model, root / f"echo_{dtype}" / "1" / "model.onnx")
        (root / f"echo_{dtype}" / "config.pbtxt").write_text("max_batch_size: 4")
    fails = build(
        "y = Reshape(x, shape)",
        inputs="float[N] x",
        outputs="float[2,1] y",
        weights={"shape": np.array([2, 1])},
    )
    save(fails, root / "two_only" / "1" / "model.onnx")
    save(fails, root / "two_only" / "7" / "model.onnx")
    (root / "two_only" / "config.pbtxt").write_text("version_policy { all {} }")
    return root


def scalar_repository(root):
    """A model for each type of the table, `scalar_<type>`, that answers y = x of []."""
    for dtype in DTYPES:
        kind = _ONNX.get(dtype, dtype)
        model = build("y = Identity(x)", inputs=f"{kind} x", outputs=f"{kind} y")
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.SetInParent()
        save(model, root / f"scalar_{dtype}" / "1" / "model.onnx")
    return root


@contextmanager
def served(repository, **config):
    """A server of a repository."""
    with Engine(repository) as engine, Server(engine, ServerConfig(port=0, drain_seconds=2, **config)) as server:
        yield server


def stub(channel: grpc.Channel) -> service_pb2_grpc.GRPCInferenceServiceStub:
    """The stock stub."""
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def infer_input(name: str, array: np.ndarray) -> InferInput:
    """An input as the stock client takes it."""
    made = InferInput(name, list(array.shape), OIP["string" if array.dtype == object else array.dtype.name])
    made.set_data_from_numpy(array)
    return made


def request(model: str, inputs: Mapping[str, np.ndarray], **fields) -> service_pb2.ModelInferRequest:
    """A request with raw contents."""
    made = service_pb2.ModelInferRequest(model_name=model, **fields)
    for name, array in inputs.items():
        dtype, buffer = to_buffer(array)
        made.inputs.add(name=name, datatype=dtype.oip, shape=array.shape)
        made.raw_input_contents.append(bytes(buffer))
    return made


def refused(stub, request) -> tuple[grpc.StatusCode, str]:
    """The status and text that a request is answered with."""
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request)
    return error.value.code(), error.value.details()
