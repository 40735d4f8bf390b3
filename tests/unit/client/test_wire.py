"""Values to messages and back, and that nothing was forgotten on the way."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.objective_formulas import kinds

from gradserve import (
    Adam,
    AscentSettings,
    Checkpoint,
    GradientNormalization,
    ImageDescription,
    Layer,
    ModelDescription,
    ModelState,
    ModelStatus,
    Noise,
    Sgd,
    Step,
    StopReason,
    TensorDescription,
    objective_wire,
    wire,
)
from gradserve import objectives as O
from gradserve import regularizers as R
from gradserve import transforms as T
from gradserve.errors import GradserveError, InvalidAscent, InvalidObjective, InvalidTensor
from gradserve.numbers import Choice, Linear, Normal, Uniform
from gradserve.optimizers import AdamW, Momentum, NAdam, RmsProp
from gradserve.parameterizations import Alpha, Fourier, Laplacian, Pixels, Shared, Squash
from gradserve.projections import L2Ball, LInfBall
from gradserve.stopping import Keep, Probability, Value
from gradserve.tensors import to_wire
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve.v1 import model_service_pb2, objective_pb2, stopping_pb2

TERMS = [
    O.unit("l", 2**40),
    O.unit("l", 0),
    O.neuron("l", 1),
    O.neuron("l", 0, 0, 0),
    O.channel("l", 3),
    O.channel("l", 3, axis=-1),
    O.channel_energy("l", 3, axis=2),
    O.layer("l"),
    O.direction("l", [1, -2.5]),
    O.cotangent("l", np.arange(6).reshape(1, 2, 3)),
    O.direction("l", [1, -2.5], 0.5, axis=-1),
    O.direction_neuron("l", [1, -2.5], 4, 0, cosine_power=2, axis=2),
    O.matching("l", np.arange(6).reshape(1, 2, 3)),
    O.style("l", np.arange(6).reshape(1, 2, 3), axis=2),
    O.caricature("l", np.arange(6).reshape(1, 2, 3), 3),
    O.channel_interpolate("l", 3, "m", 4, axis=-1),
    O.alignment("l", 3),
    O.alignment("l"),
    O.diversity("l", axis=3),
    O.l1(0.25),
    O.l2(0.25, 0.5),
    O.l2(),
    O.total_variation(),
    O.boundary_complexity(3, 0.25),
    O.boundary_complexity(),
    O.blur_input_each_step(),
]
CHECKPOINT = Checkpoint(
    5,
    {"model": "m", "seed": "3"},
    {"image": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "finite": np.ones(1, np.bool_)},
    7,
)
SETTINGS: dict[str, list] = {
    "version": ["3", ""],
    "input": ["image"],
    "inputs": [{"other": np.arange(3), "mask": np.array([True])}, {}],
    "steps": [1, 256, 0, 2**32 - 1],
    "seed": [1, 2**64 - 1],
    "count": [5],
    "shape": [(3, 8, 8)],
    "start": [0.0, 0.5, Noise(0.0), Noise(0.25), np.ones((1, 3), np.float32)],
    "optimizer": [
        *(
            Sgd(0.25),
            Sgd(Linear(1.0, 0.0)),
            Momentum(0.5),
            Momentum(0.5, 0.0, nesterov=True),
            RmsProp(),
            RmsProp(0.5, 0.0, 1e-3),
        ),
        *(
            Adam(),
            Adam(0.5, 0.0, 0.5, 1e-3, epsilon_hat=True),
            AdamW(),
            AdamW(weight_decay=0.0),
            NAdam(),
            NAdam(momentum_decay=0.0),
        ),
    ],
    "stop_at": [Value(0.5), Value(-2.0, 3), Probability(), Probability(0.5, "l", 3, softmax=False, every=7)],
    "keep": list(Keep),
    "shared": [(Shared(),), (Shared(3, 1), Shared(0, 0))],
    "alpha": [Alpha(), Alpha(0.0, 0.25, 2.0)],
    "redirect_relu_steps": [17],
    "regularizers": [(R.GaussianBlur(0.5, 4), R.SmallNorms(50.0)), (R.SmallContributions(0.0), R.GaussianBlur(1.0))],
    "projection": [LInfBall(0.5), LInfBall(0.25, random_start=True), L2Ball(2.0, random_start=True)],
    "parameterization": [
        *(Pixels(), Pixels(Squash.TANH, ((1.0, 0.5), (0.25, 2.0)))),
        *(Fourier(), Fourier(0.0, Squash.CLIP, ()), Laplacian(), Laplacian(0, colours=())),
    ],
    "transforms": [
        tuple(T.LUCID),
        (T.Affine(), T.Affine(1.5, Uniform(0, 1), Normal(Linear(0, 1), 2), Choice((1.0, 2.0)), -1.0, T.Border.WRAP, 0.0)),
        (T.Pad(0, T.Border.REFLECT, 0.0), T.Jitter(0, T.JitterKind.ROLL), T.Jitter(1, T.JitterKind.TRANSLATE, 0.5)),
        (T.Crop(3, 4), T.RandomCrop(Normal(0.5, 0.1), Uniform(0, 1), 0.25), T.Resize(5, 6, T.Alignment.CORNERS)),
        (T.Flip(), T.Flip(0.0), T.Blur(1.0), T.Blur(Uniform(0, 1), 0, T.Border.FILL), T.Noisy(0.5, 0.25)),
        (T.Rotate(0.0), T.Scale(1.0)),
    ],
    "resample_each": [True],
    "image_size": [(3, 5)],
    "gradient_normalization": list(GradientNormalization),
    "weight_decay": [0.5],
    "jitter": [4],
    "bounds": [(-math.inf, math.inf), (0.0, 0.0), (-1.0, 0.5)],
    "report_every": [10],
    "image_every": [7],
    "resume": [CHECKPOINT],
    "checkpoint_every": [9],
}


def through(message):
    """As the network carries it."""
    return type(message).FromString(message.SerializeToString())


def ascent_through(settings):
    return wire.ascent_from_wire(through(wire.ascent_to_wire("m", O.layer("l"), settings)))


def assert_fields_equal(got, expected):
    assert type(got) is type(expected)
    for name, value in vars(expected).items():
        if isinstance(value, Checkpoint):
            assert getattr(got, name).to_bytes() == value.to_bytes()
            continue
        np.testing.assert_array_equal(getattr(got, name), value, strict=isinstance(value, np.ndarray), err_msg=name)


# ---- objectives ------------------------------------------------------------------------------------------------------


def test_every_kind_of_term_is_in_this_test_and_on_the_wire():
    assert {type(objective.terms[0][1]) for objective in TERMS} == kinds() == set(objective_wire.KINDS.values())
    forms = {field.name for field in objective_pb2.Term.DESCRIPTOR.oneofs_by_name["form"].fields}
    assert forms == set(objective_wire.KINDS)


@pytest.mark.parametrize("objective", TERMS)
def test_a_term_survives(objective):
    got = objective_wire.objective_from_wire(through(objective_wire.objective_to_wire(-0.1 * objective))).terms
    for (scale, term), (_, expected) in zip(got, objective.terms, strict=True):
        assert scale == -0.1
        assert_fields_equal(term, expected)


def test_a_scale_that_changes_survives():
    objective = Linear(0, -0.5) * O.unit("a", 1) + O.unit("b", 1)
    got = objective_wire.objective_from_wire(through(objective_wire.objective_to_wire(objective)))
    assert [scale for scale, _ in got.terms] == [Linear(0, -0.5), 1.0]


@pytest.mark.parametrize("objective", [O.unit("l", 2**63), O.neuron("l", 1, -(2**63) - 1), O.cotangent("l", 0.5)])
def test_a_term_that_no_message_can_hold(objective):
    with pytest.raises(InvalidObjective, match="^objective on 'l': expected values in the range of the wire, got "):
        objective_wire.objective_to_wire(objective)


@pytest.mark.parametrize("form", ["direction", "direction_neuron", "cotangent", "matching", "style", "caricature"])
def test_a_term_without_its_array(form):
    term = objective_pb2.Term(scale=1, layer="l")
    getattr(term, form).SetInParent()
    with pytest.raises(InvalidObjective, match=f"^objective on 'l': {form}: expected an? (vector|array), got none$"):
        objective_wire.objective_from_wire(objective_pb2.Objective(terms=[term]))


def test_terms_survive_in_order():
    objective = O.unit("a", 1) - 2 * O.channel("b", 3) + O.unit("a", 1)
    got = objective_wire.objective_from_wire(through(objective_wire.objective_to_wire(objective)))
    assert [(scale, term.layer) for scale, term in got.terms] == [(1, "a"), (-2, "b"), (1, "a")]


def test_an_unset_axis_is_1():
    message = objective_pb2.Objective(terms=[objective_pb2.Term(scale=1, layer="l", channel=objective_pb2.Channel())])
    assert objective_wire.objective_from_wire(message).terms[0][1].axis == 1


def test_a_term_without_a_form():
    message = objective_pb2.Objective(terms=[objective_pb2.Term(scale=1, layer="l")])
    with pytest.raises(InvalidObjective, match="^objective on 'l': expected one of unit, .*, cotangent, .*, got none$"):
        objective_wire.objective_from_wire(message)


@pytest.mark.parametrize("objective", [O.Objective(()), 0 * O.unit("l", 1), None])
def test_an_objective_that_is_none_is_not_sent(objective):
    with pytest.raises(InvalidObjective):
        objective_wire.objective_to_wire(objective)


@pytest.mark.parametrize("form", ["direction", "cotangent"])
@pytest.mark.parametrize("array", [np.array(["no", "number"], object), np.ones(2, np.complex64)])
def test_an_array_that_holds_no_numbers_is_refused(form, array):
    field = {"direction": "vector", "cotangent": "array"}[form]
    data = to_wire(array) if array.dtype == object else {"dtype": "complex64", "shape": [2], "data": array.tobytes()}
    message = objective_pb2.Objective(terms=[{"scale": 1, "layer": "l", form: {field: data}}])
    with pytest.raises((InvalidTensor, InvalidObjective), match="l"):
        objective_wire.objective_from_wire(message)


# ---- ascents ---------------------------------------------------------------------------------------------------------


def test_every_setting_is_in_this_test():
    assert SETTINGS.keys() == AscentSettings.__annotations__.keys()


def test_every_field_of_the_request_is_a_setting():
    fields = set(pb.AscendRequest.DESCRIPTOR.fields_by_name) - {"model", "objective"}
    assert fields | {"version"} == AscentSettings.__annotations__.keys()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SETTINGS.items() for value in values])
def test_a_setting_survives(name, value):
    got = ascent_through({name: value})[name]
    if isinstance(value, dict):
        assert got.keys() == value.keys()
        for key, array in value.items():
            np.testing.assert_array_equal(got[key], array, strict=True)
    elif isinstance(value, np.ndarray):
        np.testing.assert_array_equal(got, value, strict=True)
    elif isinstance(value, Checkpoint):
        assert got.to_bytes() == value.to_bytes()
    else:
        assert got == value
        assert type(got) is type(value)


def test_all_settings_survive_together():
    settings = {name: values[0] for name, values in SETTINGS.items() if name not in {"inputs", "resume"}}
    got = ascent_through(settings | {"resume": CHECKPOINT})
    assert got.pop("resume").to_bytes() == CHECKPOINT.to_bytes()
    assert {name: value for name, value in got.items() if name != "inputs"} == settings


def test_settings_left_out_stay_out():
    assert ascent_through({}) == {"steps": 256, "version": "", "inputs": {}}


def test_bounds_in_arrays_survive():
    low, high = ascent_through({"bounds": (np.arange(3, dtype=np.float32), 5.0)})["bounds"]
    np.testing.assert_array_equal(low, np.arange(3, dtype=np.float32), strict=True)
    assert high == 5.0


def test_no_bounds_are_left_out():
    assert "bounds" not in ascent_through({"bounds": None})


@pytest.mark.parametrize("name", GradientNormalization)
def test_a_normalization_may_be_text(name):
    assert ascent_through({"gradient_normalization": str(name)})["gradient_normalization"] is GradientNormalization(name)


@pytest.mark.parametrize("start", [np.float64(0.25), np.array(0.25), 1])
def test_a_number_is_a_constant_start(start):
    assert ascent_through({"start": start})["start"] == float(start)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"steps": -1}, "^steps: expected int in the range of the wire, got -1$"),
        ({"steps": 2**32}, "^steps: expected int"),
        ({"steps": "many"}, "^steps: expected int .*, got 'many'$"),
        ({"seed": -1}, "^seed: "),
        ({"seed": 2**64}, "^seed: "),
        ({"count": 1.5}, "^count: "),
        ({"input": 3}, "^input: expected str"),
        ({"weight_decay": "much"}, "^weight_decay: expected float"),
        ({"gradient_normalization": "softmax"}, "^gradient_normalization: expected one of none, std, .*, got 'softmax'$"),
        ({"optimizer": "adam"}, "^optimizer: expected one of sgd, adam, momentum, rms_prop, adam_w, n_adam, got str"),
        ({"optimizer": Sgd("fast")}, "learning_rate"),
        ({"start": None}, "^start: "),
        ({"start": "noise"}, "^start: "),
        ({"shape": (3, 8.5)}, "^shape: "),
        ({"shape": ("C", "H")}, "^shape: "),
        ({"bounds": (0.0,)}, "^bounds: "),
        ({"bounds": ("a", "b")}, "^bounds: "),
        ({"resume": b"bytes"}, "^resume: expected a Checkpoint, got bytes$"),
    ],
)
def test_a_setting_that_no_message_can_hold(settings, error):
    with pytest.raises(InvalidAscent, match=error):
        wire.ascent_to_wire("m", O.layer("l"), settings)


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises((TypeError, InvalidAscent), match="learning_rate"):
        wire.ascent_to_wire("m", O.layer("l"), {"learning_rate": 0.1})


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.AscendRequest(gradient_normalization=99), "^gradient_normalization: .*, got number 99$"),
        (pb.AscendRequest(start=pb.Start(image={"dtype": "float32", "shape": [1]})), "^start image: expected 4 bytes"),
        (pb.AscendRequest(inputs=[{"name": "x"}]), "^tensor 'x': "),
    ],
)
def test_a_request_that_cannot_be_read(request_, error):
    with pytest.raises(GradserveError, match=error):
        wire.ascent_from_wire(request_)


def test_unset_numbers_of_adam_get_their_defaults():
    request = pb.AscendRequest()
    request.optimizer.adam.learning_rate.constant = 0.25
    assert wire.ascent_from_wire(request)["optimizer"] == Adam(0.25)


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (GradientNormalization, pb.GradientNormalization, "GRADIENT_NORMALIZATION_"),
        (StopReason, pb.StopReason, "STOP_REASON_"),
        (Keep, stopping_pb2.Keep, "KEEP_"),
    ],
)
def test_enums_agree(ours, theirs, prefix):
    assert {prefix + member.name for member in ours} == set(theirs.keys()) - {prefix + "UNSPECIFIED"}
    assert all(member.value == member.name.lower() for member in ours)


# ---- reports and descriptions ----------------------------------------------------------------------------------------

IMAGE = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
STEPS = [
    Step(0, np.array([0.1]), np.array([0.0])),
    Step(2**32 - 1, np.array([1e-300, -1.0]), np.array([math.inf, 0.1]), IMAGE, StopReason.FINISHED),
    Step(3, np.array([math.nan]), np.array([math.nan]), None, StopReason.NON_FINITE),
    Step(
        4,
        np.array([math.nan]),
        np.array([math.nan]),
        IMAGE,
        StopReason.INTERRUPTED,
        CHECKPOINT,
        reached=np.array([False]),
        measured=np.array([0.25]),
        dead=np.array([True]),
        image_indices=np.array([3]),
        alpha=IMAGE[0],
    ),
]
LAYERS = [
    Layer("relu3", "Relu", "float32", ("N", 3, None, 0), True),
    Layer("x", "ArgMax", "int64", (), False, "integers", "portable", "asked for"),
]
DESCRIPTION = ModelDescription(
    name="digits",
    version="3",
    sha256="ab",
    opset=17,
    inputs=(
        TensorDescription("x", "float32", ("N", 3, 8, None), ImageDescription("NHWC", "BGR", -1.0, 2.0, (0.1,), (0.2,))),
    ),
    outputs=(TensorDescription("y", "float32", ("N", 2), labels=("cat", "")), TensorDescription("z", "int64", ())),
    rewrites=("folded a", "dropped b"),
    rewrite_error=1e-7,
    backend="training",
    backend_reason="because",
)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_survives(step):
    assert_fields_equal(wire.step_from_wire(through(wire.step_to_wire(step))), step)


def test_a_steps_means():
    step = Step(0, np.array([1.0, 3.0]), np.array([2.0, 6.0]))
    assert (step.value, step.gradient_norm) == (2.0, 4.0)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_survives(layer):
    assert wire.layer_from_wire(through(wire.layer_to_wire(layer))) == layer


def test_a_description_survives():
    assert wire.description_from_wire(through(wire.description_to_wire(DESCRIPTION))) == DESCRIPTION


def test_an_unknown_rewrite_error_survives():
    description = replace(DESCRIPTION, rewrite_error=math.nan)
    assert math.isnan(wire.description_from_wire(through(wire.description_to_wire(description))).rewrite_error)


@pytest.mark.parametrize("value", [DESCRIPTION, DESCRIPTION.inputs[0], DESCRIPTION.inputs[0].image, STEPS[3], LAYERS[1]])
def test_no_field_is_at_its_default_in_this_test(value):
    """So that a field forgotten on the way cannot come back right by chance."""
    defaults = {name: getattr(type(value), name) for name in vars(value) if hasattr(type(value), name)}
    same = {name for name, default in defaults.items() if np.array_equal(getattr(value, name), default)}
    assert same <= {"labels"}


# ---- the repository --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ModelState)
def test_statuses(state):
    status = ModelStatus("digits", "3", state, "because", 2**40)
    assert wire.status_from_wire(through(wire.status_to_wire(status))) == status


def test_every_state_is_in_the_proto_and_vice_versa():
    names = {name.removeprefix("MODEL_STATE_") for name in model_service_pb2.ModelState.keys()}  # noqa: SIM118
    assert names == {str(state) for state in ModelState}


def test_a_state_of_a_newer_server():
    assert wire.status_from_wire(model_service_pb2.ModelStatus(name="m", state=99)).state is ModelState.UNKNOWN
