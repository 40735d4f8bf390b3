"""gradserve: predictions, input gradients and gradient ascents of any ONNX model.

`Client` and `aio.Client` ask a server; `gradserve_server.Engine` has the same verbs in process.
"""

from gradserve import (
    aio,
    checks,
    errors,
    numbers,
    objectives,
    optimizers,
    parameterizations,
    presets,
    projections,
    regularizers,
    stopping,
    transforms,
)
from gradserve._calls import GradientResult, HessianResult
from gradserve._metadata import metadata
from gradserve.ascents import AscentSettings, GradientNormalization, Noise, Step, StopReason
from gradserve.checkpoints import Checkpoint
from gradserve.client import Client
from gradserve.connection import ConnectionSettings, Tls
from gradserve.descriptions import ImageDescription, Layer, ModelDescription, ModelState, ModelStatus, TensorDescription
from gradserve.diagnosis import Activity, ChannelStatistics, Diagnosis, Finding, Repaired, Severity, Treatment
from gradserve.errors import GradserveError
from gradserve.objectives import Objective
from gradserve.optimizers import Adam, AdamW, Momentum, NAdam, RmsProp, Sgd

__version__ = "0.1.0"

__all__ = [
    "Activity",
    "Adam",
    "AdamW",
    "AscentSettings",
    "ChannelStatistics",
    "Checkpoint",
    "Client",
    "ConnectionSettings",
    "Diagnosis",
    "Finding",
    "GradientNormalization",
    "GradientResult",
    "GradserveError",
    "HessianResult",
    "ImageDescription",
    "Layer",
    "ModelDescription",
    "ModelState",
    "ModelStatus",
    "Momentum",
    "NAdam",
    "Noise",
    "Objective",
    "Repaired",
    "RmsProp",
    "Severity",
    "Sgd",
    "Step",
    "StopReason",
    "TensorDescription",
    "Tls",
    "Treatment",
    "aio",
    "checks",
    "errors",
    "metadata",
    "numbers",
    "objectives",
    "optimizers",
    "parameterizations",
    "presets",
    "projections",
    "regularizers",
    "stopping",
    "transforms",
]
