"""What the standard has and onnxruntime 1.32 has not: the gradient graph in onnx's reference evaluator, against torch."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from conformance.case import DOUBLE, Case
from conformance.cases.attention import K4, Q4, V4, S, T, _y
from conformance.cases.recurrent import LSTM, _case, _gru_cell, _lstm_cell, _rnn_cell
from conformance.oracles import autograd, cotangents_of, evaluator
from conformance.test_rules import agree, feeds_of, served
from support.tolerances import TOLERANCE

from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.portable import build_vjp


def _short(q, k, v, m):
    return _y(q, k, v, torch.nn.functional.pad(m, (0, 1), value=-torch.inf))


CASES = [
    _case("RNN", _rnn_cell(torch.tanh), "batch first", names="X W R B H0", layout=1),
    _case("GRU", _gru_cell(linear=False), "batch first", names="X W R B H0", layout=1),
    _case("LSTM", _lstm_cell(), "batch first", names=LSTM, layout=1),
    Case(
        "Attention",
        "Y = Attention(Q, K, V, M)",
        {"Q": Q4, "K": K4, "V": V4, "M": (S, T - 1)},
        _short,
        opsets=(24, 25),
        name="short mask",
    ),
]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("case", "opset"), [pytest.param(case, opset, id=f"{case.id}-{opset}") for case in CASES for opset in case.opsets]
)
def test_gradient_equals_autograd_in_the_evaluator(case, opset):
    inputs = case.draw()
    outputs, pull = autograd(case, inputs)
    forward = evaluator(case.model(opset, dtype=DOUBLE)).run(list(case.outputs), inputs | dict(case.others))
    for got, expected in zip(forward, outputs, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-9)
    cotangents = cotangents_of(outputs)
    model = build_vjp(served(case, opset, "all"), list(case.inputs))
    given = {cotangent_name(name): values for name, values in zip(case.outputs, cotangents, strict=True)}
    names = [gradient_name(name) for name in case.inputs]
    results = evaluator(ir.to_proto(model)).run(names, feeds_of(case, inputs, given, model))
    agree(dict(zip(case.inputs, results, strict=True)), pull(cotangents), TOLERANCE["float32 operator"])
