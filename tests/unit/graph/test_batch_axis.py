"""Which graphs have a batch axis that requests can share."""

import onnx_ir as ir
import pytest
from support.onnx_models import build

from gradserve_server.graph.batch_axis import is_batched


@pytest.mark.parametrize(
    ("inputs", "outputs", "batched"),
    [
        ("float[N,3] x", "float[N,3] y", True),
        ("float[N,3] x, int64[N] k", "float[N,3] y, float[N] z", True),
        ("float[N,3] x, float[A,B] w", "float[N,3] y", True),
        ("float[2,3] x", "float[2,3] y", False),
        ("float[N,3] x", "float[3,N] y", False),
        ("float[N,3] x", "float y", False),
        ("float[N,3] x", "float[N,N] y", False),
        ("float[N,3] x, float[M,3] k", "float[N,3] y", False),
        ("float[N,3] x, float s", "float[N,3] y", False),
        ("float[?,3] x", "float[?,3] y", False),
    ],
)
def test_axis_0_of_everything_is_the_same_open_size(inputs, outputs, batched):
    names = [spec.split()[-1] for spec in outputs.split(", ")]
    model = ir.from_proto(build(" ".join(f"{name} = Identity(x)" for name in names), inputs=inputs, outputs=outputs))
    assert is_batched(model, {"w"}) is batched
