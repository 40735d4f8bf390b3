"""PyTorch's networks in the benchmarks have their BatchNorm folded, and compute what they did."""

import pytest

torch = pytest.importorskip("torch")

from speed.folding import fold  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.torch


class Network(nn.Module):
    """One normalization that reads a convolution, and one that does not."""

    def __init__(self, *, reads_twice=False):
        super().__init__()
        self.convolution, self.first, self.last = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.reads_twice = reads_twice
        for norm in (self.first, self.last):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x):
        made = self.convolution(x)
        out = self.last(torch.relu(self.first(made)))
        return out + made if self.reads_twice else out


def test_what_reads_a_convolution_is_folded_and_nothing_else():
    torch.manual_seed(0)
    network, x = Network().eval(), torch.randn(2, 2, 5, 5)
    expected = network(x).detach()
    folded = fold(network, x)
    assert [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)] == ["last"]
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    torch.testing.assert_close(folded(x), expected)


def test_a_convolution_that_something_else_reads_is_noticed():
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="expected the same outputs"):
        fold(Network(reads_twice=True).eval(), torch.randn(2, 2, 5, 5))
