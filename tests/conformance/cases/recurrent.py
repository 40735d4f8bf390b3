"""RNN, GRU and LSTM: directions, lengths, layouts, activations."""

import numpy as np
import torch
from conformance.case import Case, Draw

SINCE = (18, 22)
T, B, D, H = 4, 3, 2, 2
LENGTHS = np.array([4, 2, 3], np.int32)


def _sig(x):
    return torch.sigmoid(x)


def _hard(x):
    return (0.3 * x + 0.4).clamp(0, 1)


def _rnn_cell(f):
    def cell(x, states, w, r, b, _p):
        (h,) = states
        wb, rb = b.chunk(2)
        return [f(x @ w.T + h @ r.T + wb + rb)]

    return cell


def _gru_cell(linear, f=_sig, act=torch.tanh):
    def cell(x, states, w, r, b, _p):
        (h,) = states
        (wz, wr, wh), (rz, rr, rh) = w.chunk(3), r.chunk(3)
        bz, br, bh, cz, cr, ch = b.chunk(6)
        z, s = f(x @ wz.T + h @ rz.T + bz + cz), f(x @ wr.T + h @ rr.T + br + cr)
        new = act(x @ wh.T + s * (h @ rh.T + ch) + bh) if linear else act(x @ wh.T + (s * h) @ rh.T + ch + bh)
        return [(1 - z) * new + z * h]

    return cell


def _lstm_cell(coupled=False, clip=None):
    def cell(x, states, w, r, b, p):
        cut = (lambda v: v) if clip is None else (lambda v: v.clamp(-clip, clip))
        h, c = states
        i, o, f, new = (x @ w.T + h @ r.T + b.chunk(2)[0] + b.chunk(2)[1]).chunk(4, -1)
        p_i, p_o, p_f = p.chunk(3) if p is not None else (0, 0, 0)
        i = _sig(cut(i + p_i * c))
        f = 1 - i if coupled else _sig(cut(f + p_f * c))
        c = f * c + i * torch.tanh(cut(new))
        return [_sig(cut(o + p_o * c)) * torch.tanh(c), c]

    return cell


def _sequence(cell, states, direction="forward", lengths=None, layout=0, names="X W R B"):
    def run(*tensors):
        given = dict(zip(names.split(), tensors, strict=True))
        x, starts = given["X"], [given.get(name) for name in ("H0", "C0")[:states]]
        if layout:
            x, starts = x.transpose(0, 1), [s.transpose(0, 1) if s is not None else None for s in starts]
        outputs, ends = [], []
        for d, reverse in enumerate({"forward": [0], "reverse": [1], "bidirectional": [0, 1]}[direction]):
            hidden = given["R"].shape[2]
            bias = given["B"][d] if "B" in given else x.new_zeros(2 * given["W"].shape[1])
            p = given["P"][d] if "P" in given else None
            rows, finals = [], []
            for b in range(x.shape[1]):
                state = [x.new_zeros(hidden) if s is None else s[d, b] for s in starts]
                length = x.shape[0] if lengths is None else int(lengths[b])
                row = [x.new_zeros(hidden)] * x.shape[0]
                for t in range(length)[:: -1 if reverse else 1]:
                    state = cell(x[t, b], state, given["W"][d], given["R"][d], bias, p)
                    row[t] = state[0]
                rows.append(torch.stack(row))
                finals.append(state)
            outputs.append(torch.stack(rows, 1))
            ends.append([torch.stack([f[i] for f in finals]) for i in range(states)])
        y = torch.stack(outputs, 1)
        last = [torch.stack([e[i] for e in ends]) for i in range(states)]
        if layout:
            y, last = y.permute(2, 0, 1, 3), [s.transpose(0, 1) for s in last]
        return [y, *last]

    return run


def _shapes(gates, names, directions=1, layout=0):
    every = {
        "X": (B, T, D) if layout else (T, B, D),
        "W": (directions, gates * H, D),
        "R": (directions, gates * H, H),
        "B": (directions, 2 * gates * H),
        "H0": (B, directions, H) if layout else (directions, B, H),
        "C0": (B, directions, H) if layout else (directions, B, H),
        "P": (directions, 3 * H),
    }
    return {name: Draw(every[name], "unit") for name in names.split()}


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}
OUTPUTS = {"RNN": ("Y", "YH"), "GRU": ("Y", "YH"), "LSTM": ("Y", "YH", "YC")}


