"""A served model: what its names stand for, the shapes of its layers, and the plans it keeps."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest
from support.onnx_models import BATCHNORM, build, random, save, trained
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve.descriptions import ImageDescription
from gradserve.errors import InvalidModel, NotDifferentiable, UnknownInput, UnknownLayer
from gradserve_server.graph.derivatives import Wanted
from gradserve_server.runtime import model as module
from gradserve_server.runtime.block_size import block_size
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.scheduler import Scheduler

WAIT = 20.0
"""Seconds after which a thread counts as stuck."""

LAYERED = build(
    f"h = Conv(x, W) r = {BATCHNORM} s = Relu(r) a = Identity(s) d = Dropout(a) y = Identity(d)",
    inputs="float[N,2,H,W2] x",
    outputs="float[N,3,H,W2] y",
    weights={"W": random(3, 2, 1, 1), **trained(3)},
)


@pytest.fixture
def serve(tmp_path):
    def make(proto, **options):
        path = save(proto, tmp_path / "model.onnx")
        scheduler = Scheduler(max_batch=8, max_queue=8)
        return Model("m", 1, path, **{"threads": 1, "max_plans": 4, "scheduler": scheduler, **options})

    return make


def values(*layers):
    return Wanted((), layers)


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "stands_for"), [("r", "r"), ("y", "y"), ("s", "y"), ("a", "y"), ("d", "y")])
def test_names_from_before_the_rewriting_find_their_value(serve, name, stands_for):
    assert serve(LAYERED).resolve(name) == stands_for


def test_a_folded_name_is_refused_with_the_nearest_layer(serve):
    with pytest.raises(UnknownLayer, match="^layer 'h': was folded away .*; the nearest layer is 'r'$"):
        serve(LAYERED).resolve("h")


def test_every_listed_layer_resolves_to_itself_and_runs(serve):
    model = serve(LAYERED)
    assert [layer.name for layer in model.layers] == ["r", "y"]
    feeds = {"x": random(1, 2, 3, 3)}
    for layer in model.layers:
        assert model.resolve(layer.name) == layer.name
        assert layer.name in model.plan(values(layer.name)).run(feeds)


@pytest.mark.parametrize(
    ("name", "hint"), [("R", "lists them"), ("relu", "lists them"), ("rr", "did you mean 'r'"), ("", "lists")]
)
def test_an_unknown_name(serve, name, hint):
    with pytest.raises(UnknownLayer, match=f"^layer '{name}': model 'm' has no such layer; .*{hint}"):
        serve(LAYERED).resolve(name)


def test_a_weight_is_no_layer(serve):
    with pytest.raises(UnknownLayer, match="^layer 'w': model 'm' has no such layer"):
        serve(build("y = Mul(x, w)", outputs="float[N,3,4,4] y", weights={"w": random(4)})).resolve("w")


def test_what_is_not_listed_is_no_layer(serve):
    """The name of an input, and of a value inside a branch."""
    then = "t () => (float[N,8] p) { inner = Neg(x) p = Neg(inner) }"
    branches = f"then_branch = {then}, else_branch = e () => (float[N,8] q) {{ q = Exp(x) }}"
    model = serve(build(f"y = If(c) <{branches}>", inputs="float[N,8] x, bool c", outputs="float[N,8] y"))
    assert [layer.name for layer in model.layers] == ["y"]
    for name in ("inner", "x"):
        with pytest.raises(UnknownLayer, match=f"^layer '{name}'"):
            model.resolve(name)


# ---- description -----------------------------------------------------------------------------------------------------


def test_the_description(serve):
    model = serve(LAYERED, images={"x": {"high": 255.0}}, labels={"y": ("a", "b")})
    description = model.description
    assert (description.name, description.version, description.opset) == ("m", "1", 17)
    assert [(t.name, t.dtype, t.shape) for t in description.inputs] == [("x", "float32", ("N", 2, "H", "W2"))]
    assert description.inputs[0].image == ImageDescription(high=255.0)
    assert [(t.name, t.labels) for t in description.outputs] == [("y", ("a", "b"))]
    assert model.float_inputs == ("x",)
    assert any("folded" in line for line in description.rewrites)


def test_the_file_describes_its_pixels_and_whoever_serves_it_goes_before_key_by_key(serve):
    proto = build("y = Relu(x)", inputs="float[N,2,4,4] x")
    metadata = {"gradserve.input.x.preprocessing": "caffe", "gradserve.input.x.mean": "9 8", "producer": "somebody"}
    onnx.helper.set_model_props(proto, metadata)
    caffe = ImageDescription(channels="BGR", high=255.0, mean=(9.0, 8.0))
    assert serve(proto).description.inputs[0].image == caffe
    assert serve(proto, images={"x": {"mean": (7.0,)}}).description.inputs[0].image == replace(caffe, mean=(7.0,))


def test_a_file_that_describes_its_pixels_wrongly_is_refused(serve):
    proto = build("y = Relu(x)", inputs="float[N,2,4,4] x")
    onnx.helper.set_model_props(proto, {"gradserve.input.x.range": "1 0"})
    with pytest.raises(InvalidModel, match="metadata 'gradserve.input.x.range': expected two numbers, the smaller first"):
        serve(proto)


@pytest.mark.parametrize("options", [{"images": {"z": {"high": 255.0}}}, {"labels": {"z": ("a",)}}])
def test_a_description_of_what_is_not_there_is_refused(serve, options):
    with pytest.raises(InvalidModel, match=r"^model 'm': .*z: expected one of [xy]$"):
        serve(LAYERED, **options)


@pytest.mark.parametrize("field", ["mean", "std"])
def test_a_description_that_does_not_fit_its_input_is_refused_when_the_model_loads(serve, field):
    with pytest.raises(InvalidModel, match=field):
        serve(LAYERED, images={"x": {field: (1.0, 2.0, 3.0)}})


def test_initializers_that_are_also_inputs_are_no_inputs_of_the_served_model(serve):
    """Until IR version 4 every initializer had to be one; onnxruntime gives them their value where no one else does."""
    weights = {"W": random(3, 2, 1, 1), **trained(3)}
    extra = ", ".join(f"float[{','.join(map(str, array.shape))}] {name}" for name, array in weights.items())
    proto = build(
        f"h = Conv(x, W) y = {BATCHNORM}",
        inputs=f"float[N,2,4,4] x, {extra}",
        outputs="float[N,3,4,4] y",
        opset=9,
        ir_version=3,
        weights=weights,
    )
    model = serve(proto)
    assert [tensor.name for tensor in model.inputs] == ["x"]
    assert model.float_inputs == ("x",)
    assert model.predict({"x": random(2, 2, 4, 4)}, ["y"])["y"].shape == (2, 3, 4, 4)


def test_a_file_that_only_onnxruntimes_optimizer_breaks_is_served(serve):
    """LeViT, by dynamo: onnxruntime 1.19 fuses BatchNormalization with the MatMul before a Reshape, wrongly."""
    body = f"g = MatMul(x, w) h = Reshape(g, s) y = {BATCHNORM}"
    weights = {"w": random(4, 4), "s": np.array([-1, 4]), **trained(4)}
    model = serve(build(body, inputs="float[N,3,4] x", outputs="float[M,4] y", weights=weights))
    assert model.predict({"x": random(2, 3, 4)}, ["y"])["y"].shape == (6, 4)
    assert model.description.rewrite_error < TOLERANCE["rewritten float32"]


def test_a_model_that_predicts_at_random_is_served(serve):
    """Whether or not two sessions happen to draw the same."""
    body = "h = RandomNormalLike(x) i = Identity(h) y = Add(x, i)"
    model = serve(build(body, inputs="float[N,3] x", outputs="float[N,3] y"))
    assert model.predict({"x": random(2, 3)}, ["y"])["y"].shape == (2, 3)


def test_a_file_whose_shapes_are_wrong_is_served_as_it_is(serve, monkeypatch):
    """It says that y = Mul(h, g) takes two images of the same shape; onnxruntime goes by what they really are."""
    warnings = []
    monkeypatch.setattr(module, "warn_untuned", warnings.append)
    proto = build(
        "h = Conv(x, W) g = ReduceMean<axes = [2, 3]>(h) y = Mul(h, g)",
        inputs="float[N,16,4,4] x",
        outputs="float[N,16,4,4] y",
        weights={"W": random(16, 16, 1, 1)},
    )
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("g", onnx.TensorProto.FLOAT, ["N", 16, 4, 4]))
    x = random(2, 16, 4, 4)
    model = serve(proto)
    got = model.predict({"x": x}, ["y"])["y"]
    h = np.einsum("nchw,oc->nohw", x, random(16, 16, 1, 1)[:, :, 0, 0])
    expected = h * h.mean((2, 3), keepdims=True)
    assert relative_error(got, expected) < TOLERANCE["float32 operator"]
    assert block_size() is None or "expected inference form within" in str(warnings[0])
    # What was wrong with its predictions would be wrong with its plans.
    assert relative_error(model.plan(Wanted((), ("y",))).run({"x": x})["y"], expected) < TOLERANCE["float32 operator"]


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Exp"])
def test_outputs_that_are_not_finite_on_the_random_batch_are_no_reason_to_refuse(serve, op):
    body = f"big = Constant<value = float {{1000}}>() i = Identity(x) h = Mul(i, big) k = {op}(h) y = Neg(k)"
    model = serve(build(body, inputs="float[N,3] x", outputs="float[N,3] y"))
    assert model.predict({"x": np.zeros((1, 3), np.float32)}, ["y"])["y"].shape == (1, 3)


BROKEN = {
    "BatchNormalization without statistics": "h = Relu(x) y = BatchNormalization(h, gain, offset)",
    "the same in training form": "h = Relu(x) y, m, v = BatchNormalization<training_mode = 1>(h, gain, offset)",
    "Conv without weight": "h = Conv(x) y = BatchNormalization(h, gain, offset, mean, variance)",
    "Dropout of nothing": "y = Dropout()",
    "Identity of nothing": "y = Identity()",
    "a value that nothing makes": "y = Relu(nowhere)",
    "an unknown operator": "y = Nonsense(x)",
    "statistics of another size": "h = Conv(x, W) y = BatchNormalization(h, gain, offset, mean, variance)",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_model_is_refused(serve, what):
    weights = {"W": random(5, 3, 1, 1), **trained(3)}
    with pytest.raises(InvalidModel):
        serve(build(BROKEN[what], outputs="float[N,3,4,4] y", weights=weights))


# ---- inputs to differentiate by --------------------------------------------------------------------------------------

TWO = build(
    "h = Relu(a) k = Cast<to = 1>(c) y = Mul(h, k) z = Exp(b) w = Add(y, z)",
    inputs="float[N,3] a, float[N,3] b, int64[N,3] c",
    outputs="float[N,3] y, float[N,3] z, float[N,3] w",
)


@pytest.mark.parametrize(
    ("names", "layers", "expected"),
    [
        ((), ["y"], ("a",)),
        ((), ["z"], ("b",)),
        ((), ["w"], ("a", "b")),
        ((), ["y", "z"], ("a", "b")),
        (("b",), ["w"], ("b",)),
        (("b", "a", "b"), ["w"], ("b", "a")),
    ],
)
def test_by_default_every_float_input_that_reaches_a_layer(serve, names, layers, expected):
    assert serve(TWO).wrt(names, layers) == expected


def test_an_unknown_input(serve):
    with pytest.raises(UnknownInput, match="^input 'q': expected one of 'a', 'b', 'c', or a layer$"):
        serve(TWO).wrt(["q"], ["y"])


def test_a_layer_that_no_float_input_reaches(serve):
    with pytest.raises(NotDifferentiable, match="^layer 'k': does not depend on a float input of model 'm'$"):
        serve(TWO).wrt((), ["k"])


# ---- shapes of layers ------------------------------------------------------------------------------------------------

SHAPES = {
    "sizes known": ("h = Relu(x) y = Neg(h)", "float[N,8] x", {"x": (3, 8)}),
    "open spatial sizes": ("h = MaxPool<kernel_shape = [2, 2]>(x) y = Neg(h)", "float[N,2,H,W] x", {"x": (3, 2, 5, 7)}),
    "a fixed batch": ("h = Relu(x) y = Neg(h)", "float[3,8] x", {"x": (3, 8)}),
    "batch merged with another axis": ("h = Reshape(x, s) y = Neg(h)", "float[N,8] x", {"x": (3, 8)}),
    "batch moved": ("h = Transpose<perm = [1, 0]>(x) y = Neg(h)", "float[N,8] x", {"x": (3, 8)}),
    "batch moved, all other sizes known": (
        "t = Transpose<perm = [1, 0]>(x) h = MatMul(t, x) y = Neg(h)",
        "float[N,8] x",
        {"x": (3, 8)},
    ),
    "batch reduced away": ("h = ReduceSum(x, zero) y = Neg(h)", "float[N,8] x", {"x": (3, 8)}),
    "two batches": ("h = MatMul(x, z) y = Neg(h)", "float[N,8] x, float[8,K] z", {"x": (3, 8), "z": (8, 5)}),
    "two inputs of one size": ("h = MatMul(x, z) y = Neg(h)", "float[N,8] x, float[8,4] z", {"x": (8, 8), "z": (8, 4)}),
    "rows that another input chooses": ("h = Gather(x, i) y = Neg(h)", "float[N,8] x, int64[K] i", {"x": (3, 8), "i": (5,)}),
    "a number": ("h = ReduceSum<keepdims = 0>(x) y = Neg(h)", "float[N,8] x", {"x": (3, 8)}),
}


@pytest.mark.parametrize("what", SHAPES)
def test_layer_shapes_are_those_of_the_values(serve, what):
    body, inputs, shapes = SHAPES[what]
    constants = {"s": np.array([-1, 4]), "zero": np.array([0])}
    model = serve(build(body, inputs=inputs, outputs="float[] y", weights=constants))
    feeds = {name: np.zeros(shape, np.int64 if name == "i" else np.float32) for name, shape in shapes.items()}
    for _ in range(2):
        got = model.layer_shapes(["h", "y"], feeds)
        assert got == {name: array.shape for name, array in model.plan(values("h", "y")).run(feeds).items()}


def test_layer_shapes_follow_the_inputs(serve):
    model = serve(LAYERED)
    for batch, height, width in ((1, 3, 4), (2, 3, 4), (2, 6, 4)):
        assert model.layer_shapes(["r"], {"x": random(batch, 2, height, width)}) == {"r": (batch, 3, height, width)}


# ---- plans -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def builds(monkeypatch):
    """Counts the sessions made from here on; `fail` of the next raise."""

    class Builds:
        count, fail = 0, 0

        def __call__(self, *arguments, **settings):
            self.count += 1
            time.sleep(0.05)  # long enough for every waiting thread to come
            if self.fail:
                self.fail -= 1
                msg = "no session this time"
                raise MemoryError(msg)
            return original(*arguments, **settings)

    original, builds = module.tuned_session, Builds()
    builds.start = lambda: monkeypatch.setattr(module, "tuned_session", builds)
    return builds


def test_the_same_request_is_the_same_plan(serve, builds):
    model = serve(LAYERED)
    builds.start()
    first = model.plan(values("r"))
    assert model.plan(values("r")) is first
    assert model.plan(values("y")) is not first
    assert model.plan(Wanted(("x",), ("r",))) is not first
    assert builds.count == 3


def test_plans_of_two_models_are_kept_apart(serve):
    assert serve(LAYERED).plan(values("r")) is not serve(LAYERED).plan(values("r"))


def test_concurrent_first_requests_build_once(serve, builds):
    model = serve(LAYERED)
    builds.start()
    ready = threading.Barrier(8)

    def ask(_):
        ready.wait(WAIT)
        return model.plan(values("r"))

    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(ask, range(8), timeout=WAIT))
    assert builds.count == 1
    assert all(plan is plans[0] for plan in plans)


def test_the_plan_unused_for_longest_goes(serve, builds):
    model = serve(LAYERED, max_plans=2)
    builds.start()
    r, y, both = values("r"), values("y"), values("r", "y")
    kept = model.plan(r)
    model.plan(y)
    assert model.plan(r) is kept
    model.plan(both)
    assert model.plan(r) is kept
    assert builds.count == 3
    model.plan(y)
    assert builds.count == 4


def test_a_plan_that_went_still_works(serve):
    model = serve(LAYERED, max_plans=1)
    old = model.plan(values("r"))
    model.plan(values("y"))
    assert old.run({"x": random(1, 2, 3, 3)})["r"].shape == (1, 3, 3, 3)


def test_a_failure_is_not_kept(serve, builds):
    model = serve(LAYERED)
    builds.start()
    builds.fail = 1
    with pytest.raises(MemoryError):
        model.plan(values("r"))
    assert model.plan(values("r")) is model.plan(values("r"))
    assert builds.count == 2


def test_a_failure_leaves_nobody_waiting(serve, builds):
    model = serve(LAYERED)
    builds.start()
    builds.fail = 2
    ready = threading.Barrier(4)

    def ask(_):
        ready.wait(WAIT)
        try:
            return model.plan(values("r"))
        except MemoryError:
            return None

    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(ask, range(4), timeout=WAIT))
    assert plans.count(None) == 2
    assert len({id(plan) for plan in plans if plan is not None}) == 1


def test_an_unsupported_gradient_does_not_stop_other_plans(serve):
    model = serve(TWO)
    for _ in range(2):
        with pytest.raises(NotDifferentiable, match="'b'"):
            model.plan(Wanted(("b",), ("y",)))
    assert model.plan(Wanted(("a",), ("y",))).inputs == {"a", "c"}


def test_a_plan_wants_only_what_its_layers_need(serve):
    model = serve(TWO)
    plan = model.plan(values("h"))
    assert plan.inputs == {"a"}
    given = {"a": random(2, 3), "b": random(2, 3), "c": np.ones((2, 3), np.int64)}
    assert plan.run(given)["h"].shape == (2, 3)


def test_predictions_do_not_change_when_plans_come_and_go(serve):
    model = serve(TWO)
    feeds = {"a": random(2, 3), "b": random(2, 3, seed=1), "c": np.ones((2, 3), np.int64)}
    before = model.predict(feeds, ["w"])["w"].tobytes()
    for layer in ("h", "y", "z", "w"):
        model.plan(values(layer)).run(feeds)
    assert model.predict(feeds, ["w"])["w"].tobytes() == before


def test_the_file_is_not_changed(serve, tmp_path):
    serve(LAYERED).plan(values("r"))
    assert onnx.load(tmp_path / "model.onnx") == LAYERED
