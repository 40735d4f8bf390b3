"""Pixel space: shapes, layouts and normalization on both sides."""

import numpy as np
import pytest
from support.tolerances import TOLERANCE

from gradserve.descriptions import ImageDescription
from gradserve.errors import InvalidAscent
from gradserve_server.ascent.pixels import PixelSpace

NHWC = ImageDescription(layout="NHWC", mean=(0.1, 0.2, 0.3), std=(0.5, 2.0, 4.0))
NCHW = ImageDescription(mean=(0.1, 0.2, 0.3), std=(0.5, 2.0, 4.0))
SPACES = [
    (PixelSpace(None, (3, 4, 5)), (3, 4, 5)),
    (PixelSpace(NCHW, (3, 4, 5)), (3, 4, 5)),
    (PixelSpace(NHWC, (4, 5, 3)), (3, 4, 5)),
    (PixelSpace(None, (7,)), (1, 1, 7)),
    (PixelSpace(None, (2, 7)), (2, 1, 7)),
    (PixelSpace(None, (2, 3, 4, 5)), (2, 12, 5)),
    (PixelSpace(None, ()), (1, 1, 1)),
    (PixelSpace(ImageDescription(layout="NHWC"), (2, 7)), (7, 1, 2)),
    (PixelSpace(NHWC, (2, 4, 5, 3)), (3, 8, 5)),
    (PixelSpace(NCHW, (3, 2, 4, 5)), (3, 8, 5)),
    (PixelSpace(ImageDescription(layout="NHWC"), (7,)), (1, 1, 7)),
    (PixelSpace(None, (2, 3, 4, 5, 6)), (2, 60, 6)),
]


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(("space", "planar"), SPACES)
def test_the_planar_shape(space, planar):
    assert space.planar_shape == planar
    assert space.is_image == (len(space.model_shape) == 3)
    is_last = space.description is not None and space.description.layout == "NHWC" and len(space.model_shape) > 1
    assert space.layout == ("NHWC" if is_last else "NCHW")
    assert (space.channels, int(np.prod(space.sizes))) == (planar[0], planar[1] * planar[2])


@pytest.mark.parametrize(("space", "planar"), SPACES)
def test_there_and_back(space, planar):
    images = numbers(2, *space.model_shape)
    there = space.to_planar(images)
    assert there.shape == (2, *planar)
    assert there.flags.c_contiguous
    np.testing.assert_array_equal(space.from_planar(there), images)


def test_channels_stay_channels():
    images = numbers(2, 4, 5, 3)
    np.testing.assert_array_equal(PixelSpace(NHWC, (4, 5, 3)).to_planar(images)[1, 2], images[1, :, :, 2])


@pytest.mark.parametrize(("space", "planar"), SPACES)
def test_what_is_delivered_is_a_copy(space, planar):
    image = numbers(2, *planar)
    delivered = space.from_planar(image)
    assert not np.shares_memory(delivered, image)
    assert delivered.flags.c_contiguous


@pytest.mark.parametrize(("space", "planar"), SPACES)
def test_the_kernels_buffer_is_the_models_own_memory(space, planar):
    batch = numbers(2, *space.model_shape)
    buffer = space.buffer(batch)
    assert np.shares_memory(buffer, batch)
    assert buffer.shape == (2, *((planar[1], planar[2], planar[0]) if space.layout == "NHWC" else planar))
    np.testing.assert_array_equal(buffer.ravel(), batch.ravel())


@pytest.mark.parametrize("description", [NHWC, NCHW, ImageDescription(mean=(2.0,), std=(4.0,)), None])
def test_mean_and_scale_are_the_descriptions_normalization(description):
    space = PixelSpace(description, (4, 5, 3) if description is NHWC else (3, 4, 5))
    images = numbers(2, *space.model_shape)
    mean, scale = (np.reshape(values, (-1, 1, 1)) for values in (space.mean, space.scale))
    expected = images if description is None else description.normalize(images)
    got = space.from_planar((space.to_planar(images) - mean) * scale)
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE["normalized twice"])


@pytest.mark.parametrize("description", [NHWC, NCHW])
def test_a_description_undoes_itself(description):
    pixels = numbers(2, *((4, 5, 3) if description is NHWC else (3, 4, 5)))
    inputs = description.normalize(pixels)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(
        description.denormalize(inputs), pixels, rtol=TOLERANCE["normalized twice"], atol=TOLERANCE["normalized twice"]
    )


@pytest.mark.parametrize("field", ["mean", "std"])
@pytest.mark.parametrize(("shape", "count"), [((3, 4, 5), 2), ((3, 4, 5), 5), ((2, 7), 7), ((7,), 2), ((1, 4, 4), 3)])
def test_a_number_for_each_channel_or_one_for_all(field, shape, count):
    description = ImageDescription(**{field: (1.0,) * count})
    channels = shape[0] if len(shape) > 1 else 1
    with pytest.raises(
        InvalidAscent, match=f"^image description: expected 1 or {channels} numbers for {field}, got {count}$"
    ):
        PixelSpace(description, shape)
