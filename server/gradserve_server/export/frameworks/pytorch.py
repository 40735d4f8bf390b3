"""PyTorch: a `torch.nn.Module`, written by either of torch's exporters, differentiated by autograd in float64."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from gradserve.errors import InvalidModel, InvalidParameter
from gradserve_server.export.extras import need
from gradserve_server.export.frameworks.calling import Call, Flat, call_module, choose, name_inputs
from gradserve_server.export.frameworks.exportable import Array, Evaluation
from gradserve_server.export.frameworks.fitness import check_kind, check_numbers
from gradserve_server.export.frameworks.forms import compare_forms, enforce_inference_form
from gradserve_server.export.frameworks.torch_weights import load_weights
from gradserve_server.export.onnx_file import BATCH, finish
from gradserve_server.export.settings import Input, Settings

__all__ = ["Network", "adapt"]

EXPORTERS = ("dynamo", "torchscript")

PROBE_SAMPLES = 5
"""Of the batch that the exporters see, unless it is fixed. Not 1, which they would take for a constant, and no size that
other axes are likely to have: an output whose first axis has it is taken for one of the batch."""

MAX_REASON = 400
"""Characters of an exporter's error."""


def adapt(network: Any, settings: Settings) -> "Network":
    """A module, with its weights, ready to be exported.

    Raises:
        InvalidParameter: Weights or inputs that do not fit.
        InvalidModel: It has no inference form.
    """
    check_kind(network)
    if "weights" in settings:
        load_weights(
            network,
            Path(settings["weights"]),
            key=settings.get("weights_key", ""),
            prefix=settings.get("weights_prefix", ""),
        )
    inputs = name_inputs(network, settings.get("inputs", ()))
    return Network(network, "PyTorch", inputs, call_module, settings)


