"""Element-wise functions of one value."""

from conformance.case import Case

X = {"X": (2, 3, 4)}

CASES = [
    Case("Relu", "Y = Relu(X)", X, lambda x: x.relu()),
    Case("Sigmoid", "Y = Sigmoid(X)", X, lambda x: x.sigmoid()),
    Case("Tanh", "Y = Tanh(X)", X, lambda x: x.tanh()),
    Case(
        "HardSigmoid",
        "Y = HardSigmoid<alpha = 0.3, beta = 0.4>(X)",
        X,
        lambda x: (0.3 * x + 0.4).clamp(0, 1),
        opsets=(18, 22),
    ),
]
