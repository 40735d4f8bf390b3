"""What the static checks look at: the file's graph in its own form, and its inference form where it has one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from gradserve.descriptions import ImageDescription
from gradserve.errors import GradserveError
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.load import MIN_OPSET, ModelFile
from gradserve_server.graph.values import is_op, opset_of


@dataclass(frozen=True)
class Subject:
    """A model to look at."""

    file: ModelFile
    newest_opset: int | None = None
    """That the installed runtime loads; None where that is not known."""
    images: Mapping[str, ImageDescription] = field(default_factory=dict)
    """Image descriptions by input."""

    @cached_property
    def model(self) -> ir.Model:
        """The graph as the file has it: constants lifted, what nothing needs gone, shapes inferred."""
        model = self.file.model.clone()
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        _remove_unused(model.graph)
        if self.opset >= MIN_OPSET:
            infer_shapes(model)
        return model

    @property
    def opset(self) -> int:
        """Of the default domain."""
        return opset_of(self.file.model)

    def nodes(self, *op_types: str) -> Iterator[ir.Node]:
        """Nodes of some operators of the default domain, those of subgraphs included."""
        return (node for node in ir.traversal.RecursiveGraphIterator(self.model.graph) if is_op(node, *op_types))

    @cached_property
    def refusal(self) -> str:
        """Why gradserve does not serve it; empty if it does, as far as the graph tells."""
        if self.opset < MIN_OPSET:
            return f"opset {self.opset}"
        try:
            self._form  # noqa: B018 made to see whether it can be made
        except GradserveError as error:
            return str(error)
        return ""

    @property
    def inference(self) -> ir.Model | None:
        """Its inference form."""
        return None if self.refusal else self._form

    @cached_property
    def _form(self) -> ir.Model:
        return to_inference_form(self.file.model, self.newest_opset).model


def _remove_unused(graph: ir.Graph) -> None:
    """Nodes that nothing needs go. Outputs that nothing reads stay: they say that a node is in training form."""
    for node in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
