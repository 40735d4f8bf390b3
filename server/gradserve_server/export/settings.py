"""What is asked of an export, and what it reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from gradserve.descriptions import TensorDescription

__all__ = ["Check", "Input", "Report", "Settings"]

DEFAULT_OPSET = 20
"""The newest that both of torch's exporters write."""

DEFAULT_MAX_BATCH = 64
"""Of Triton's clients; others send as many samples as they like."""


@dataclass(frozen=True)
class Input:
    """An input of the file to write."""

    shape: tuple[int, ...]
    """With the batch axis first; its size is that of `fixed_batch`, and means nothing else."""
    name: str = ""
    """Empty: what the framework calls it."""
    dtype: str = "float32"
    """NumPy's name: "float32", "int64", "int32" or "bool"."""


class Settings(TypedDict, total=False):
    """How `export_model` exports. Everything is optional that the framework knows by itself."""

    name: str
    """Of the model; by default the factory's or the file's."""
    version: int
    """Of the model; by default the one after the newest in the repository, or 1."""
    arguments: Mapping[str, Any]
    """Keyword arguments of the factory."""
    weights: str | Path
    """Of a PyTorch network: .safetensors, or .pt, .pth or .bin as `torch.load(weights_only=True)` reads it. Of a Keras
    model: .weights.h5."""
    weights_key: str
    """Where in a checkpoint of several things the tensors are."""
    weights_prefix: str
    """What stands before each name in the file and not in the network: "module." of torch's DataParallel."""
    inputs: Sequence[Input]
    outputs: Sequence[str]
    """Which outputs, where the network names them; else their new names."""
    exporter: str
    """"dynamo" (default) or "torchscript"; for networks that run on torch."""
    opset: int
    fixed_batch: bool
    """Keep the batch size of `inputs` instead of a symbolic one."""
    image: Mapping[str, Any]
    """How pixels become the inputs of four axes: fields of `ImageDescription`. Where layout and channels are not said, they
    follow from where an axis of 1 or 3 is."""
    image_inputs: Sequence[str]
    """Which inputs those are, if not all of four axes."""
    labels: Sequence[str]
    """What each index of an output means; scikit-learn's classifiers bring them."""
    labels_output: str
    """Of which output; by default the first."""
    max_batch: int
    """`max_batch_size` of config.pbtxt."""
    seed: int
    """Of the random inputs that the file is verified on."""


@dataclass(frozen=True)
class Check:
    """A tensor of the exported file, or a gradient of it, beside the framework's in float64.

    Differences are the largest of any element, relative to the largest value of the tensor, on the samples that were kept.
    """

    what: str
    """"logits", or "d logits / d image": of a random cotangent's product with the output."""
    shape: tuple[int, ...]
    difference: float
    """Between the file, run by `Engine`, and the framework in float64."""
    doubt: float
    """What a right float32 gradient may differ by: the framework's own in float32 from its own in float64, or float64
    from float64 with inputs moved by 1e-6, whichever is larger. Large where a sample lies near a kink, such as ReLU's."""
    allowed: float
    """Beyond it the export fails."""
    is_zero: bool = False
    """A gradient that is 0 everywhere proves nothing."""


@dataclass(frozen=True)
class Report:
    """A model that lies in the repository now."""

    model: str
    version: int
    file: Path
    framework: str
    exporter: str
    opset: int
    inputs: Sequence[TensorDescription]
    outputs: Sequence[TensorDescription]
    checks: Sequence[Check]
    notes: Sequence[str] = field(default=())
    """Sentences, that of training form among them."""