class Network:
    """An `Exportable` that runs on torch.

    Args:
        network: A `torch.nn.Module`; it stays in inference form, and ends in float64.
        framework: Its framework's name.
        inputs: Named.
        call: How it is called.
        settings: Of the export.
        alone: What a single result is called.

    Raises:
        InvalidParameter: Inputs that it does not take, or outputs that it does not give.
        InvalidModel: It has no inference form, or none that predicts.
    """

    def __init__(
        self, network: Any, framework: str, inputs: Sequence[Input], call: Call, settings: Settings, alone: str = "output"
    ) -> None:
        self.framework, self.inputs, self.labels = framework, inputs, ()
        self.exporter = settings.get("exporter", EXPORTERS[0])
        if self.exporter not in EXPORTERS:
            msg = f"exporter: expected one of {', '.join(EXPORTERS)}, got '{self.exporter}'"
            raise InvalidParameter(msg)
        self.notes: list[str] = []
        self._torch = need("torch")
        self._network = network
        enforce_inference_form(network)
        check_numbers(network)
        self._to_float32()
        self._flat = Flat(network, call, alone=alone)
        results = self._probe(settings)
        self._flat = Flat(network, call, choose(results, settings.get("outputs", ()), self._torch.Tensor), alone)
        chosen = self._flat.chosen or {}
        self.outputs = tuple(chosen.values())
        self._batched = [new for key, new in chosen.items() if tuple(results[key].shape[:1]) == (PROBE_SAMPLES,)]
        if not settings.get("fixed_batch", False):
            self._check_batched({new: tuple(results[key].shape) for key, new in chosen.items()})

    def draw(self, random: np.random.Generator, samples: int) -> dict[str, Array] | None:
        """It does not know what it was trained on."""
        del random, samples
        return None

    def compare_forms(self, feeds: Mapping[str, Array]) -> str:
        """See `Exportable`."""
        return compare_forms(self._flat, self._tensors(feeds), self._parts())

    def write(self, path: Path, opset: int, *, fixed_batch: bool) -> None:
        """See `Exportable`."""
        if self.exporter == "dynamo":
            need("onnxscript")
        try:
            with _silence(), self._torch.no_grad():
                model = self._export(path, opset, fixed_batch=fixed_batch)
        except Exception as error:
            msg = f"torch's exporter '{self.exporter}': {_reason(error)}. Try --exporter {_other(self.exporter)}"
            raise InvalidModel(msg) from error
        finish(
            model,
            path,
            inputs=[one.name for one in self.inputs],
            outputs=list(self.outputs),
            opset=opset,
            batched=None if fixed_batch else self._batched,
        )

    def evaluate(self, feeds: Mapping[str, Array], cotangents: Mapping[str, Array], *, double: bool) -> Evaluation:
        """See `Exportable`. What does not run in float64 is evaluated in float32, and a note says so."""
        if double:
            self._set_precision(self._torch.float64)
            try:
                return self._evaluate(feeds, cotangents)
            except RuntimeError as error:
                self._set_precision(self._torch.float32)
                note = f"verified against float32: the network does not run in float64 ({_reason(error)})"
                self.notes += [note] if note not in self.notes else []
        return self._evaluate(feeds, cotangents)

    # ---- on the inside -----------------------------------------------------------------------------------------------

    def _probe(self, settings: Settings) -> dict[str, Any]:
        """What it gives for zeros, twice: what predicts at random is not exported."""
        with self._torch.no_grad():
            zeros = self._examples(fixed_batch=settings.get("fixed_batch", False))
            try:
                first, second = self._flat(zeros), self._flat(zeros)
            except Exception as error:
                shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in zeros.items())
                msg = f"inputs: expected what the network takes, got {shapes}, and it raised: {_reason(error)}"
                raise InvalidParameter(msg) from error
        for name, tensor in first.items():
            if isinstance(tensor, self._torch.Tensor) and not self._torch.allclose(
                tensor, second[name], rtol=0, atol=0, equal_nan=True
            ):
                msg = f"output '{name}': expected the same prediction twice, got two: something is random in inference form"
                raise InvalidModel(msg)
        return first

    def _check_batched(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            if name not in self._batched:
                got = f"got {list(shape)} for {PROBE_SAMPLES} samples: choose others with --outputs, or --fixed-batch"
                msg = f"output '{name}': expected the batch as its first axis, {got}"
                raise InvalidModel(msg)

    def _to_float32(self) -> None:
        halves = {p.dtype for p in self._network.parameters() if p.is_floating_point()} - {self._torch.float32}
        if halves:
            kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in halves))
            self.notes.append(f"weights of {kinds} were exported as float32")
        self._set_precision(self._torch.float32)

    def _parts(self) -> Iterable[Any]:
        modules: Iterable[Any] = self._network.modules()
        return modules

    def _set_precision(self, dtype: Any) -> None:
        self._network.to(dtype)
        self._precision = dtype

    def _examples(self, *, fixed_batch: bool) -> dict[str, Any]:
        return {
            one.name: self._torch.zeros(
                (one.shape[0] if fixed_batch else PROBE_SAMPLES, *one.shape[1:]), dtype=getattr(self._torch, one.dtype)
            )
            for one in self.inputs
        }

    def _tensors(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """As the network takes them now: floats in the precision of its own."""
        tensors = {name: self._torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        return {name: t.to(self._precision) if t.is_floating_point() else t for name, t in tensors.items()}

    def _evaluate(self, feeds: Mapping[str, Array], cotangents: Mapping[str, Array]) -> Evaluation:
        torch = self._torch
        tensors = {name: tensor.requires_grad_(tensor.is_floating_point()) for name, tensor in self._tensors(feeds).items()}
        moved = [name for name, tensor in tensors.items() if tensor.requires_grad]
        outputs = self._flat(tensors)
        gradients = {}
        for name, cotangent in cotangents.items():
            output = outputs[name]
            found: Sequence[Any] = [None] * len(moved)
            if output.requires_grad:
                v = torch.from_numpy(cotangent).to(output.dtype)
                found = torch.autograd.grad(output, [tensors[n] for n in moved], v, retain_graph=True, allow_unused=True)
            gradients[name] = {n: g.detach().numpy() for n, g in zip(moved, found, strict=True) if g is not None}
        return Evaluation({name: tensor.detach().numpy() for name, tensor in outputs.items()}, gradients)

    def _export(self, path: Path, opset: int, *, fixed_batch: bool) -> ir.Model:
        torch, examples = self._torch, self._examples(fixed_batch=fixed_batch)
        names, outputs = list(examples), list(self.outputs)
        common = {"input_names": names, "output_names": outputs, "opset_version": opset}
        module = _as_module(self._flat, names)
        if self.exporter == "torchscript":
            axes = None if fixed_batch else {name: {0: BATCH} for name in [*names, *self._batched]}
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # weights over 2 GiB lie in files beside it
                file = Path(folder, path.name)
                torch.onnx.export(module, tuple(examples.values()), str(file), dynamo=False, dynamic_axes=axes, **common)
                return ir.external_data.load_to_model(ir.load(file))
        batch = None if fixed_batch else (tuple({0: torch.export.Dim.AUTO} for _ in names),)
        program = torch.onnx.export(
            module, tuple(examples.values()), dynamo=True, dynamic_shapes=batch, verbose=False, **common
        )
        model: ir.Model = program.model
        return model


def _as_module(flat: Flat, names: Sequence[str]) -> Any:
    """A network of positional tensors that gives a tuple of them, which is what both exporters take alike."""
    torch = need("torch")

    class Positional(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = flat.network

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            return tuple(flat(dict(zip(names, tensors, strict=True))).values())

    return Positional().eval()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps what the exporters print, warn and log to themselves: what is wrong with their file, the verification finds."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _reason(error: BaseException) -> str:
    """The first line of what was at the root of it: torch wraps its errors in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:MAX_REASON] if lines else ''}"


def _other(exporter: str) -> str:
    return next(one for one in EXPORTERS if one != exporter)
