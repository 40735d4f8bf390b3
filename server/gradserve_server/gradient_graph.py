"""A model's gradient as a standard ONNX file, which any runtime runs: Triton, a browser, a phone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import onnx
import onnx_ir as ir

from gradserve import Objective
from gradserve.errors import InvalidObjective, UnknownInput
from gradserve.objectives import parse
from gradserve_server.graph.derivatives import Backend, Policy, Product, Wanted, derive
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.layers import Layers
from gradserve_server.graph.load import load, read
from gradserve_server.graph.objectives import Terms, Weights, depends_on_count, heads
from gradserve_server.graph.save import save
from gradserve_server.graph.values import shape_of


def gradient_graph(
    model: str | Path | onnx.ModelProto, objective: Objective | str | None = None, **settings: Unpack["Settings"]
) -> onnx.ModelProto:
    """Makes a model of the gradient of another: `onnx.save(gradient_graph("digits.onnx", "logits:7"), "digits.grad.onnx")`.

    For models near protobuf's 2 GiB, and to have the file at once, see `save_gradient_graph`.

    Args:
        model: An ONNX file, or what one holds.
        objective: What to differentiate (a text is read as on the command line); its indices, directions and scales become
            constants of the new model.
        **settings: See `Settings`.

    Returns:
        The new model. It holds only standard operators, but for those of the original.

    Raises:
        InvalidObjective: It needs a layer's sizes and the graph does not tell them, or does not fit its layer.
        GradserveError: As `Engine.gradient` does.
    """
    return ir.to_proto(derive_file(model, objective, **settings))


def save_gradient_graph(
    model: str | Path, output: str | Path, objective: Objective | str | None = None, **settings: Unpack["Settings"]
) -> ir.Model:
    """Writes `gradient_graph` to a file; weights over 1 GiB go to a file beside it. Raises as `gradient_graph` does.

    Returns:
        What was written.
    """
    derived = derive_file(model, objective, **settings)
    save(derived, Path(output))
    return derived


class Settings(TypedDict, total=False):
    """How `gradient_graph` makes its model. Everything is optional."""

    layers: Sequence[str]
    """Instead of an objective: outputs or layers whose cotangents (`cotangent/<layer>`), or for "jvp" the tangents of what
    moves (`tangent/<input>`), are inputs of the new model."""
    wrt: Sequence[str]
    """With respect to which inputs or layers; every float input by default."""
    product: str
    """"vjp" (default): the objective's value `objective/value` [N] and gradients `grad/<input>`, or J^T v. "jvp": J t,
    `tangent/<layer>`. "hvp": H t of an objective, `hvp/<input>`."""
    shapes: Mapping[str, Sequence[int | str]]
    """Sizes of inputs, where the file leaves open what an objective must know; a text keeps a size open."""
    backend: str
    """"portable" (default), "training" or "auto"."""
    straight_through: bool
    """Quantization passes derivatives as if it rounded nothing; by default it is refused."""


def derive_file(
    model: str | Path | onnx.ModelProto,
    objective: Objective | str | None = None,
    *,
    layers: Sequence[str] = (),
    wrt: Sequence[str] = (),
    product: str = "vjp",
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    backend: str = "portable",
    straight_through: bool = False,
) -> ir.Model:
    """What `gradient_graph` gives, sharing the weights of a model in memory."""
    what, policy = Product(product), Policy(Backend(backend), straight_through)
    if (objective is None) != bool(layers) or (objective is None and what is Product.HVP):
        msg = "expected an objective, or (for vjp and jvp) layers, got both or neither"
        raise InvalidObjective(msg)
    source = read(model) if isinstance(model, onnx.ModelProto) else load(Path(model)).model
    _fix(source, shapes or {})
    form = to_inference_form(source)
    names = Layers("model" if isinstance(model, onnx.ModelProto) else Path(model).stem, form)
    if objective is None:
        targets = tuple(dict.fromkeys(map(names.resolve, layers)))
        return derive(form.model, Wanted(names.wrt(wrt, targets), targets, what), policy).model
    if isinstance(objective, str):
        objective = parse(objective, {name: len(shape) for name, v in names.values.items() if (shape := shape_of(v))})
    terms = Terms.of(objective, names.resolve)
    terms.check_graph("a file")
    start = names.wrt(wrt, terms.layers)
    derived = derive(form.model, Wanted(start, heads(terms.of_layers), what), policy).model
    _bake(derived, terms, names)
    return derived


def _fix(source: ir.Model, shapes: Mapping[str, Sequence[int | str]]) -> None:
    inputs = {value.name or "": value for value in source.graph.inputs}
    for name, shape in shapes.items():
        if name not in inputs:
            msg = f"input '{name}': expected one of {', '.join(map(repr, inputs))}"
            raise UnknownInput(msg)
        inputs[name].shape = ir.Shape(shape)
    if shapes:
        for node in source.graph:  # what the file says of the sizes after them may no longer hold
            for value in node.outputs:
                value.shape = None


def _bake(derived: ir.Model, terms: Terms, names: Layers) -> None:
    """The objective's run-time inputs become constants, one for all samples where it does not matter how many there are."""
    shapes = {}
    first = 0 if depends_on_count(terms.of_layers) else 1
    for layer in terms.layers:
        shape = shape_of(names.values[layer])
        if not shape or not all(isinstance(size, int) for size in shape[first:]):
            got = "an unknown rank" if shape is None else list(shape)
            msg = f"layer '{layer}': expected sizes known from the file, got {got}; give the sizes of the inputs"
            raise InvalidObjective(msg)
        sizes = [size for size in shape[first:] if isinstance(size, int)]
        shapes[layer] = (*([1] * first), *sizes)
    dtypes = {layer: names.dtype(layer) for layer in shapes}
    inputs = {value.name: value for value in derived.graph.inputs}
    for name, array in Weights(terms.of_layers, shapes, dtypes).all().items():
        value = inputs[name]
        derived.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        value.shape = ir.Shape(array.shape)
        derived.graph.register_initializer(value)
