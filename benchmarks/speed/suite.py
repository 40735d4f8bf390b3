"""The networks whose gradients are timed: published sizes, seeded random weights."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .folding import fold

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Subject:
    """One network.

    Attributes:
        build: Makes it, in evaluation mode, with parameters as its library initializes them.
        shape: Of one sample of the input that the gradient is taken of.
        convolutional: Whether a memory format with channels last means anything to it.
        input: Its name in the exported file.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    convolutional: bool = True
    input: str = "image"

    def network(self) -> nn.Module:
        """The network with seeded random parameters of sane size: neither overflow nor denormal numbers cost time."""
        from zoo.randomize import randomize

        torch.manual_seed(0)
        network = self.build().float().eval().requires_grad_(requires_grad=False)
        randomize(network, lambda: network(self.sample(2)), 0)
        return network

    def folded(self) -> nn.Module:
        """The same with BatchNorm folded, for PyTorch: what we serve is."""
        return fold(self.network(), self.sample(2))

    def sample(self, batch: int) -> Tensor:
        """Random inputs."""
        return torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(batch))


class Embedded(nn.Module):
    """BERT from the embeddings of its tokens to logits."""

    def __init__(self) -> None:
        super().__init__()
        from zoo.libraries import prepare_imports

        prepare_imports()
        import transformers

        config = transformers.BertConfig(num_labels=10)
        self.network = transformers.BertForSequenceClassification(config)

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.network(inputs_embeds=embeddings).logits


def _timm(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from zoo.libraries import prepare_imports

        prepare_imports()
        import timm

        network = timm.create_model(name, pretrained=False)
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False
        return network

    return build


def _digits() -> nn.Module:
    sys.path.insert(0, str(EXAMPLES))
    import train_digits

    return train_digits.DigitNetwork()


IMAGE = (3, 224, 224)

SUITE = {
    subject.name: subject
    for subject in (
        Subject("ResNet-18", _timm("resnet18"), IMAGE),
        Subject("ResNet-50", _timm("resnet50"), IMAGE),
        Subject("VGG-16", _timm("vgg16"), IMAGE),
        Subject("MobileNetV2", _timm("mobilenetv2_100"), IMAGE),
        Subject("EfficientNet-B0", _timm("efficientnet_b0"), IMAGE),
        Subject("DenseNet-121", _timm("densenet121"), IMAGE),
        Subject("Inception-v3", _timm("inception_v3"), (3, 299, 299)),
        Subject("ConvNeXt-Tiny", _timm("convnext_tiny"), IMAGE),
        Subject("ViT-B/16", _timm("vit_base_patch16_224"), IMAGE, convolutional=False),
        Subject("Swin-T", _timm("swin_tiny_patch4_window7_224"), IMAGE, convolutional=False),
        Subject("BERT-base", Embedded, (128, 768), convolutional=False, input="embeddings"),
        Subject("digits CNN", _digits, (1, 28, 28)),
    )
}
