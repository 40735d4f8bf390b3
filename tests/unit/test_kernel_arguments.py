"""What the kernels refuse, and what they offer."""

import math

import numpy as np
import pytest
from support.kernel_reference import Case

from gradserve import Adam, Sgd
from gradserve_server import kernels
from gradserve_server.kernels import Ascender, Layout

# ---- refused ---------------------------------------------------------------------------------------------------------

GOOD = {
    "image": np.zeros((2, 3, 4, 5), np.float32),
    "gradient": np.zeros((2, 4, 5, 3), np.float32),
    "out": np.zeros((2, 4, 5, 3), np.float32),
    "offsets": np.zeros((2, 2), np.int32),
    "first_moment": np.zeros((2, 3, 4, 5), np.float32),
    "second_moment": np.zeros((2, 3, 4, 5), np.float32),
}


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def misaligned(array):
    return np.frombuffer(bytearray(array.nbytes + 1), array.dtype.str, array.size, 1).reshape(array.shape)


def call(**changes):
    arrays = {name: array.copy() for name, array in GOOD.items()} | changes
    ascender = Ascender((3, 4, 5), rule=Adam(0.1), layout=Layout.NHWC)
    state = kernels.AscentState(0, arrays["first_moment"], arrays["second_moment"])
    ascender.prepare(arrays["image"], arrays["offsets"], arrays["out"])
    ascender.step(arrays["image"], arrays["gradient"], arrays["offsets"], state)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda a: a[:, :-1].copy(), r"\[2,\d.*\]"),
        (lambda a: a[..., :1].copy(), r"\[2,.*1\]"),
        (lambda a: a[0].copy(), r"\[.*\]"),
        (lambda a: a.astype(np.float64), "float64"),
        (lambda a: a.astype(a.dtype.newbyteorder()), ">[fi]4"),
        (lambda a: np.repeat(a, 2, axis=-1)[..., ::2], "non-contiguous"),
        (np.asfortranarray, "non-contiguous"),
        (misaligned, "misaligned"),
    ],
    ids=["size", "last-size", "rank", "dtype", "byte-order", "strided", "fortran", "misaligned"],
)
def test_a_wrong_array_is_refused(name, change, got):
    with pytest.raises(ValueError, match=rf"^{name}: expected C-contiguous .*\[.*\], got .*{got}"):
        call(**{name: change(GOOD[name])})


@pytest.mark.parametrize("name", GOOD)
def test_what_is_no_array_is_refused(name):
    with pytest.raises(TypeError, match=f"^{name}: expected numpy.ndarray, got list$"):
        call(**{name: GOOD[name].tolist()})


@pytest.mark.parametrize("name", ["image", "out", "first_moment", "second_moment"])
def test_read_only_memory_is_not_written(name):
    with pytest.raises(ValueError, match=rf"^{name}: expected C-contiguous writable .*, got read-only"):
        call(**{name: read_only(GOOD[name])})


def test_what_is_only_read_may_be_read_only():
    call(gradient=read_only(GOOD["gradient"]), offsets=read_only(GOOD["offsets"]))
    ascender = Ascender((3, 4, 5), rule=Sgd(0.1))
    ascender.prepare(read_only(GOOD["image"]), None, np.empty_like(GOOD["image"]))


@pytest.mark.parametrize(
    ("written", "other"),
    [("out", "image"), ("image", "gradient"), ("first_moment", "image"), ("second_moment", "first_moment")],
)
def test_shared_memory_is_refused(written, other):
    memory = np.zeros(130, np.float32)
    views = {name: memory[start : start + 120].reshape(GOOD[name].shape) for name, start in ((written, 0), (other, 10))}
    with pytest.raises(ValueError, match=f"^{written}: expected memory of its own, got memory shared with {other}"):
        call(**views)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(math.nan)),
            "learning_rate: expected a number that is finite in float32, got nan",
        ),
        (lambda: Ascender((3, 4, 4), rule=Adam(0.1, beta1=1.0)), r"beta1: expected a number in \[0, 1\), got 1.0"),
        (lambda: Ascender((3, 4, 4), rule=Adam(0.1, beta2=-0.1)), r"beta2: expected a number in \[0, 1\), got -0.1"),
        (
            lambda: Ascender((3, 4, 4), rule=Adam(0.1, epsilon=1e-50)),
            "epsilon: expected a number that is positive .*, got 1e-50",
        ),
        (
            lambda: Ascender((3, 4), rule=Sgd(1)),
            r"sample_shape: expected three positive sizes .*, got \(3, 4\)",
        ),
        (lambda: Ascender((3, 0, 4), rule=Sgd(1)), "sample_shape: expected .*, got"),
        (lambda: Ascender((1, 2**40, 2**40), rule=Sgd(1)), "sample_shape: expected .*, got"),
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(1), mean=[1, 2]),
            r"mean: expected .* 3 numbers, got shape \[2\]",
        ),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), scale=1e39), "scale: expected .* float32, got 1e"),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), weight_decay=1.5), "weight_decay: expected .*, got 1.5"),
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(1), low=1, high=0),
            "low: expected a number <= high = 0, got 1",
        ),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), low=math.nan), "low: expected"),
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(1), layout="CHWN"),
            "layout: expected one of NCHW, NHWC, got 'CHWN'",
        ),
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(1), normalization="l3"),
            "normalization: expected one of none, std",
        ),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), simd="mmx"), "simd: expected one of .*scalar, got 'mmx'"),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), threads=0), "threads: expected None or 1 to 256, got 0"),
        (lambda: kernels.set_num_threads(0), "threads: expected 1 to 256, got 0"),
        (lambda: kernels.set_num_threads(257), "threads: expected 1 to 256, got 257"),
    ],
)
def test_a_wrong_setting_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_a_refused_step_changes_nothing():
    case = Case(rule=Adam(0.1))
    ascender, image = case.ascender(), case.image.copy()
    state = ascender.new_state(2)
    with pytest.raises(ValueError, match="gradient"):
        ascender.step(image, case.gradients[0][:, :1], case.offsets, state)
    assert state.steps == 0
    assert image.tobytes() == case.image.tobytes()


def test_no_samples_is_no_work():
    ascender = Ascender((3, 4, 5), rule=Adam(0.1))
    image = np.empty((0, 3, 4, 5), np.float32)
    ascender.prepare(image, np.empty((0, 2), np.int32), image.copy())
    assert ascender.step(image, image.copy(), None, ascender.new_state(0)).shape == (0,)


# ---- what is here ----------------------------------------------------------------------------------------------------


def test_simd_targets_end_in_the_reference():
    targets = kernels.simd_targets()
    assert targets[-2:] == ("baseline", "scalar")
    assert len(set(targets)) == len(targets)


def test_number_of_threads_can_be_set():
    before = kernels.num_threads()
    try:
        kernels.set_num_threads(3)
        assert kernels.num_threads() == 3
    finally:
        kernels.set_num_threads(before)


def test_all_is_complete():
    public = {name for name, value in vars(kernels).items() if getattr(value, "__module__", "") == kernels.__name__}
    assert {name for name in public if not name.startswith("_")} <= set(kernels.__all__)
    assert all(hasattr(kernels, name) for name in kernels.__all__)
