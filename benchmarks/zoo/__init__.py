"""A zoo of network architectures with seeded random weights: what gradients are checked on.

    from zoo import load_table
    architecture = load_table()["swinv2_tiny_window8_256"]
    module = architecture.module()             # returns logits, middle (and embedding): float32, eval mode
    inputs = architecture.inputs()             # name -> float32 (or int64) tensor, a batch of 6
    exported = export(module, inputs, Path("swinv2.onnx"), Exporter.DYNAMO, opset=18)
    truth = reference(module, inputs, architecture.wrt)  # values and gradients by float64 autograd, for 2 of the 6

Nothing is downloaded: every parameter is drawn from the seed. Needs the extra `zoo`.
"""

from .architecture import Architecture, load_table
from .export import Exported, Exporter, export
from .oracle import Reference, reference
from .probe import Probed

__all__ = ["Architecture", "Exported", "Exporter", "Probed", "Reference", "export", "load_table", "reference"]
