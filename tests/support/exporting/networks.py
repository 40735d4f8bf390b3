"""Small networks of torch, each for one thing that can happen to an export; seeded, and none of their numbers is trivial."""

import torch
from torch import nn

SEED = 0


def seeded(network: nn.Module) -> nn.Module:
    """Draws every parameter and every running statistic anew, so that each of them matters."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
                if "var" in name:
                    tensor.abs_().add_(0.5)
    return network


class Classifier(nn.Module):
    """An image [N, 1, 8, 8] to logits: convolution, BatchNorm, ReLU, Dropout."""

    def __init__(self, classes: int, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(width * 4, classes)

    def forward(self, image):
        x = nn.functional.adaptive_avg_pool2d(torch.relu(self.bn(self.conv(image))), 2)
        return self.fc(self.drop(x.flatten(1)))


def classifier(classes: int, width: int = 4) -> nn.Module:
    """Needs an argument."""
    return seeded(Classifier(classes, width))


def three() -> nn.Module:
    """Needs none."""
    return classifier(3)


class Siamese(nn.Module):
    """Two images through one set of BatchNorm layers: their squared distance, and both embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Classifier(5)

    def forward(self, left, right):
        a, b = self.trunk(left), self.trunk(right)
        return {"distance": (a - b).pow(2).sum(1), "left_embedding": a, "right_embedding": b}


def siamese() -> nn.Module:
    """Two inputs, three outputs."""
    return seeded(Siamese())


class Tied(nn.Module):
    """One matrix under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 6, bias=False)
        self.decoder = nn.Linear(6, 6, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.decoder(torch.tanh(self.encoder(x)))


def tied() -> nn.Module:
    """Tied weights."""
    return seeded(Tied())


def half() -> nn.Module:
    """Weights of bfloat16."""
    return three().bfloat16()


class Noisy(nn.Linear):
    """Dropout that nobody can turn off."""

    def forward(self, x):
        return nn.functional.dropout(super().forward(x + 1), 0.5, training=True)


def noisy() -> nn.Module:
    """Random in inference form."""
    return seeded(Noisy(4, 4))


class Stubborn(nn.BatchNorm1d):
    """Its train() does not listen."""

    def train(self, mode: bool = True):
        del mode
        return super().train(True)


def stubborn() -> nn.Module:
    """Stays in training form."""
    return nn.Sequential(nn.Linear(4, 4), Stubborn(4))


def by_batch() -> nn.Module:
    """Has no inference form."""
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False))


class OfTheBatch(nn.Module):
    """Computes with the batch size as a Python number."""

    def forward(self, x):
        return torch.cat([x[i : i + 1] * (i + 1) for i in range(int(x.shape[0]))])


def of_the_batch() -> nn.Module:
    """Only a fixed batch can be exported."""
    return OfTheBatch()


class Ordered(nn.Module):
    """An operator without a gradient on the way."""

    def forward(self, x):
        return x.round()


def ordered() -> nn.Module:
    """Its gradient is 0 wherever there is one."""
    return Ordered()


class SinglePrecision(nn.Linear):
    """Has a float32 constant in its code."""

    def forward(self, x):
        return super().forward(x) @ torch.full((4, 4), 0.5)


def single_precision() -> nn.Module:
    """Does not run in float64."""
    return seeded(SinglePrecision(4, 4))


class Keywords(nn.Linear):
    """Takes whatever it is given by name."""

    def forward(self, **given):
        return super().forward(given["x"])


def keywords() -> nn.Module:
    """Cannot be called with anything in order."""
    return seeded(Keywords(4, 4))


class Total(nn.Linear):
    """One number for the whole batch."""

    def forward(self, x):
        return super().forward(x).sum()


def total() -> nn.Module:
    """Has a fixed batch only."""
    return seeded(Total(4, 4))


def scripted() -> nn.Module:
    """No module of Python any more."""
    return torch.jit.script(nn.Linear(4, 4))


def lazy() -> nn.Module:
    """Its parameters are not there yet."""
    return nn.LazyLinear(4)


def diverged() -> nn.Module:
    """Trained too fast."""
    network = seeded(nn.Linear(4, 4))
    with torch.no_grad():
        network.weight[1, 2] = torch.nan
    return network


def complex_numbers() -> nn.Module:
    """float32 has none."""
    return nn.Linear(4, 4, dtype=torch.complex64)


def failing() -> nn.Module:
    """Raises."""
    msg = "no such dataset"
    raise RuntimeError(msg)


def no_network() -> list:
    """Of no framework."""
    return []


def whole_pool() -> nn.Module:
    """A pool far larger than the image: transformers' EfficientNet."""
    return seeded(nn.Sequential(nn.Conv2d(1, 3, 3), nn.AvgPool2d(50, ceil_mode=True), nn.Flatten(), nn.Linear(3, 2)))
