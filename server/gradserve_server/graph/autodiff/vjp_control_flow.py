"""If, Scan and Loop. The backward subgraph computes again what it needs of the forward one, of which only outputs are kept.

If:    dcaptured = If(condition; each branch pulled back)
Scan:  a Scan that keeps the states, then a Scan from the last step to the first whose body is the body pulled back
Loop:  a Loop that keeps the states, then the same Scan
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.bodies import backwards, closed, entry, replay, scan
from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.judge import Body, bodies, depend
from gradserve_server.graph.autodiff.reverse import pull_back
from gradserve_server.graph.autodiff.rules import Cotangent, vjp
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.values import shape_of

BRANCHES = ("then_branch", "else_branch")
SINCE = (16, 19, 21, 23, 24, 25)

# ---- If --------------------------------------------------------------------------------------------------------------


@vjp("If", since=SINCE)
def if_(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Of each captured value: from the branch taken, zero where that branch does not use it."""
    wanted = sorted(n.wanted)
    values = [n.captured[index - 1] for index in wanted]
    branches = []
    for name in BRANCHES:
        inner = g.for_subgraph()
        outputs = replay(inner, n.node.attributes[name].as_graph(), ())
        pulled = pull_back(inner, list(inner.nodes), _seeds(inner, outputs, n.cotangents), [x.value for x in values])
        branches.append(closed(inner, (), [_or_zeros(inner, pulled, x) for x in values]))
    then, otherwise = branches
    results = g.op("If", n.x, outputs=len(values), then_branch=then, else_branch=otherwise)
    for result, x in zip(results, values, strict=True):
        result.value.type, result.value.shape = x.value.type, x.value.shape
    return [dict(zip(wanted, results, strict=True)).get(index) for index in range(len(n.inputs) + len(n.captured))]


def _seeds(g: Emitter, outputs: Sequence[Expr], cotangents: Sequence[Expr | None]) -> dict[ir.Value, Expr]:
    """The cotangent of each value that is an output; of one that is several, their sum."""
    seeds: dict[ir.Value, Expr] = {}
    for out, cotangent in zip(outputs, cotangents, strict=True):
        if cotangent is not None:
            inside = g.of(cotangent.value)
            seeds[out.value] = seeds[out.value] + inside if out.value in seeds else inside
    return seeds


def _or_zeros(g: Emitter, pulled: Mapping[ir.Value, Expr], x: Expr) -> Expr:
    return pulled[x.value] if x.value in pulled else g.zeros_like(g.of(x.value))


# ---- Scan and Loop ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Steps:
    """What both are: a body that is run again and again. Stacked values lie along axis 0, in the order of the steps."""

    body: Body
    fixed: Mapping[ir.Value, Expr]
    """Inputs of the body that are the same in every step."""
    states: Sequence[ir.Value]
    """Inputs of the body that a step gives to the next, as `body.carried` has them."""
    initial: Sequence[Expr]
    history: Sequence[Expr]
    """What each state was before each step, stacked."""
    elements: Sequence[ir.Value]
    """Inputs of the body that are another element in each step."""
    stacked: Sequence[Expr]
    final: Sequence[Expr | None]
    """Cotangents of the states after the last step."""
    collected: Sequence[Expr | None]
    """Cotangents of what the steps collected, stacked."""


def _pull_steps(
    g: Emitter, steps: _Steps, live: Sequence[int], captured: Sequence[Expr]
) -> tuple[dict[ir.Value, Expr], dict[ir.Value, Expr], dict[ir.Value, Expr]]:
    """The cotangents of initial states and of elements (by input of the body), and of captured values that are wanted."""
    body, depends = steps.body, depend(g, steps.body, live)
    carried = [i for i, state in enumerate(steps.states) if state in depends]
    wanted = [i for i, element in enumerate(steps.elements) if element in depends]
    given = [i for i, cotangent in enumerate(steps.collected) if cotangent is not None]
    count = len(steps.states)

    def back(inner: Emitter, states: list[Expr], elements: list[Expr]) -> tuple[list[Expr], list[Expr]]:
        arriving, sums = dict(zip(carried, states, strict=False)), states[len(carried) :]
        held, taken, rest = elements[:count], elements[count : -len(given) or None], elements[len(elements) - len(given) :]
        collected = dict(zip(given, rest, strict=True))
        inputs = {
            **steps.fixed,
            **dict(zip(steps.states, held, strict=True)),
            **dict(zip(steps.elements, taken, strict=True)),
        }
        outputs = replay(inner, body.graph, [inner.of(inputs[value].value) for value in body.graph.inputs])
        outputs = outputs[len(outputs) - len(body.results) :]
        cotangents = [arriving.get(i) for i in range(count)] + [collected.get(i) for i in range(len(steps.collected))]
        asked = [*(held[i] for i in carried), *(taken[i] for i in wanted), *captured]
        pulled = pull_back(inner, list(inner.nodes), _seeds(inner, outputs, cotangents), [x.value for x in asked])
        parts = [_or_zeros(inner, pulled, x) for x in asked]
        before, ahead = parts[: len(carried)], len(carried) + len(wanted)
        totals = [total + part for total, part in zip(sums, parts[ahead:], strict=True)]
        return [*before, *totals], parts[len(carried) : ahead]

    starts = [steps.final[i] or g.zeros_like(steps.initial[i]) for i in carried]
    starts += [g.zeros_like(x) for x in captured]
    stacked = [*steps.history, *steps.stacked, *(c for c in steps.collected if c is not None)]
    ends, cotangents = scan(g, starts, [backwards(g, x) for x in stacked], back)
    return (
        {steps.states[i]: end for i, end in zip(carried, ends, strict=False)},
        {steps.elements[i]: backwards(g, cotangent) for i, cotangent in zip(wanted, cotangents, strict=True)},
        {x.value: end for x, end in zip(captured, ends[len(carried) :], strict=True)},
    )


