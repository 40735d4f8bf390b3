"""How an ascent steps: the update u of each optimizer from the (normalized) gradient g; `numbers += learning_rate * u`.

Formulas: csrc/kernels/ascent.h. A learning rate may change from the first step to the last (`gradserve.numbers.Linear`).
"""

from dataclasses import dataclass

from gradserve.numbers import Schedule

__all__ = ["Adam", "AdamW", "Momentum", "NAdam", "Optimizer", "RmsProp", "Sgd"]


@dataclass(frozen=True)
class Sgd:
    """u = g."""

    learning_rate: Schedule


@dataclass(frozen=True)
class Momentum:
    """m = momentum m + g; u = m, or by Nesterov u = g + momentum m (torch's `SGD` with momentum)."""

    learning_rate: Schedule
    momentum: float = 0.9
    nesterov: bool = False


@dataclass(frozen=True)
class RmsProp:
    """v = decay v + (1 - decay) g²; u = g / (sqrt(v) + epsilon) (torch's defaults; Keras has decay 0.9)."""

    learning_rate: Schedule = 0.01
    decay: float = 0.99
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015, algorithm 1, ascending."""

    learning_rate: Schedule = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False
    """Whether epsilon is added before v is corrected for its start at 0: the end of their section 2, and TensorFlow."""


@dataclass(frozen=True)
class AdamW:
    """Adam after learning_rate * weight_decay of the distance to the mean is taken away (Loshchilov & Hutter 2019)."""

    learning_rate: Schedule = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01


@dataclass(frozen=True)
class NAdam:
    """Adam that looks ahead (Dozat 2016), with torch's schedule of the momentum."""

    learning_rate: Schedule = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum_decay: float = 0.004


Optimizer = Sgd | Momentum | RmsProp | Adam | AdamW | NAdam
