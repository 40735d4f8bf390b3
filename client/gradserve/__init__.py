"""gradserve: predictions, input gradients and gradient ascents of any ONNX model.

`Client` and `aio.Client` ask a server; `gradserve_server.Engine` has the same verbs in process.
"""

from gradserve import aio, checks, errors, objectives
from gradserve._calls import GradientResult, HessianResult
from gradserve._metadata import metadata
from gradserve.ascents import Adam, AscentSettings, GradientNormalization, Noise, Sgd, Step, StopReason
from gradserve.checkpoints import Checkpoint
from gradserve.client import Client
from gradserve.connection import ConnectionSettings, Tls
from gradserve.descriptions import ImageDescription, Layer, ModelDescription, ModelState, ModelStatus, TensorDescription
from gradserve.errors import GradserveError
from gradserve.objectives import Objective

__version__ = "0.1.0"

__all__ = [
    "Adam",
    "AscentSettings",
    "Checkpoint",
    "Client",
    "ConnectionSettings",
    "GradientNormalization",
    "GradientResult",
    "GradserveError",
    "HessianResult",
    "ImageDescription",
    "Layer",
    "ModelDescription",
    "ModelState",
    "ModelStatus",
    "Noise",
    "Objective",
    "Sgd",
    "Step",
    "StopReason",
    "TensorDescription",
    "Tls",
    "aio",
    "checks",
    "errors",
    "metadata",
    "objectives",
]
