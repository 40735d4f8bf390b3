"""One-operator models for the verified list: each operator at each attribute combination that has its own branch."""

from dataclasses import dataclass, field

OPSETS = (13, 17, 20, 21)
"""Where operators changed their spelling (13: axes as inputs; 18: ReduceMean too; 20: Gelu), and the wheel's newest."""


@dataclass(frozen=True)
class Case:
    """`body` in ONNX's text form: X, and any other name in `inputs`, are inputs; Y is the output.

    Inputs are drawn from the normal distribution, away from 0, so that no kink lies within a difference step.
    """

    op: str
    body: str
    inputs: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"X": (2, 3, 4)})
    opsets: tuple[int, ...] = OPSETS
    positive: bool = False
    """Draw from [0.5, 1.5]: for Log, Sqrt, and what divides."""
    distinct: bool = False
    """Draw a permutation of well separated values: for maxima."""


IMAGE = {"X": (2, 4, 7, 6)}
PAIR = {"X": (2, 3, 4), "B": (3, 1)}
BEFORE_18 = (13, 17)
FROM_18 = (20, 21)

CASES = (
    # ---- element-wise, one input
    Case("Relu", "Y = Relu(X)"),
    Case("LeakyRelu", "Y = LeakyRelu<alpha = 0.2>(X)"),
    Case("Sigmoid", "Y = Sigmoid(X)"),
    Case("Tanh", "Y = Tanh(X)"),
    Case("Erf", "Y = Erf(X)"),
    Case("Gelu", "Y = Gelu(X)", opsets=(20, 21)),
    Case("Exp", "Y = Exp(X)"),
    Case("Log", "Y = Log(X)", positive=True),
    Case("Sqrt", "Y = Sqrt(X)", positive=True),
    Case("Reciprocal", "Y = Reciprocal(X)", positive=True),
    Case("Neg", "Y = Neg(X)"),
    Case("Abs", "Y = Abs(X)"),
    Case("Sin", "Y = Sin(X)"),
    Case("Cos", "Y = Cos(X)"),
    Case("Clip", "lo = Constant<value = T {-0.5}>() hi = Constant<value = T {0.6}>() Y = Clip(X, lo, hi)"),
    Case("Cast", "Y = Cast<to = TYPE>(X)"),
    Case("Identity", "Z = Identity(X) Y = Mul(Z, X)"),
    # ---- element-wise, two inputs, broadcast both ways
    *(Case(op, f"Y = {op}(X, B)", PAIR, positive=op in ("Div",)) for op in ("Add", "Sub", "Mul", "Div")),
    *(Case(op, f"Y = {op}(B, X)", PAIR, positive=op in ("Div",)) for op in ("Add", "Sub", "Mul", "Div")),
    Case("Pow", "two = Constant<value = T {3.0}>() Y = Pow(X, two)"),
    Case("Pow", "half = Constant<value = T {0.5}>() Y = Pow(X, half)", positive=True),
    Case("Max", "Y = Max(X, B)", PAIR),
    Case("Min", "Y = Min(X, B)", PAIR),
    Case(
        "Where",
        "zero = Constant<value = T {0.0}>() c = Greater(XX, zero) Y = Where(c, X, XX)",
        {"X": (2, 3, 4), "XX": (2, 3, 4)},
    ),
    # ---- linear
    Case("MatMul", "Y = MatMul(X, B)", {"X": (2, 3, 4), "B": (4, 5)}),
    Case("MatMul", "Y = MatMul(X, B)", {"X": (2, 3, 4), "B": (2, 4, 5)}),
    Case("MatMul", "Y = MatMul(B, X)", {"X": (2, 3, 4), "B": (5, 3)}),
    Case("Gemm", "Y = Gemm(X, B, C)", {"X": (3, 4), "B": (4, 5), "C": (5,)}),
    Case("Gemm", "Y = Gemm<alpha = 0.5, beta = 2.0, transB = 1>(X, B, C)", {"X": (3, 4), "B": (5, 4), "C": (3, 5)}),
    Case("Gemm", "Y = Gemm<transA = 1>(X, B)", {"X": (4, 3), "B": (4, 5)}),
    # ---- convolution
    Case("Conv", "Y = Conv(X, W)", {**IMAGE, "W": (5, 4, 3, 3)}),
    Case("Conv", "Y = Conv<strides = [2, 2], pads = [1, 0, 1, 2]>(X, W, B)", {**IMAGE, "W": (5, 4, 3, 2), "B": (5,)}),
    Case("Conv", "Y = Conv<group = 2, dilations = [2, 1]>(X, W)", {**IMAGE, "W": (6, 2, 3, 3)}),
    Case("Conv", "Y = Conv<group = 4, pads = [1, 1, 1, 1]>(X, W)", {**IMAGE, "W": (4, 1, 3, 3)}),
    Case("Conv", "Y = Conv<strides = [3, 2], pads = [1, 1, 0, 2], dilations = [1, 2]>(X, W)", {**IMAGE, "W": (5, 4, 2, 2)}),
    Case("Conv", "Y = Conv<pads = [3, 3, 3, 3]>(X, W)", {**IMAGE, "W": (5, 4, 2, 2)}),
    Case("Conv", "Y = Conv<group = 2, strides = [2, 2]>(X, W)", {**IMAGE, "W": (6, 2, 3, 3)}),
    Case("Conv", "Y = Conv<strides = [2]>(X, W)", {"X": (2, 3, 9), "W": (4, 3, 3)}),
    Case("Conv", "Y = Conv<strides = [2, 1, 1]>(X, W)", {"X": (2, 2, 5, 4, 4), "W": (3, 2, 3, 2, 2)}),
    # ---- pooling
    Case("MaxPool", "Y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(X)", IMAGE, distinct=True),
    Case(
        "MaxPool",
        "Y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(X)",
        IMAGE,
        distinct=True,
    ),
    Case("MaxPool", "Y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(X)", IMAGE, distinct=True),
    Case("AveragePool", "Y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(X)", IMAGE),
    Case(
        "AveragePool",
        "Y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(X)",
        IMAGE,
    ),
    Case("AveragePool", "Y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(X)", IMAGE),
    Case("AveragePool", "Y = AveragePool<kernel_shape = [2, 3], strides = [3, 1], pads = [0, 1, 1, 0]>(X)", IMAGE),
    Case("AveragePool", "Y = AveragePool<kernel_shape = [3], strides = [2]>(X)", {"X": (2, 3, 10)}),
    Case("GlobalAveragePool", "Y = GlobalAveragePool(X)", IMAGE),
    # ---- normalization
    Case("Softmax", "Y = Softmax(X)"),
    Case("Softmax", "Y = Softmax<axis = 1>(X)"),
    Case("LogSoftmax", "Y = LogSoftmax(X)"),
    Case(
        "LayerNormalization",
        "G = Constant<value = T[4] {0.5, 1.5, -1.0, 2.0}>() Y = LayerNormalization(X, G)",
        opsets=(17, 20, 21),
    ),
    Case(
        "LayerNormalization",
        "Y = LayerNormalization<axis = 1>(X, G, B)",
        {"X": (2, 3, 4), "G": (3, 4), "B": (3, 4)},
        opsets=(17, 21),
    ),
    Case(
        "LayerNormalization",
        "Y = LayerNormalization(X, G, B)",
        {"X": (2, 3, 4), "G": (4,), "B": (4,)},
        opsets=(17, 20, 21),
    ),
    # ---- reduction
    *(Case(op, f"Y = {op}<axes = [1, 2], keepdims = 0>(X)", opsets=BEFORE_18) for op in ("ReduceMean",)),
    *(Case(op, f"a = Constant<value_ints = [1]>() Y = {op}(X, a)", opsets=FROM_18) for op in ("ReduceMean",)),
    Case("ReduceSum", "a = Constant<value_ints = [-1]>() Y = ReduceSum<keepdims = 0>(X, a)"),
    Case("ReduceL2", "Y = ReduceL2<axes = [1]>(X)", opsets=BEFORE_18),
    Case("ReduceL2", "a = Constant<value_ints = [1]>() Y = ReduceL2(X, a)", opsets=FROM_18),
    Case("ReduceLogSumExp", "Y = ReduceLogSumExp<axes = [1]>(X)", opsets=BEFORE_18),
    Case("ReduceLogSumExp", "a = Constant<value_ints = [1]>() Y = ReduceLogSumExp(X, a)", opsets=FROM_18),
    # ---- shape
    Case("Reshape", "s = Constant<value_ints = [0, -1]>() Y = Reshape(X, s)"),
    Case("Reshape", "s = Constant<value_ints = [-1, 12]>() Y = Reshape<allowzero = 1>(X, s)", opsets=(17, 20, 21)),
    Case("Flatten", "Y = Flatten(X)"),
    Case("Transpose", "Y = Transpose<perm = [0, 2, 1]>(X)"),
    Case("Squeeze", "a = Constant<value_ints = [2]>() Y = Squeeze(X, a)", {"X": (2, 3, 1)}),
    Case("Unsqueeze", "a = Constant<value_ints = [1]>() Y = Unsqueeze(X, a)"),
    Case("Concat", "Y = Concat<axis = 1>(X, B)", {"X": (2, 3, 4), "B": (2, 5, 4)}),
    # An output that nothing reads, and one of which only the shape is read.
    Case("Split", "s = Constant<value_ints = [1, 2]>() A, B = Split<axis = 1>(X, s) Y = Mul(A, A)"),
    Case(
        "Split",
        "s = Constant<value_ints = [1, 1, 1]>() A, B, C = Split<axis = 1>(X, s) "
        "n = Shape(B) D = Reshape(A, n) Y = Mul(D, C)",
    ),
    Case("Split", "s = Constant<value_ints = [1, 2]>() A, B = Split<axis = 1>(X, s) Y = Mul(A, B)"),
    Case(
        "Slice",
        "b = Constant<value_ints = [1]>() e = Constant<value_ints = [3]>() a = Constant<value_ints = [2]>() "
        "Y = Slice(X, b, e, a)",
    ),
    Case("Expand", "s = Constant<value_ints = [2, 3, 4]>() Y = Expand(X, s)", {"X": (2, 1, 4)}),
    Case("Pad", "p = Constant<value_ints = [0, 1, 0, 0, 2, 1]>() Y = Pad(X, p)"),
    Case("Tile", "r = Constant<value_ints = [1, 2, 1]>() Y = Tile(X, r)"),
    Case("Gather", "i = Constant<value_ints = [2, 0, 2]>() Y = Gather<axis = 1>(X, i)"),
)
