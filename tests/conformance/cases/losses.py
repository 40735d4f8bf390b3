"""Losses, and the determinant."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from conformance.case import Case, Draw

TARGETS = {"T": np.array([[0, 2], [1, 1]])}
CLASSES = {"X": (2, 3, 2)}


def _attributes(reduction, ignored):
    return f'<reduction = "{reduction}"' + ("" if ignored is None else f", ignore_index = {ignored}") + ">"


def _options():
    for reduction, weighted, ignored in itertools.product(("none", "sum", "mean"), (False, True), (None, 2)):
        inputs = CLASSES | ({"W": Draw((3,), "positive")} if weighted else {})
        # torch's own default ignores -100.
        more = {"reduction": reduction, "ignore_index": -100 if ignored is None else ignored}
        name = f"{reduction}{' weighted' if weighted else ''}{'' if ignored is None else ' ignoring'}"
        yield f"{_attributes(reduction, ignored)}(X, T{', W' if weighted else ''})", inputs, more, name


def _cross_entropy_and_log_prob(x):
    return F.cross_entropy(x, torch.tensor(TARGETS["T"])), x.log_softmax(1)


# The derivative of torch's losses with respect to the weights is zero: those are spelled out.
def _weighted(x, w, *, reduction, ignore_index):
    targets = torch.tensor(TARGETS["T"])
    weight = w[targets] * (targets != ignore_index)
    losses = -x.gather(1, targets[:, None]).squeeze(1) * weight
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / weight.sum()}[reduction]


def _nll(more):
    return lambda x, w=None: F.nll_loss(x, torch.tensor(TARGETS["T"]), **more) if w is None else _weighted(x, w, **more)


def _sce(more):
    return lambda x, w=None: _nll(more)(x.log_softmax(1), w)


CASES = [
    *(
        Case(
            "NegativeLogLikelihoodLoss",
            f"Y = NegativeLogLikelihoodLoss{text}",
            inputs,
            _nll(more),
            (18, 22),
            others=TARGETS,
            name=name,
        )
        for text, inputs, more, name in _options()
    ),
    *(
        Case(
            "SoftmaxCrossEntropyLoss",
            f"Y = SoftmaxCrossEntropyLoss{text}",
            inputs,
            _sce(more),
            (18,),
            others=TARGETS,
            name=name,
        )
        for text, inputs, more, name in _options()
    ),
    Case(
        "SoftmaxCrossEntropyLoss",
        "Y, L = SoftmaxCrossEntropyLoss(X, T)",
        CLASSES,
        _cross_entropy_and_log_prob,
        (18,),
        others=TARGETS,
        outputs=("Y", "L"),
        name="two outputs",
    ),
    Case(
        "NegativeLogLikelihoodLoss",
        "Y = NegativeLogLikelihoodLoss(X, T)",
        {"X": (4, 3)},
        lambda x: F.nll_loss(x, torch.tensor([0, 2, 1, 1])),
        (18,),
        others={"T": np.array([0, 2, 1, 1])},
        name="no more axes",
    ),
    *(
        Case(
            "Det",
            "Y = Det(X)",
            {"X": shape},
            torch.linalg.det,
            opsets,
            dynamic=("none", "batch")[: len(shape) - 1],
            name=f"{shape}",
        )
        for shape, opsets in (((2, 3, 3), (18, 22)), ((2, 2, 2, 2), (18,)), ((2, 1, 1), (18,)), ((4, 4), (18,)))
    ),
]
