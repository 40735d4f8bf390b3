"""ResNet-18 and ResNet-50 at full size, with seeded random weights: the subject of the benchmarks.

The structure and the state-dict names are torchvision's (v1.5: the stride of a bottleneck sits on its 3x3
convolution), so that trained weights load. The pretrained ImageNet weights are not needed to measure speed or
to test gradients, but a network as initialized is no test: its BatchNorm does nothing and its residual
branches add up until the activations explode. So gain and offset are drawn away from 1 and 0, the running
statistics are calibrated on a photograph and on noise and then perturbed: folding BatchNorm has something to
fold, and logits and gradients have a sane scale.

    python benchmarks/architectures/resnet.py --architecture resnet50 --output /tmp/resnet50.onnx
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import onnx_ir
import sklearn.datasets
import torch
from numpy.typing import NDArray
from onnx_ir.passes import common as passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules
from PIL import Image
from torch import Tensor, nn

OPSET = 18
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CALIBRATION_SIZE = 224
LOGIT_STD = 3.0


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample = projection(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions and a shortcut (ResNet-50)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = projection(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """The shortcut's 1x1 convolution, where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """A normalized image [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...], classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for index, depth in enumerate(depths):
            width, stages = 64 * 2**index, []
            for position in range(depth):
                stages.append(block(channels, width, stride=2 if index and not position else 1))
                channels = width * block.expansion
            self.add_module(f"layer{index + 1}", nn.Sequential(*stages))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(seed: int = 0) -> ResNet:
    """ResNet-18 in inference form with seeded random weights."""
    return initialized(ResNet(BasicBlock, (2, 2, 2, 2)), seed)


def resnet50(seed: int = 0) -> ResNet:
    """ResNet-50 in inference form with seeded random weights."""
    return initialized(ResNet(Bottleneck, (3, 4, 6, 3)), seed)


def initialized(network: ResNet, seed: int) -> ResNet:
    """Draws the weights (Kaiming, fan out), calibrates BatchNorm, scales the head; returns the network."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    batchnorms, branch_ends = [], []
    for module in network.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            branch_ends.append(module.bn3 if isinstance(module, Bottleneck) else module.bn2)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            batchnorms.append(module)

    with torch.no_grad():
        for module in batchnorms:
            module.momentum = None  # cumulative average: one pass in training form measures the statistics
            module.weight.copy_(uniform(module.weight, 0.6, 1.2))
            module.bias.copy_(uniform(module.bias, -0.2, 0.2))
        for module in branch_ends:  # as in trained networks, a branch adds little to its shortcut
            module.weight *= 0.3
        image = torch.from_numpy(photograph(CALIBRATION_SIZE))
        noise = torch.randn(1, *image.shape[1:], generator=generator)
        network.train()
        network(torch.cat([image, image.flip(3), 0.7 * image + 0.3 * noise, noise]))
        for module in batchnorms:
            deviation = module.running_var.sqrt()
            module.running_mean += 0.1 * deviation * torch.randn(deviation.shape, generator=generator)
            module.running_var *= uniform(deviation, 0.8, 1.25)
            module.momentum = 0.1
        network.eval()
        nn.init.normal_(network.fc.weight, generator=generator)
        nn.init.normal_(network.fc.bias, std=0.1, generator=generator)
        network.fc.weight *= LOGIT_STD / network(image).std()
    return network


def photograph(size: int = 224) -> NDArray[np.float32]:
    """Scikit-learn's china.jpg, centre-cropped to a square and resized, with ImageNet's normalization.

    Args:
        size: The height and width of the result.

    Returns:
        [1, 3, size, size], NCHW, RGB.
    """
    picture = Image.fromarray(sklearn.datasets.load_sample_image("china.jpg"))
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    normalized = (pixels - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    return np.ascontiguousarray(normalized.transpose(2, 0, 1)[np.newaxis])


def export(module: nn.Module, path: Path | str, *, keep_batchnorm: bool) -> None:
    """Writes `image -> logits` as ONNX with a symbolic batch size.

    Args:
        module: An image network in inference form.
        path: The file to write. Its weights lie inside (ResNet-50: 102 MB), so keep it out of the repository.
        keep_batchnorm: Whether BatchNormalization nodes stay; torch's exporter folds them when it optimizes.
    """
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    program = torch.onnx.export(
        module,
        (torch.zeros(2, 3, 224, 224, dtype=next(module.parameters()).dtype),),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        optimize=not keep_batchnorm,
        verbose=False,
    )
    model = program.model
    if keep_batchnorm:
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rewriter.rewrite(model, [rules.materialize_reshape_shape_rule, rules.remove_optional_bias_from_conv_rule])
        optimizer.remove_unused_nodes(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ClearMetadataAndDocStringPass()(model)
    onnx_ir.save(model, path)


def main() -> None:
    """Writes one architecture, and prints what its numbers look like."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=("resnet18", "resnet50"), default="resnet50")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-batchnorm", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()

    network = {"resnet18": resnet18, "resnet50": resnet50}[arguments.architecture](arguments.seed)
    export(network, arguments.output, keep_batchnorm=arguments.keep_batchnorm)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB")
    image = torch.from_numpy(photograph()).double().requires_grad_()
    logits = network.double()(image)
    (gradient,) = torch.autograd.grad(logits.max(), image)
    print(f"photograph: greatest logit {logits.max():.3f}, least {logits.min():.3f}")
    print(f"input gradient of the greatest logit, float64: L2 norm {gradient.norm():.4g}")


if __name__ == "__main__":
    main()
