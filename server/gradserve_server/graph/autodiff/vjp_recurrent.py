"""RNN, GRU and LSTM as a Scan over time of one cell; the products with the inputs are one product before it.

pre_t = W x_t + b      for all t at once
state_t = cell(pre_t, state_{t-1})
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.bodies import backwards, scan
from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Refusal, expansion
from gradserve_server.graph.autodiff.site import Site

Function = Callable[[Emitter, Expr], Expr]
Activation = Callable[[Emitter, Expr, float, float], Expr]


def _plain(op: str) -> Activation:
    return lambda g, x, _alpha, _beta: g.op(op, x)


def _with_alpha(op: str) -> Activation:
    return lambda g, x, alpha, _beta: g.op(op, x, alpha=alpha)


ACTIVATIONS: dict[str, tuple[Activation, float | None, float | None]] = {
    "relu": (_plain("Relu"), None, None),
    "tanh": (_plain("Tanh"), None, None),
    "sigmoid": (_plain("Sigmoid"), None, None),
    "softsign": (_plain("Softsign"), None, None),
    "softplus": (_plain("Softplus"), None, None),
    "leakyrelu": (_with_alpha("LeakyRelu"), 0.01, None),
    "thresholdedrelu": (_with_alpha("ThresholdedRelu"), 1.0, None),
    "elu": (_with_alpha("Elu"), 1.0, None),
    "hardsigmoid": (lambda g, x, alpha, beta: g.op("HardSigmoid", x, alpha=alpha, beta=beta), 0.2, 0.5),
    "scaledtanh": (lambda g, x, alpha, beta: g.op("Tanh", x * beta) * alpha, 1.0, 1.0),
    "affine": (lambda g, x, alpha, beta: x * alpha + beta, 1.0, 0.0),  # noqa: ARG005
}
"""Name in small letters -> function, and the defaults of its alpha and beta; None where it has none."""


@dataclass(frozen=True)
class Weights:
    """Of one direction, and what is the same for all of them."""

    recurrent: Expr
    """R, [gates H, H]."""
    bias: Sequence[Expr]
    """Rb by gates, where the cell adds them itself; else empty."""
    peepholes: Sequence[Expr]
    """P by gates; empty if there are none."""
    functions: Sequence[Function]
    """Clipping included."""
    coupled: bool
    """LSTM: the forget gate is what the input gate leaves."""


Cell = Callable[[Emitter, Expr, Sequence[Expr], Weights], Sequence[Expr]]
"""The next states (the output first) from this step's W x + b and the states."""


# ---- cells -----------------------------------------------------------------------------------------------------------


def _rnn(g: Emitter, pre: Expr, states: Sequence[Expr], w: Weights) -> Sequence[Expr]:
    """H = f(W x + R H + b)."""
    return [w.functions[0](g, g.op("Gemm", states[0], w.recurrent, pre, transB=1))]


def _gru(g: Emitter, pre: Expr, states: Sequence[Expr], w: Weights) -> Sequence[Expr]:
    """z, r = f(W x + R H + b),  h = g(W x + R (r H) + b),  H = (1 - z) h + z H."""
    f, act = w.functions
    (h,) = states
    x_z, x_r, x_h = g.op("Split", pre, outputs=3, axis=1, num_outputs=3)
    r_z, r_r, r_h = g.op("Split", w.recurrent, outputs=3, axis=0, num_outputs=3)
    z = f(g, g.op("Gemm", h, r_z, x_z, transB=1))
    r = f(g, g.op("Gemm", h, r_r, x_r, transB=1))
    new = act(g, g.op("Gemm", r * h, r_h, x_h, transB=1))
    return [new + z * (h - new)]


def _gru_linear(g: Emitter, pre: Expr, states: Sequence[Expr], w: Weights) -> Sequence[Expr]:
    """As GRU, but h = g(W x + r (R H + Rb) + Wb)."""
    f, act = w.functions
    (h,) = states
    x_z, x_r, x_h = g.op("Split", pre, outputs=3, axis=1, num_outputs=3)
    s_z, s_r, s_h = g.op("Split", g.op("Gemm", h, w.recurrent, *w.bias, transB=1), outputs=3, axis=1, num_outputs=3)
    z, r = f(g, x_z + s_z), f(g, x_r + s_r)
    new = act(g, x_h + r * s_h)
    return [new + z * (h - new)]


