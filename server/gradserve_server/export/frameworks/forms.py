"""Inference form of a network on torch: that it has one, and how far its training form is from it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from gradserve.errors import InvalidModel
from gradserve_server.export.extras import need
from gradserve_server.export.frameworks.calling import Flat

_CHANGES = re.compile("BatchNorm|Drop|StochasticDepth")
"""In the names of the classes whose training form is another."""


def enforce_inference_form(network: Any) -> None:
    """Puts a network into inference form, for good: no parameter has a gradient any more, either.

    Raises:
        InvalidModel: A module stays in training form, or has no other.
    """
    network.eval()
    network.requires_grad_(requires_grad=False)
    for name, module in network.named_modules():
        what = f"module '{name}' ({type(module).__name__})"
        if module.training:
            msg = f"{what}: expected inference form after eval(), got training form: its train() does not do what it is told"
            raise InvalidModel(msg)
        # InstanceNorm has no statistics either, but those of each sample by itself.
        if "BatchNorm" in type(module).__name__ and getattr(module, "track_running_stats", True) is False:
            msg = f"{what}: expected running statistics, got each batch's: a sample's prediction depends on the others"
            raise InvalidModel(msg)


def compare_forms(flat: Flat, tensors: Mapping[str, Any], modules: Iterable[Any]) -> str:
    """A sentence on how far training form is from inference form. Statistics that it moves are put back.

    Args:
        flat: In inference form.
        tensors: A batch.
        modules: What the network is made of.
    """
    torch, network = need("torch"), flat.network
    kinds = Counter(type(m).__name__ for m in modules if _CHANGES.search(type(m).__name__))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = flat(tensors)
        network.train()
        try:
            got = flat(tensors, training=True)
        except Exception as error:
            return f"its training form does not run on the random batch: {str(error).partition(chr(10))[0]}"
        finally:
            network.eval()
            network.load_state_dict(state)
    differences = {name: _difference(expected[name], got[name]) for name in expected if name in got}
    worst = max(differences, key=lambda name: differences[name], default="")
    if not worst or not differences[worst]:
        return "in training form the outputs are the same"
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "a module that asks whether it is trained"
    most = f"'{worst}' by {differences[worst]:.2g} of its largest value" if len(expected) > 1 else ""
    by = f"differ, {most}" if most else f"differ by {differences[worst]:.2g} of their largest value"
    return f"in training form the outputs {by} ({named}); inference form was exported"


def _difference(expected: Any, got: Any) -> float:
    if expected.shape != got.shape:
        return float("inf")
    largest = float(expected.double().abs().max())
    return float((got.double() - expected.double()).abs().max()) / max(largest, 1e-30)
