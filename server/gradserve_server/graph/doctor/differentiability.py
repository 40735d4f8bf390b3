"""What stands between the input and the gradients of the outputs: no rule, or a function that only jumps."""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from gradserve.diagnosis import Finding
from gradserve_server.graph.autodiff import path
from gradserve_server.graph.autodiff.judge import Judge, PortableJudge, links
from gradserve_server.graph.doctor.finding import finding
from gradserve_server.graph.doctor.subject import Subject
from gradserve_server.graph.values import is_float, is_op, opset_of

STEPS = ("Ceil", "Floor", "Hardmax", "Round", "Sign")
"""Functions from floats to floats that are constant between their jumps."""

SIZES = ("Shape", "Size")
"""What they give does not depend on the input's values."""

Reached = Mapping[ir.Value, tuple[str, ...]]


def differentiability(subject: Subject) -> Iterator[Finding]:
    """What has no gradient on the way from the float inputs to the outputs, in inference form."""
    model = subject.inference
    if model is None:
        return
    judge = PortableJudge(model, opset_of(model))
    starts = [value.name or "" for value in model.graph.inputs if is_float(value)]
    reached = path.reach(model, starts, judge).problems
    for node in model.graph:
        live = [i for i, value in enumerate(links(node)) if value is not None and value in reached]
        if live and is_op(node, *STEPS):
            yield finding("activation-zero-gradient", node, node.op_type)
        for problem in _problems(judge, node, live):
            yield finding("op-without-gradient", node, problem)
    yield from _cut(model, reached)


def _problems(judge: Judge, node: ir.Node, live: list[int]) -> list[str]:
    live = judge.flows(node, live) if live else []
    return list(dict.fromkeys(judge.problems(node, live))) if live else []


def _cut(model: ir.Model, reached: Reached) -> Iterator[Finding]:
    """Nodes where the way to an output ends. A label beside the scores is meant to be one."""
    moved = _moved(model)
    outputs = [value for value in model.graph.outputs if value in moved]
    floats_go_on = any(value in reached for value in outputs)
    blamed: dict[ir.Node, list[str]] = {}
    for output in outputs:
        if output not in reached and (is_float(output) or not floats_go_on):
            for node in _ends(output, moved, reached):
                blamed.setdefault(node, []).append(f"'{output.name}'")
    for node, cut in blamed.items():
        if not is_op(node, *STEPS):
            yield finding("gradient-cut", node, f"{node.op_type}, on the way to output {', '.join(cut)}")


def _moved(model: ir.Model) -> set[ir.Value]:
    """What depends on the values of float inputs."""
    moved = {value for value in model.graph.inputs if is_float(value)}
    for node in model.graph:
        if not is_op(node, *SIZES) and any(value in moved for value in links(node)):
            moved.update(node.outputs)
    return moved


def _ends(output: ir.Value, moved: set[ir.Value], reached: Reached) -> Iterator[ir.Node]:
    seen, stack = set[ir.Node](), [output]
    while stack:
        node = stack.pop().producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        read = [value for value in links(node) if value is not None and value in moved]
        if any(value in reached for value in read):
            yield node
        stack += [value for value in read if value not in reached]
