"""Sessions of graphs that are tuned for this machine."""

import logging

import onnx_ir as ir

from gradserve_server.graph.inference_form.to_float32 import needs_float32, to_float32
from gradserve_server.graph.tuning import Machine, tune
from gradserve_server.graph.weights import let_go
from gradserve_server.runtime.block_size import block_size
from gradserve_server.runtime.device import Device
from gradserve_server.runtime.operators import have_operators
from gradserve_server.runtime.session import Session

_log = logging.getLogger(__name__)

GPU = Machine(None, operators=False, gpu=True)
"""A machine whose GPU runs the graph."""


def tuned_session(model: ir.Model, threads: int, *, prepack: bool = True, device: Device = Device.CPU) -> Session:
    """A session of the tuned graph; of the graph as it is, should that fail.

    Args:
        model: Not changed.
        threads: See `Session`.
        prepack: See `Session`.
        device: See `Session`. Its own layout and our operators are the processor's.

    Raises:
        InvalidModel: onnxruntime refuses the graph as it is.
    """
    tuned = model.clone()
    try:
        if needs_float32(tuned):  # the session would do it, but afterwards
            to_float32(tuned)
        tune(tuned, Machine(block_size(), have_operators()) if device is Device.CPU else GPU)
        session = Session(tuned, threads, prepack=prepack, device=device)
        let_go(tuned)
        return session
    except Exception as error:  # whatever it is: a model is served without tuning rather than not at all
        session = Session(model, threads, prepack=prepack, device=device)
        warn_untuned(error)
        return session


def warn_untuned(error: Exception) -> None:
    """Says why a graph runs as it is."""
    first = str(error).partition("\n")[0]
    _log.warning("a graph could not be tuned, and is run as it is: %s: %s", type(error).__name__, first)
