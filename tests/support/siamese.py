"""A siamese network: two pictures through one set of weights, BatchNorm included, and the distance of what they become."""

from collections.abc import Mapping

import numpy as np
import onnx
from support.onnx_models import build, random, trained

CHANNELS = 6
DESCRIBED = {f"gradserve.input.{side}.{key}": value for side in ("left", "right") for key, value in
             {"mean": "0.5", "std": "0.25", "channels": "GREY"}.items()}  # fmt: skip


def siamese(statistics: Mapping[str, np.ndarray] | None = None, *, training: bool = False) -> onnx.ModelProto:
    """[N, 1, 8, 8] twice to [N, 1]."""
    branch = """
        c{0} = Conv<pads=[1, 1, 1, 1]>({1}, w)
        n{0}{2} = BatchNormalization{3}(c{0}, gain, offset, mean, variance)
        r{0} = Relu(n{0})
        p{0} = GlobalAveragePool(r{0})
        e{0} = Flatten(p{0})
    """
    extra = (", m{0}, v{0}", "<training_mode=1>") if training else ("", "")
    body = "".join(branch.format(i, side, extra[0].format(i), extra[1]) for i, side in ((1, "left"), (2, "right")))
    model = build(
        f"{body} d = Sub(e1, e2) s = Mul(d, d) distance = MatMul(s, ones)",
        inputs="float[N,1,8,8] left, float[N,1,8,8] right",
        outputs="float[N,1] distance",
        weights={
            "w": random(CHANNELS, 1, 3, 3),
            "ones": np.ones((CHANNELS, 1), np.float32),
            **(trained(CHANNELS) if statistics is None else statistics),
        },
    )
    onnx.helper.set_model_props(model, DESCRIBED)
    return model


def pairs(count: int = 12) -> dict[str, np.ndarray]:
    """Pictures of which the right ones are brighter."""
    draw = np.random.default_rng(3).normal
    return {
        "left": draw(-0.5, 0.5, (count, 1, 8, 8)).astype(np.float32),
        "right": draw(0.5, 0.7, (count, 1, 8, 8)).astype(np.float32),
    }
