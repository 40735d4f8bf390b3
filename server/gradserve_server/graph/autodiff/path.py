"""Which nodes lie between inputs and targets, and whether a backend can differentiate each of them.

Checked before a backward graph is built, so that what has no gradient is an error that names every offending node, and a
derivative that is merely not implemented never passes for zero.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gradserve.errors import NotDifferentiable, UnsupportedGradient
from gradserve_server.graph.autodiff.judge import Judge, follow
from gradserve_server.graph.values import is_float


@dataclass(frozen=True)
class Reach:
    """What depends on some values, and what stands in the way of differentiating it."""

    problems: dict[ir.Value, tuple[str, ...]]
    """For each value that depends on them: the nodes on its way without a gradient, in words."""

    def differentiable(self, value: ir.Value) -> bool:
        """Whether the value has a gradient."""
        return self.problems.get(value, ("",)) == ()


def reach(model: ir.Model, wrt: Iterable[str], judge: Judge) -> Reach:
    """Follows the derivative from inputs or layers through the main graph, in topological order."""
    values = ir.convenience.create_value_mapping(model.graph)
    return Reach(follow(model.graph, dict.fromkeys((values[name] for name in wrt), ()), judge))


def check(model: ir.Model, wrt: Sequence[str], targets: Sequence[str], judge: Judge) -> None:
    """Makes sure that every target has a gradient with respect to every input.

    Raises:
        NotDifferentiable: A target does not depend on any of the inputs, or an input reaches no target.
        UnsupportedGradient: Nodes on the way have no gradient; the text names all of them.
    """
    values = ir.convenience.create_value_mapping(model.graph)
    for name in wrt:
        if not is_float(values[name]):
            msg = f"'{name}': expected a float type to differentiate with respect to, got {values[name].dtype}"
            raise NotDifferentiable(msg)
        alone = reach(model, [name], judge)
        if not any(values[target] in alone.problems for target in targets):
            msg = f"{', '.join(map(repr, targets))}: does not depend on '{name}'"
            raise NotDifferentiable(msg)
    together = reach(model, wrt, judge)
    problems: list[str] = []
    for target in targets:
        if values[target] not in together.problems:
            msg = f"layer '{target}': does not depend on {', '.join(map(repr, wrt))}"
            raise NotDifferentiable(msg)
        problems += together.problems[values[target]]
    if problems:
        msg = f"no gradient in the {judge.backend} backend for {'; '.join(dict.fromkeys(problems))}"
        raise UnsupportedGradient(msg)