def _lstm(g: Emitter, pre: Expr, states: Sequence[Expr], w: Weights) -> Sequence[Expr]:
    """i, f = f(W x + R H + P C + b),  C' = f C + i g(W x + R H + b),  o = f(W x + R H + P C' + b),  H' = o h(C')."""
    gate, act, out = w.functions
    h, c = states
    i, o, f, new = g.op("Split", g.op("Gemm", h, w.recurrent, pre, transB=1), outputs=4, axis=1, num_outputs=4)
    p_i, p_o, p_f = w.peepholes or (None, None, None)
    i = gate(g, i + c * p_i if p_i else i)
    f = 1 - i if w.coupled else gate(g, f + c * p_f if p_f else f)
    c = f * c + i * act(g, new)
    o = gate(g, o + c * p_o if p_o else o)
    return [o * out(g, c), c]


# ---- sequences -------------------------------------------------------------------------------------------------------


def _known_activations(n: Site) -> str | None:
    strange = [name for name in n.strings("activations") if name.lower() not in ACTIVATIONS]
    return f"activation {', '.join(strange)}" if strange else None


REFUSALS: tuple[Refusal, ...] = (_known_activations,)


@expansion("RNN", since=(14, 22), refuse=REFUSALS)
def rnn(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """See the cell."""
    return _recurrent(g, n, _rnn, ("Tanh",), states=1)


@expansion("GRU", since=(14, 22), refuse=REFUSALS)
def gru(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """See the cells."""
    cell = _gru_linear if n.integer("linear_before_reset", 0) else _gru
    return _recurrent(g, n, cell, ("Sigmoid", "Tanh"), states=1)


@expansion("LSTM", since=(14, 22), refuse=REFUSALS)
def lstm(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """See the cell."""
    return _recurrent(g, n, _lstm, ("Sigmoid", "Tanh", "Tanh"), states=2)


def _recurrent(g: Emitter, n: Site, cell: Cell, default: tuple[str, ...], *, states: int) -> Sequence[Expr | None]:
    """All directions: [Y, Y_h, ...], in the node's layout."""
    names = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    directions = names[n.string("direction", "forward")]
    batch_first = n.integer("layout", 0) == 1
    x = g.transpose(n.x, [1, 0, 2]) if batch_first else n.x
    chosen = iter(_functions(n, default * len(directions)))
    lengths = n.optional(4)
    valid = _valid(g, x, lengths) if lengths is not None else None
    starts = [_start(g, n, x, n.optional(5 + i), batch_first=batch_first) for i in range(states)]

    outputs, ends = [], []
    for index, reverse in enumerate(directions):
        functions = [next(chosen) for _ in default]
        pre, weights = _weights(g, n, x, index, len(directions), functions, cell)
        initial = [_direction(g, start, index, len(directions)) for start in starts]
        y, last = _run(g, cell, pre, valid, initial, weights, reverse=reverse)
        outputs.append(g.unsqueeze(y, [1]))
        ends.append([g.unsqueeze(state, [0]) for state in last])
    y = outputs[0] if len(outputs) == 1 else g.op("Concat", *outputs, axis=1)
    finals = [parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=0) for parts in zip(*ends, strict=True)]
    if batch_first:
        y, finals = g.transpose(y, [2, 0, 1, 3]), [g.transpose(state, [1, 0, 2]) for state in finals]
    return [y, *finals]


def _run(
    g: Emitter,
    cell: Cell,
    pre: Expr,
    valid: Expr | None,
    initial: Sequence[Expr],
    weights: Weights,
    *,
    reverse: bool,
) -> tuple[Expr, list[Expr]]:
    """One direction: its outputs [T, B, H], and the states at the end. A sequence that has ended keeps its states."""
    elements = [pre] if valid is None else [pre, valid]
    if reverse:
        elements = [backwards(g, x) for x in elements]

    def step(inner: Emitter, states: list[Expr], taken: list[Expr]) -> tuple[list[Expr], list[Expr]]:
        new = list(cell(inner, taken[0], states, _inside(inner, weights)))
        if valid is None:
            return new, [new[0]]
        held = [inner.where(taken[1], ahead, behind) for ahead, behind in zip(new, states, strict=True)]
        return held, [inner.where(taken[1], new[0], 0)]

    last, (y,) = scan(g, initial, elements, step)
    return backwards(g, y) if reverse else y, last


def _inside(g: Emitter, w: Weights) -> Weights:
    """The same values, for formulas in a subgraph."""
    lists = ([g.of(x.value) for x in values] for values in (w.bias, w.peepholes))
    bias, peepholes = lists
    return Weights(g.of(w.recurrent.value), bias, peepholes, w.functions, w.coupled)


def _weights(
    g: Emitter, n: Site, x: Expr, index: int, count: int, functions: Sequence[Function], cell: Cell
) -> tuple[Expr, Weights]:
    """W X + b of all steps, and the weights of one direction."""
    w, r = (_direction(g, n.input(i), index, count) for i in (1, 2))
    pre, recurrent_bias = g.op("MatMul", x, g.transpose(w, [1, 0])), []
    if n.has(3):
        both = _direction(g, n.input(3), index, count)
        of_input, of_state = g.op("Split", both, outputs=2, axis=0, num_outputs=2)
        if cell is _gru_linear:
            pre, recurrent_bias = pre + of_input, [of_state]
        else:
            pre = pre + (of_input + of_state)
    peepholes: Sequence[Expr] = []
    if n.has(7):
        peepholes = g.op("Split", _direction(g, n.input(7), index, count), outputs=3, axis=0, num_outputs=3)
    return pre, Weights(r, recurrent_bias, peepholes, functions, n.integer("input_forget", 0) == 1)


def _direction(g: Emitter, x: Expr, index: int, count: int) -> Expr:
    """[directions, ...] -> [...]."""
    return g.squeeze(x if count == 1 else g.slice(x, [index], [index + 1], [0]), [0])


def _start(g: Emitter, n: Site, x: Expr, given: Expr | None, *, batch_first: bool) -> Expr:
    """A state at the start, [directions, B, H]; zeros if the node does not say."""
    if given is not None:
        return g.transpose(given, [1, 0, 2]) if batch_first else given
    shape = g.concat(g.size(n.input(2), 0), g.size(x, 1), g.size(n.input(2), 2))
    return g.op("ConstantOfShape", shape, value=ir.tensor(np.zeros(1, x.dtype.numpy())))


def _valid(g: Emitter, x: Expr, lengths: Expr) -> Expr:
    """Which steps are before the end of their sequence: [T, B, 1], bool."""
    steps = g.op("Range", g.const(0), g.squeeze(g.size(x, 0), [0]), g.const(1))
    return g.unsqueeze(steps, [1, 2]) < g.unsqueeze(g.cast(lengths, ir.DataType.INT64), [0, 2])


def _functions(n: Site, default: Sequence[str]) -> Iterator[Function]:
    """The activations in order, each with the next alpha and beta of the node's if it has one.

    What onnxruntime clips are the gates, not the cell state that goes through the last activation of an LSTM.
    """
    names = n.strings("activations") or list(default)
    alphas, betas = (iter(n.numbers(name)) for name in ("activation_alpha", "activation_beta"))
    clip = n.number("clip", 0.0)
    for index, name in enumerate(names):
        function, alpha, beta = ACTIVATIONS[name.lower()]
        alpha = next(alphas, alpha) if alpha is not None else 0.0
        beta = next(betas, beta) if beta is not None else 0.0
        of_state = n.node.op_type == "LSTM" and index % 3 == 2
        yield _bound(function, alpha, beta, 0.0 if of_state else clip)


def _bound(function: Activation, alpha: float, beta: float, clip: float) -> Function:
    return lambda g, x: function(g, g.op("Clip", x, -clip, clip) if clip else x, alpha, beta)
