"""PyTorch's networks as we serve them: BatchNorm folded into the convolution before it."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(network: nn.Module, sample: Tensor) -> nn.Module:
    """Folds each BatchNorm that reads what a convolution has just made.

    Which ones do, a run tells. That nothing else reads it, no run tells: so the outputs are compared.

    Args:
        network: In evaluation mode; changed.
        sample: An input.

    Raises:
        ValueError: The folded network computes something else.
    """
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # with the tensor, so that no other gets its id
    pairs: dict[nn.Module, nn.Module] = {}

    def remember(module: nn.Module, _: object, output: Tensor) -> None:
        made[id(output)] = module, output

    def find(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if id(arguments[0]) in made:
            pairs[module] = made[id(arguments[0])][0]

    modules = list(network.modules())
    hooks = [module.register_forward_hook(remember) for module in modules if isinstance(module, nn.Conv2d)]
    hooks += [module.register_forward_pre_hook(find) for module in modules if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        expected = network(sample)
        for hook in hooks:
            hook.remove()
        for norm, convolution in pairs.items():
            fused = fuse_conv_bn_eval(convolution, norm)
            # timm's BatchNorm2d has its activation inside.
            _replace(network, {convolution: fused, norm: nn.Sequential(*norm.children())})
        difference = (network(sample) - expected).norm() / expected.norm()
    if not difference < 1e-4:
        msg = f"a network with its BatchNorm folded: expected the same outputs, got some {difference:.0e} away"
        raise ValueError(msg)
    return network.requires_grad_(requires_grad=False)


def _replace(network: nn.Module, by: dict[nn.Module, nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in by:
                setattr(parent, name, by[child])
