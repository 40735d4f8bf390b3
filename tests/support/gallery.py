"""Broken models, made by a script: each pathology that the doctor knows, in each opset's spelling that differs.

All are the same small network with one thing wrong. An entry says what the doctor must find, and it must find nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from support.onnx_models import build, random, trained, untrained
from support.small_network import CHANNELS, Network, X, healthy, pictures

BATCHNORM = "(r, gain, offset, mean, variance)"


@dataclass(frozen=True, eq=False)
class Entry:
    """A model, and what is wrong with it."""

    name: str
    code: str
    """Of the pathology that it is there for."""
    model: onnx.ModelProto
    also: frozenset[str] = frozenset()
    """What follows from it."""
    data: Mapping[str, np.ndarray] | None = None
    """To examine it with."""
    external: bool = False
    """Whether its weights go to another file."""

    @property
    def codes(self) -> set[str]:
        return {self.code, *self.also}


def _norm(node: str, weights: Mapping[str, np.ndarray] | None = None, **settings) -> onnx.ModelProto:
    return Network(node, weights=trained(CHANNELS) if weights is None else weights, **settings).make()


def _norm_with(**changed: np.ndarray) -> onnx.ModelProto:
    return _norm(f"s = BatchNormalization{BATCHNORM}", trained(CHANNELS) | changed)


def _one(name: str, value: float) -> dict[str, np.ndarray]:
    array = trained(CHANNELS)[name].copy()
    array[3] = value
    return {name: array}


NEIGHBOURS = frozenset({"batch-dependent", "forms-disagree"})
"""What follows where predictions are those of a training form."""


def _training_form() -> list[Entry]:
    spellings = {
        6: "s, m1, v1, m2, v2 = BatchNormalization",
        7: "s, m1, v1, m2, v2 = BatchNormalization",
        9: "s, m1, v1, m2, v2 = BatchNormalization",
        13: "s, m1, v1, m2, v2 = BatchNormalization",
        14: "s, m1, v1 = BatchNormalization<training_mode=1>",
        15: "s, m1, v1 = BatchNormalization<training_mode=1>",
        21: "s, m1, v1 = BatchNormalization<training_mode=1>",
    }
    entries = [
        Entry(
            f"batchnorm in training form, opset {opset}",
            "batchnorm-training-form",
            _norm(f"{node}{BATCHNORM}", opset=opset, ir_version=3 if opset < 7 else 8),
            NEIGHBOURS if opset > 6 else frozenset({"opset-too-old"}),
        )
        for opset, node in spellings.items()
    ]
    alone = _norm(f"s = BatchNormalization{BATCHNORM}", opset=6, ir_version=3)
    entries.append(
        Entry("batchnorm, is_test left out, opset 6", "batchnorm-training-form", alone, frozenset({"opset-too-old"}))
    )
    never = _norm(f"{spellings[15]}{BATCHNORM}", untrained(CHANNELS))
    entries.append(
        Entry(
            "training form, never written back",
            "batchnorm-training-form",
            never,
            frozenset({"batchnorm-untrained", "batch-dependent"}),
        )
    )
    return entries


def _extra_outputs() -> list[Entry]:
    unused = _norm(f"s, m1, v1 = BatchNormalization{BATCHNORM}")
    given = _norm(
        f"s, m1, v1 = BatchNormalization<training_mode=1>{BATCHNORM}",
        outputs=f"float[N,4] y, float[{CHANNELS}] m1, float[{CHANNELS}] v1",
    )
    old = _norm(
        f"s, m1, v1, m2, v2 = BatchNormalization{BATCHNORM}",
        outputs=f"float[N,4] y, float[{CHANNELS}] m1",
        opset=9,
    )
    oldest = _norm(f"s, m1, v1, m2, v2 = BatchNormalization<is_test=1>{BATCHNORM}", opset=6, ir_version=3)
    trains = NEIGHBOURS | {"batchnorm-training-form"}
    return [
        Entry("statistics as outputs, inference form, opset 17", "batchnorm-extra-outputs", unused),
        Entry("statistics as outputs of the model, opset 17", "batchnorm-extra-outputs", given, trains),
        Entry("statistics as outputs of the model, opset 9", "batchnorm-extra-outputs", old, trains),
        Entry("statistics as outputs, opset 6", "batchnorm-extra-outputs", oldest, frozenset({"opset-too-old"})),
    ]


def _statistics() -> list[Entry]:
    inputs = f"{X}, float[{CHANNELS}] mean"
    from_outside = {name: array for name, array in trained(CHANNELS).items() if name != "mean"}
    twice = f"t = BatchNormalization{BATCHNORM} k = Relu(t) s = BatchNormalization(k, gain, offset, mean, variance)"
    foldable = Network(
        "s = Identity(r)",
        lead="i = Conv<pads=[1, 1, 1, 1]>(x, w0) ",
        weights=trained(CHANNELS) | {"w0": random(3, 3, 3, 3, seed=7) / np.float32(5)},
    )
    foldable.lead = "j = Conv<pads=[1, 1, 1, 1]>(x, w0) i = BatchNormalization(j, gain, offset, mean, variance)"
    foldable.weights = trained(3) | {"w0": random(3, 3, 3, 3, seed=7) / np.float32(5)}
    return [
        Entry(
            "statistics from outside",
            "batchnorm-statistics-not-constant",
            _norm(f"s = BatchNormalization{BATCHNORM}", from_outside, inputs=inputs),
        ),
        *(
            Entry(
                f"untrained, opset {opset}",
                "batchnorm-untrained",
                _norm(f"s = BatchNormalization{BATCHNORM}", untrained(CHANNELS), opset=opset),
            )
            for opset in (7, 9, 14, 17)
        ),
        Entry(
            "negative variance",
            "batchnorm-variance-invalid",
            _norm_with(**_one("variance", -1)),
            frozenset({"output-not-finite"}),
        ),
        Entry(
            "mean that is NaN",
            "batchnorm-variance-invalid",
            _norm_with(**_one("mean", np.nan)),
            frozenset({"output-not-finite"}),
        ),
        Entry("variance 0", "batchnorm-variance-vanishing", _norm_with(**_one("variance", 0))),
        Entry("variance 1e6", "batchnorm-variance-huge", _norm_with(**_one("variance", 1e6))),
        Entry("scale 0", "batchnorm-scale-dead", _norm_with(**_one("gain", 0))),
        Entry("epsilon 0.5", "batchnorm-epsilon-unusual", _norm(f"s = BatchNormalization<epsilon=0.5>{BATCHNORM}")),
        Entry("one set of statistics for two nodes", "batchnorm-shared", _norm(twice)),
        Entry("behind a convolution", "batchnorm-foldable", foldable.make()),
        Entry(
            "statistics of other data",
            "batchnorm-statistics-conflict",
            _norm_with(mean=np.full(CHANNELS, 30, np.float32)),
            data=pictures(),
        ),
    ]


def _randomness() -> list[Entry]:
    yes = {"ratio": np.float32(0.5), "train": np.array(True)}
    changes = frozenset({"not-deterministic"})
    return [
        *(
            Entry(
                f"dropout on, opset {opset}",
                "dropout-training-form",
                Network("s, k = Dropout(r, ratio, train)", opset=opset, weights=yes).make(),
                changes,
            )
            for opset in (12, 13, 17)
        ),
        Entry(
            "dropout by an input",
            "dropout-training-form",
            Network("s = Dropout(r, ratio, train)", inputs=f"{X}, bool train", weights={"ratio": yes["ratio"]}).make(),
        ),
        Entry(
            "dropout, is_test left out, opset 6",
            "dropout-training-form",
            Network("s = Dropout<ratio=0.5>(r)", opset=6, ir_version=3).make(),
            frozenset({"opset-too-old"}),
        ),
        Entry(
            "dropout's mask used",
            "dropout-mask-used",
            Network("d, k = Dropout(r) kf = Cast<to=1>(k) s = Mul(d, kf)").make(),
        ),
        *(
            Entry(f"{op}", "random-op", Network(f"z = {node} s = Add(r, z)").make(), changes)
            for op, node in {
                "RandomNormalLike": "RandomNormalLike(r)",
                "RandomUniformLike": "RandomUniformLike(r)",
                "RandomNormal": f"RandomNormal<shape=[1, {CHANNELS}, 1, 1]>()",
                "RandomUniform": f"RandomUniform<shape=[1, {CHANNELS}, 1, 1]>()",
            }.items()
        ),
    ]


def _interface() -> list[Entry]:
    plain = {"metadata": {}}
    means = np.array([103.939, 116.779, 123.68], np.float32).reshape(1, 3, 1, 1)
    flip = {"turned": np.array([2, 1, 0])}
    nhwc = "float[N,8,8,3] x"
    transposed = "i = Transpose<perm=[0, 3, 1, 2]>(x)"
    return [
        *(
            Entry(f"{op} at the end, opset {opset}", "softmax-at-end", Network(tail=f"y = {op}(l)", opset=opset).make())
            for op, opset in (("Softmax", 17), ("Softmax", 11), ("LogSoftmax", 17), ("Sigmoid", 17))
        ),
        Entry(
            "normalizes itself",
            "normalization-in-graph",
            Network(
                lead="h = Sub(x, m) i = Div(h, d)", weights={"m": np.float32(0.4), "d": np.float32(0.2)}, **plain
            ).make(),
        ),
        Entry("says nothing of pixels", "normalization-undescribed", Network(**plain).make()),
        Entry(
            "channels last, not described",
            "layout-nhwc",
            Network(lead=transposed, inputs=nhwc, **plain).make(),
            frozenset({"normalization-undescribed"}),
        ),
        Entry(
            "channels last, described as first",
            "layout-contradicts-description",
            Network(lead=transposed, inputs=nhwc).make(),
        ),
        Entry(
            "subtracts Caffe's means",
            "channel-order-reversed",
            Network(lead="i = Sub(x, m)", weights={"m": means}, **plain).make(),
            frozenset({"normalization-in-graph"}),
        ),
        Entry(
            "turns the channels around",
            "channel-order-reversed",
            Network(lead="i = Gather<axis=1>(x, turned)", weights=flip, **plain).make(),
            frozenset({"normalization-undescribed"}),
        ),
        Entry(
            "fixed batch",
            "batch-fixed",
            Network(inputs="float[2,3,8,8] x", outputs="float[2,4] y").make(),
        ),
        Entry("data of another range", "data-outside-range", healthy(), data=pictures(scale=60)),
    ]


def _gradients() -> list[Entry]:
    steep = {"k": np.float32(1000), "t": np.float32(100)}
    zero = frozenset({"gradient-zero"})
    return [
        Entry(
            "quantized",
            "op-without-gradient",
            Network(
                "q = QuantizeLinear(r, scale, zero) s = DequantizeLinear(q, scale, zero)",
                weights={"scale": np.float32(0.02), "zero": np.uint8(0)},
            ).make(),
        ),
        *(
            Entry(f"{op}", "activation-zero-gradient", Network(f"k = {op}(r) s = Add(k, r)").make(), also)
            for op, also in (("Floor", frozenset()), ("Round", frozenset()), ("Sign", frozenset()))
        ),
        Entry("a step at the end", "activation-zero-gradient", Network(tail="y = Round(l)").make()),
        Entry("ArgMax", "gradient-cut", Network(tail="y = ArgMax<axis=1>(l)", outputs="int64[N,1] y").make()),
        Entry(
            "a cast to whole numbers and back", "gradient-cut", Network(tail="k = Cast<to=7>(l) y = Cast<to=1>(k)").make()
        ),
        Entry(
            "a threshold",
            "gradient-cut",
            Network(tail="k = Greater(l, t) y = Cast<to=1>(k)", weights={"t": np.float32(0.1)}).make(),
        ),
        Entry(
            "dead ReLUs",
            "relu-dead",
            Network(weights={"b": np.full(CHANNELS, -100, np.float32)}).make(),
            zero,
        ),
        Entry(
            "saturated",
            "gradient-zero",
            Network(tail="k0 = Mul(l, k) k1 = Add(k0, t) y = Tanh(k1)", weights=steep).make(),
        ),
        Entry("a logarithm below 0", "output-not-finite", Network(tail="k0 = Abs(l) k1 = Neg(k0) y = Log(k1)").make()),
        Entry(
            "a square root at 0",
            "gradient-not-finite",
            Network(tail="k0 = Sub(l, l) k1 = Sqrt(k0) y = Add(l, k1)").make(),
        ),
        Entry(
            "a staircase with a slope",
            "gradient-disagrees",
            Network(tail="k0 = Mul(l, k) k1 = Round(k0) y = Sub(l, k1)", weights={"k": np.float32(1e4)}).make(),
            frozenset({"activation-zero-gradient"}),
        ),
    ]


def _file() -> list[Entry]:
    too_new = healthy(21)
    too_new.opset_import[0].version = onnx.defs.onnx_opset_version()
    newer_format = healthy()
    newer_format.ir_version = 12
    weight = random(CHANNELS, 3, 3, 3)
    weight[2, 1, 0, 0] = np.inf
    foreign = healthy()
    foreign.graph.node[0].domain = "com.example"
    foreign.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    fussy = Network(
        "q = Reshape(r, sizes) s = Relu(q)",
        inputs="float[N,3,H,W] x",
        weights={"sizes": np.array([-1, CHANNELS, 8, 8])},
    ).make()
    smaller = {"x": pictures(3)["x"][..., :6, :6]}
    mixing = Network("m = ReduceMean<axes=[0], keepdims=1>(r) s = Sub(r, m)").make()
    return [
        Entry("opset 6", "opset-too-old", Network(opset=6, ir_version=3).make()),
        Entry("opset 1", "opset-too-old", _opset_1()),
        Entry("the newest opset", "opset-too-new", too_new),
        Entry("the newest format", "ir-too-new", newer_format),
        Entry("weights elsewhere", "external-data", healthy(), external=True),
        Entry(
            "an infinite weight",
            "weights-not-finite",
            Network(weights={"w": weight}).make(),
            frozenset({"output-not-finite"}),
        ),
        Entry("custom operators", "load-refused", foreign),
        Entry("data of sizes that it cannot take", "run-failed", fussy, data=smaller),
        Entry("samples that see one another", "batch-dependent", mixing),
    ]


def _opset_1() -> onnx.ModelProto:
    return build("y = Relu(x)", inputs="float[N,4] x", outputs="float[N,4] y", opset=1, ir_version=3)


HEALTHY = {
    "a sign as a factor": Network("k = Sign(r) a = Abs(r) q = Mul(a, a) s = Mul(k, q)").make(),
    "a label beside the scores": Network(
        tail="y = Identity(l) z = ArgMax<axis=1>(l)", outputs="float[N,4] y, int64[N,1] z"
    ).make(),
    "a text": build(
        "e = Gather(table, ids) m = ReduceMean<axes=[1], keepdims=0>(e) y = MatMul(m, k)",
        inputs="int64[N,L] ids",
        outputs="float[N,2] y",
        weights={"table": random(5, 6), "k": random(6, 2)},
    ),
    "a shape in the arithmetic": Network("z = Shape(r) k = Cast<to=1>(z) m = ReduceMax<keepdims=0>(k) s = Div(r, m)").make(),
    "a logarithm, which made-up numbers leave": build(
        "h = MatMul(x, w) y = Log(h)", inputs="float[N,5] x", outputs="float[N,8] y", weights={"w": random(5, 8)}
    ),
    "a mask of infinities": Network(
        "g = GlobalMaxPool(r) q = Add(g, m) k = Softmax<axis=1>(q) s = Mul(r, k)",
        weights={"m": np.where(np.arange(CHANNELS) % 4 == 3, -np.inf, 0).astype(np.float32).reshape(1, -1, 1, 1)},
    ).make(),
    "dropout that is off": Network("s = Dropout(r)").make(),
    "dropout that is off, by an input": Network(
        "s = Dropout(r, ratio, train)", weights={"train": np.array(False), "ratio": np.float32(0.5)}
    ).make(),
    "a standardized weight": Network(
        "t, m1, v1 = BatchNormalization<training_mode=1>(w2, one, nought, nought, one) a = Conv(r, t) s = Relu(a)",
        weights={
            "w2": random(1, CHANNELS, CHANNELS).reshape(CHANNELS, CHANNELS, 1, 1),
            "one": np.ones(CHANNELS, np.float32),
            "nought": np.zeros(CHANNELS, np.float32),
        },
    ).make(),
}
"""What looks broken and is not."""

GALLERY = [
    *_training_form(),
    *_extra_outputs(),
    *_statistics(),
    *_randomness(),
    *_interface(),
    *_gradients(),
    *_file(),
]
"""One broken model beside the other."""