@vjp("Scan", since=SINCE)
def scan_(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Of the states: through the steps from last to first. Of scan inputs: step by step. Of captured values: their sum."""
    (body,) = bodies(n.node)
    count = len(body.carried)
    layout = _Layout(n.node, count)
    stacked = [layout.taken(g, n.input(count + i), i) for i in range(len(n.inputs) - count)]
    initial = [n.input(i) for i in range(count)]

    def again(inner: Emitter, states: list[Expr], elements: list[Expr]) -> tuple[list[Expr], list[Expr]]:
        return replay(inner, body.graph, [*states, *elements])[:count], states

    history = scan(g, initial, stacked, again)[1] if count else []
    steps = _Steps(
        body,
        {},
        body.graph.inputs[:count],
        initial,
        history,
        body.graph.inputs[count:],
        stacked,
        n.cotangents[:count],
        [layout.given(g, c, i) if c is not None else None for i, c in enumerate(n.cotangents[count:])],
    )
    asked = [n.captured[i - len(n.inputs)] for i in sorted(n.wanted) if i >= len(n.inputs)]
    states, elements, captured = _pull_steps(g, steps, sorted(n.wanted), asked)
    return [
        *(states.get(value) for value in steps.states),
        *(layout.back(g, elements[v], i) if v in elements else None for i, v in enumerate(steps.elements)),
        *(captured.get(x.value) for x in n.captured),
    ]


class _Layout:
    """Brings a Scan's scanned values to axis 0 and the order of the steps, and back."""

    def __init__(self, node: ir.Node, states: int) -> None:
        site = node.attributes
        self._states = states

        def listed(name: str) -> list[int]:
            return list(site[name].as_ints()) if name in site else []

        self._axes, self._ahead = listed("scan_input_axes"), listed("scan_input_directions")
        self._out_axes, self._out_ahead = listed("scan_output_axes"), listed("scan_output_directions")

    def taken(self, g: Emitter, x: Expr, index: int) -> Expr:
        """A scan input, stacked by steps."""
        return _stacked(g, x, _at(self._axes, index), _at(self._ahead, index))

    def given(self, g: Emitter, x: Expr, index: int) -> Expr:
        """The cotangent of a scan output, stacked by steps."""
        return _stacked(g, x, _at(self._out_axes, index), _at(self._out_ahead, index))

    def back(self, g: Emitter, x: Expr, index: int) -> Expr:
        """What is stacked by steps, in the layout of a scan input."""
        axis = _at(self._axes, index)
        x = backwards(g, x) if _at(self._ahead, index) else x
        axis = axis + x.rank if axis < 0 else axis
        return g.transpose(x, [*range(1, axis + 1), 0, *range(axis + 1, x.rank)]) if axis else x


def _stacked(g: Emitter, x: Expr, axis: int, turned: int) -> Expr:
    if axis:
        axis = axis + x.rank if axis < 0 else axis
        x = g.transpose(x, [axis, *(i for i in range(x.rank) if i != axis)])
    return backwards(g, x) if turned else x


def _at(numbers: Sequence[int], index: int) -> int:
    return numbers[index] if index < len(numbers) else 0


def _states_are_tensors_of_one_shape(n: Site) -> str | None:
    (body,) = bodies(n.node)
    for i, (out, into) in enumerate(body.carried):
        if not isinstance(n.input(2 + i).value.type, ir.TensorType):
            return "one of its states is not a tensor"
        first, last = n.input(2 + i).shape, shape_of(out)
        sizes = zip(first or (), last or (), strict=False)
        apart = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes)
        if apart or (first is not None and last is not None and len(first) != len(last)):
            return f"its state '{into.name}' changes its shape from step to step"
    return None


@vjp("Loop", since=SINCE, refuse=_states_are_tensors_of_one_shape)
def loop(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """As of a Scan with as many steps as the loop made. Every state must keep its shape."""
    (body,) = bodies(n.node)
    count = len(body.carried)
    initial = [n.input(2 + i) for i in range(count)]
    inner = g.for_subgraph()
    number, going = entry(inner, ir.DataType.INT64, ()), entry(inner, ir.DataType.BOOL, ())
    states = [entry(inner, x.dtype, x.shape) for x in initial]
    outputs = replay(inner, body.graph, [number, going, *states])[: 1 + count]
    kept = [number, *states]
    again = closed(inner, [number, going, *states], [*outputs, *kept])
    results = g.op("Loop", *n.inputs[:2], *initial, outputs=count + len(kept), body=again)
    for out, like in zip(results, [*initial, *kept], strict=True):
        shape = like.shape if like in initial else (None, *like.shape) if like.shape is not None else None
        out.value.type, out.value.shape = ir.TensorType(like.dtype), ir.Shape(shape) if shape is not None else None
    numbers, *history = results[count:]
    iteration, going_on, *inside = body.graph.inputs
    steps = _Steps(
        body,
        {going_on: g.const(np.array(True))},
        inside,
        initial,
        history,
        [iteration],
        [numbers],
        n.cotangents[:count],
        n.cotangents[count:],
    )
    asked = [n.captured[i - len(n.inputs)] for i in sorted(n.wanted) if i >= len(n.inputs)]
    before, _, captured = _pull_steps(g, steps, sorted(n.wanted), asked)
    return [None, None, *(before.get(value) for value in inside), *(captured.get(x.value) for x in n.captured)]
