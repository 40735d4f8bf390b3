"""Tensors in system shared memory, as Triton's client asks for them."""

import pytest
from support import golden
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

X = golden.digits()
PAGE = 4096
HUGE = 2**64 - 1


def shared_input(name, size, array=X, offset=0):
    made = InferInput("image", array.shape, "FP32")
    made.set_shared_memory(name, size, offset)
    return made


def shared_output(name, size, offset=0, output="logits"):
    made = InferRequestedOutput(output)
    made.set_shared_memory(name, size, offset)
    return made


def logits(engine, array=X):
    return engine.infer("digits", {"image": array})["logits"]


def refused(call, *arguments):
    with pytest.raises(InferenceServerException) as error:
        call(*arguments)
    return error.value.status().removeprefix("StatusCode."), error.value.message()
