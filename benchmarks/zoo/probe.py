"""A network that returns, beside its logits, the output of a layer in its middle and of its embedding."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn


def first_tensor(output: Any) -> Tensor:
    """Returns the first tensor of a module's output, which may be a tensor, a sequence or a transformers' ModelOutput."""
    while not isinstance(output, Tensor):
        output = output[0]
    return output


class Probed(nn.Module):
    """Takes its inputs by position; returns (logits, middle) or (logits, middle, embedding), all plain tensors.

    The same tensors go on into the rest of the network: in an exported graph `middle` and `embedding` are values that later
    nodes consume, and in autograd they are on the way to the logits.

    Attributes:
        network: The network, untouched but for its in-place activations, which become ordinary ones (an in-place one could
            change a tensor after it was returned).
        input_names: Names of the arguments.
        output_names: Names of the outputs.
    """

    def __init__(
        self,
        network: nn.Module,
        predict: Callable[[nn.Module, dict[str, Tensor]], Tensor],
        input_names: Sequence[str],
        *,
        middle: str,
        embedding: str | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.input_names = tuple(input_names)
        self.output_names = ("logits", "middle") if embedding is None else ("logits", "middle", "embedding")
        self.embedding_path = embedding
        self._predict = predict
        # Closures, because torch.export refuses a module that assigns tensors to its attributes.
        seen: dict[str, Tensor] = {}

        def watch(name: str, path: str) -> None:
            def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
                seen[name] = first_tensor(output)

            network.get_submodule(path).register_forward_hook(hook)

        watch("middle", middle)
        if embedding is not None:
            watch("embedding", embedding)
        self._take: Callable[[str], Tensor] = seen.pop
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        logits = self._predict(self.network, dict(zip(self.input_names, arguments, strict=True)))
        return (logits, *(self._take(name) for name in self.output_names[1:]))
