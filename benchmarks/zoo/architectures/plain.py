"""Small networks in plain torch for what the libraries lack: tables, sequences, 1-D and 3-D signals, U-Net."""

import torch
from torch import Tensor, nn

from ..architecture import Architecture, Draw, Predict, Variant, register

CLASSES = 10
VOCABULARY = 97


class TabularMlp(nn.Module):
    """Numbers and categories to logits: BatchNorm, SELU, ELU, Mish."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, 4) for size in (5, 7))
        self.normalize = nn.BatchNorm1d(9)
        self.first = nn.Sequential(nn.Linear(17, width), nn.BatchNorm1d(width), nn.SELU(), nn.Dropout(0.1))
        self.second = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.ELU(), nn.Linear(width, width), nn.Mish()
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        embedded = [table(categories[:, column]) for column, table in enumerate(self.tables)]
        return self.head(self.second(self.first(torch.cat([self.normalize(numbers), *embedded], dim=1))))


class TokenLstm(nn.Module):
    """Tokens to logits by a two-layer bidirectional LSTM."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(input_ids))[0].mean(1))


class SeriesGru(nn.Module):
    """A time series to logits by a GRU, then an Elman network."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.gru = nn.GRU(6, width, batch_first=True)
        self.rnn = nn.RNN(width, width, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.rnn(self.gru(series)[0])[0][:, -1])


class TemporalCnn(nn.Module):
    """A waveform to logits: dilated 1-D convolutions, gates, a transposed one, LPPool."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(2, width, 7, stride=2, padding=3), nn.PReLU(width))
        self.gated = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, dilation=2**k, padding=2**k) for k in range(3))
        self.up = nn.Sequential(nn.ConvTranspose1d(width, width, 4, stride=2, padding=1), nn.Softplus())
        self.pool = nn.LPPool1d(2, 4)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.stem(waveform)
        for layer in self.gated:
            values, gate = layer(x).chunk(2, dim=1)
            x = x + torch.tanh(values) * torch.sigmoid(gate)
        return self.head(self.pool(self.up(x)).mean(2))


class VideoCnn(nn.Module):
    """A clip to logits by 3-D convolutions and pools."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)), nn.BatchNorm3d(width))
        self.body = nn.Sequential(
            nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(width, 2 * width, 3, padding=1, groups=2), nn.Hardswish(), nn.AvgPool3d(2)
        )
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.body(self.stem(clip)).mean((2, 3, 4)))


class Unet(nn.Module):
    """An image to a map: three norms, transposed convolution, PixelShuffle, reflected and replicated borders."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down1 = nn.Sequential(
            nn.ReflectionPad2d(2), nn.Conv2d(3, width, 5), nn.LocalResponseNorm(5, alpha=0.5), nn.LeakyReLU(0.1)
        )
        self.down2 = nn.Sequential(
            nn.ReplicationPad2d(1),
            nn.Conv2d(width, 2 * width, 3, stride=2),
            nn.InstanceNorm2d(2 * width, affine=True),
            nn.CELU(),
        )
        self.bottom = nn.Sequential(
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), nn.GroupNorm(4, 4 * width), nn.SiLU(), nn.Dropout2d(0.1)
        )
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1)
        self.up1 = nn.Sequential(nn.Conv2d(4 * width, 4 * width, 1), nn.PixelShuffle(2), nn.Hardtanh(-2, 2))
        self.head = nn.Conv2d(2 * width, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = self.down1(image)
        second = self.down2(first)
        up = torch.cat([self.up2(self.bottom(second)), second], dim=1)
        return self.head(torch.cat([self.up1(up), first], dim=1))


def normal(name: str, *shape: int) -> Draw:
    """Returns a function that draws one input from the normal distribution."""
    return lambda batch, generator: {name: torch.randn(batch, *shape, generator=generator)}


def tokens(length: int) -> Draw:
    """Returns a function that draws tokens."""
    return lambda batch, generator: {"input_ids": torch.randint(VOCABULARY, (batch, length), generator=generator)}


def only(name: str) -> Predict:
    """Returns a function that calls a network of one input."""
    return lambda network, inputs: network(inputs[name])


def row(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws rows of a table: nine numbers and two categories."""
    categories = [torch.randint(size, (batch,), generator=generator) for size in (5, 7)]
    return {"numbers": torch.randn(batch, 9, generator=generator), "categories": torch.stack(categories, 1)}


register(
    Architecture(
        "tabular_mlp",
        "tabular MLP",
        Variant(TabularMlp, row),
        lambda network, inputs: network(**inputs),
        "first",
        wrt="numbers",
    )
)
register(
    Architecture(
        "lstm", "LSTM", Variant(TokenLstm, tokens(12)), only("input_ids"), "lstm", wrt="embedding", embedding="embed"
    )
)
register(Architecture("gru_rnn", "GRU", Variant(SeriesGru, normal("series", 10, 6)), only("series"), "gru", wrt="series"))
register(
    Architecture(
        "tcn", "1-D convolutions", Variant(TemporalCnn, normal("waveform", 2, 64)), only("waveform"), "up", wrt="waveform"
    )
)
register(
    Architecture(
        "video_cnn", "3-D convolutions", Variant(VideoCnn, normal("clip", 3, 4, 16, 16)), only("clip"), "stem", wrt="clip"
    )
)
register(Architecture("unet", "U-Net", Variant(Unet, normal("image", 3, 24, 24)), only("image"), "up2"))
