"""Which nodes lie between inputs and targets, and whether each of them can be differentiated.

Checked before a backward graph is built, so that what has no gradient is an error that names every offending node, and a
derivative that is merely not implemented never passes for zero.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gradserve.errors import NotDifferentiable, UnsupportedGradient
from gradserve_server.graph.autodiff.training_ops import OPSETS_VERIFIED, PROVEN_ZERO, VERIFIED
from gradserve_server.graph.values import DEFAULT_DOMAINS, describe, is_float, opset_of


@dataclass(frozen=True)
class Reach:
    """What depends on some inputs, and what stands in the way of differentiating it."""

    problems: dict[ir.Value, tuple[str, ...]]
    """For each value that depends on the inputs: the nodes on its way without a gradient, in words."""

    def differentiable(self, value: ir.Value) -> bool:
        """Whether the value has a gradient."""
        return self.problems.get(value, ("",)) == ()


def reach(model: ir.Model, wrt: Iterable[str]) -> Reach:
    """Follows the derivative from inputs through the main graph, in topological order."""
    opset = opset_of(model)
    wanted = set(wrt)
    problems: dict[ir.Value, tuple[str, ...]] = {value: () for value in model.graph.inputs if value.name in wanted}
    for node in model.graph:
        live = [i for i, value in enumerate(node.inputs) if value is not None and value in problems]
        captured = {value: None for value in _captured(node) if value in problems}
        if captured:
            names = ", ".join(repr(value.name) for value in captured)
            problems.update(dict.fromkeys(node.outputs, (f"{describe(node, opset)}: a branch or body reads {names}",)))
            continue
        if node.op_type in PROVEN_ZERO and node.domain in DEFAULT_DOMAINS:
            continue
        live = [i for i in live if not _is_zero(node, i)]
        if not live:
            continue
        known = [problem for i in live for problem in problems[node.inputs[i]]]  # type: ignore[index]
        found = tuple(dict.fromkeys([*known, *_problems_of(node, live, opset)]))
        for value in node.outputs:
            if is_float(value) or value.dtype is None:
                problems[value] = found
    return Reach(problems)


def sources(model: ir.Model, targets: Iterable[str]) -> set[ir.Value]:
    """Every value that a derivative of the targets flows back to."""
    values = ir.convenience.create_value_mapping(model.graph)
    found = {values[target] for target in targets}
    for node in reversed(model.graph):
        if found.isdisjoint(node.outputs) or (node.op_type in PROVEN_ZERO and node.domain in DEFAULT_DOMAINS):
            continue
        found.update(value for i, value in enumerate(node.inputs) if value is not None and not _is_zero(node, i))
    return found


def check(model: ir.Model, wrt: Sequence[str], targets: Sequence[str]) -> None:
    """Makes sure that every target has a gradient with respect to every input.

    Raises:
        NotDifferentiable: A target does not depend on any of the inputs, or an input reaches no target.
        UnsupportedGradient: Nodes on the way have no gradient; the text names all of them.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    values = ir.convenience.create_value_mapping(model.graph)
    for name in wrt:
        if not is_float(inputs[name]):
            msg = f"input '{name}': expected a float type to differentiate with respect to, got {inputs[name].dtype}"
            raise NotDifferentiable(msg)
        alone = reach(model, [name])
        if not any(values[target] in alone.problems for target in targets):
            msg = f"{', '.join(map(repr, targets))}: does not depend on input '{name}'"
            raise NotDifferentiable(msg)
    together = reach(model, wrt)
    problems: list[str] = []
    for target in targets:
        if values[target] not in together.problems:
            msg = f"layer '{target}': does not depend on {', '.join(map(repr, wrt))}"
            raise NotDifferentiable(msg)
        problems += together.problems[values[target]]
    if problems:
        msg = f"no gradient in the training backend for {'; '.join(dict.fromkeys(problems))}"
        raise UnsupportedGradient(msg)


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """What the node's subgraphs read, values of the main graph among it."""
    for attr in node.attributes.values():
        graphs = [attr.as_graph()] if attr.type is ir.AttributeType.GRAPH else ()
        for graph in attr.as_graphs() if attr.type is ir.AttributeType.GRAPHS else graphs:
            yield from graph.outputs
            for below in ir.traversal.RecursiveGraphIterator(graph):
                yield from (value for value in below.inputs if value is not None)


def _is_zero(node: ir.Node, index: int) -> bool:
    rule = VERIFIED.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
    return rule is not None and index in rule.zero


def _problems_of(node: ir.Node, live: Sequence[int], opset: int) -> list[str]:
    """Why the builder must not be given this node, with a derivative flowing through these of its inputs."""
    name = describe(node, opset)
    rule = VERIFIED.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
    if rule is None:
        return [name]
    if opset not in OPSETS_VERIFIED:
        return [f"{name}: verified for opsets {OPSETS_VERIFIED.start} to {OPSETS_VERIFIED.stop - 1}"]
    problems = []
    if rule.differentiable is not None:
        problems += [f"{name} input {i}" for i in live if i not in rule.differentiable]
    if rule.restriction is not None and (reason := rule.restriction(node)) is not None:
        problems.append(f"{name}: {reason}")
    if any(node.inputs[i].dtype not in (ir.DataType.FLOAT, None) for i in live):  # type: ignore[union-attr]
        problems.append(f"{name}: verified for float32 only")
    return problems