def _case(
    op, cell, name="", attributes="", names="X W R B", direction="forward", lengths=None, layout=0, once=False, **others
):
    written = [f"hidden_size = {H}", f'direction = "{direction}"', *([f"layout = {layout}"] if layout else [])]
    slots = ["X", "W", "R", "B", "L", "H0", *(["C0", "P"] if op == "LSTM" else [])]
    present = {*names.split(), *(["L"] if lengths is not None else [])}
    while slots[-1] not in present:
        slots.pop()
    given = ", ".join(slot if slot in present else '""' for slot in slots)
    return Case(
        op,
        f"{', '.join(OUTPUTS[op])} = {op}<{', '.join(written + [attributes] * bool(attributes))}>({given})",
        _shapes(GATES[op], names, 2 if direction == "bidirectional" else 1, layout),
        _sequence(cell, STATES[op], direction, lengths, layout, names),
        opsets=(18,) if once else SINCE,
        dynamic=("all",) if once else ("none", "batch", "all"),
        others={"L": lengths} if lengths is not None else {},
        outputs=OUTPUTS[op],
        name=name,
        **others,
    )


# onnx's reference evaluator has no lengths, no activations, no clip and no coupled gates.
OURS = {"evaluator": False, "once": True}
LSTM = "X W R B H0 C0"

CASES = [
    _case("RNN", _rnn_cell(torch.tanh)),
    _case("RNN", _rnn_cell(torch.tanh), "no bias", names="X W R", once=True),
    _case("RNN", _rnn_cell(torch.tanh), "initial", names="X W R B H0", direction="reverse", once=True),
    _case("RNN", _rnn_cell(torch.tanh), "lengths", names="X W R B H0", direction="bidirectional", lengths=LENGTHS, **OURS),
    _case("RNN", _rnn_cell(torch.relu), "Relu", 'activations = ["Relu"]', **OURS),
    _case(
        "RNN",
        _rnn_cell(_hard),
        "HardSigmoid",
        'activations = ["HardSigmoid"], activation_alpha = [0.3], activation_beta = [0.4]',
        **OURS,
    ),
    _case(
        "RNN",
        _rnn_cell(lambda x: 0.4 * x + 0.1),
        "Affine",
        'activations = ["Affine"], activation_alpha = [0.4], activation_beta = [0.1]',
        **OURS,
    ),
    _case(
        "RNN",
        _rnn_cell(lambda x: 0.4 * torch.tanh(0.7 * x)),
        "ScaledTanh",
        'activations = ["ScaledTanh"], activation_alpha = [0.4], activation_beta = [0.7]',
        **OURS,
    ),
    _case("RNN", _rnn_cell(torch.nn.functional.softsign), "Softsign", 'activations = ["Softsign"]', **OURS),
    _case("RNN", _rnn_cell(torch.nn.functional.softplus), "Softplus", 'activations = ["Softplus"]', **OURS),
    _case(
        "RNN",
        _rnn_cell(lambda x: torch.nn.functional.elu(x, 0.7)),
        "Elu",
        'activations = ["Elu"], activation_alpha = [0.7]',
        **OURS,
    ),
    _case(
        "RNN",
        _rnn_cell(lambda x: torch.nn.functional.leaky_relu(x, 0.2)),
        "LeakyRelu",
        'activations = ["LeakyRelu"], activation_alpha = [0.2]',
        **OURS,
    ),
    _case(
        "RNN",
        _rnn_cell(lambda x: x * (x > -0.4)),
        "ThresholdedRelu",
        'activations = ["ThresholdedRelu"], activation_alpha = [-0.4]',
        **OURS,
    ),
    _case("GRU", _gru_cell(linear=False)),
    _case("GRU", _gru_cell(linear=True), "linear", "linear_before_reset = 1"),
    _case("GRU", _gru_cell(linear=True), "linear without bias", "linear_before_reset = 1", names="X W R", once=True),
    _case("GRU", _gru_cell(linear=False), "both", names="X W R B H0", direction="bidirectional", **OURS),
    _case("GRU", _gru_cell(linear=False), "lengths", names="X W R B H0", direction="reverse", lengths=LENGTHS, **OURS),
    _case(
        "GRU",
        _gru_cell(linear=True, f=_hard, act=torch.relu),
        "activations",
        'linear_before_reset = 1, activations = ["HardSigmoid", "Relu"], activation_alpha = [0.3], activation_beta = [0.4]',
        **OURS,
    ),
    _case("LSTM", _lstm_cell(), names=LSTM),
    _case("LSTM", _lstm_cell(), "no bias", names="X W R", once=True),
    _case("LSTM", _lstm_cell(), "peepholes", names=f"{LSTM} P"),
    _case("LSTM", _lstm_cell(), "reverse", names=LSTM, direction="reverse", once=True),
    _case("LSTM", _lstm_cell(), "both", names=f"{LSTM} P", direction="bidirectional", once=True),
    _case("LSTM", _lstm_cell(), "lengths", names=LSTM, direction="bidirectional", lengths=LENGTHS, **OURS),
    _case("LSTM", _lstm_cell(clip=0.4), "clip", "clip = 0.4", names=LSTM, **OURS),
    _case("LSTM", _lstm_cell(coupled=True), "coupled", "input_forget = 1", names=f"{LSTM} P", **OURS),
]
