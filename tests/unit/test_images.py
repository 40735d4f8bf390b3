"""Pictures to pixels and back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradserve import ImageDescription, TensorDescription, images
from gradserve.errors import InvalidTensor

GREY = ImageDescription(channels="GREY")
RGB = ImageDescription()
COLOURS = {"RGB": (255, 128, 0), "BGR": (0, 128, 255)}


def levels(*shape: int) -> np.ndarray:
    """Every 8-bit level, over and over."""
    return (np.arange(np.prod(shape)) * 37 % 256).astype(np.uint8).reshape(shape)


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["GREY", "RGB", "BGR"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-127.5, 127.5)])
def test_a_picture_comes_back_as_it_was(tmp_path: Path, layout: str, channels: str, low: float, high: float) -> None:
    description = ImageDescription(layout=layout, channels=channels, low=low, high=high)
    original = levels(20, 16) if channels == "GREY" else levels(20, 16, 3)
    Image.fromarray(original).save(tmp_path / "a.png")

    pixels = images.load(tmp_path / "a.png", description)
    images.save(tmp_path / "b.png", pixels, description)

    depth = 1 if channels == "GREY" else 3
    assert pixels.shape == ((depth, 20, 16) if layout == "NCHW" else (20, 16, depth))
    assert pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (low, high)
    with Image.open(tmp_path / "b.png") as again:
        np.testing.assert_array_equal(again, original)


def test_pixels_come_back_within_half_a_level() -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 9, 9)).astype(np.float32)
    description = ImageDescription(low=-1, high=1)
    again = images.from_picture(images.to_picture(pixels, description), description)
    assert np.abs(again - pixels).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_an_enlarged_picture_comes_back_exactly(factor: int) -> None:
    picture = Image.fromarray(levels(28, 28))
    again = images.from_picture(images.enlarge(picture, factor), GREY, size=(28, 28))
    np.testing.assert_array_equal(images.to_picture(again, GREY), picture)


# ---- conversions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_channel_order_is_the_models(channels: str) -> None:
    picture = Image.new("RGB", (2, 2), COLOURS["RGB"])
    description = ImageDescription(channels=channels, high=255)
    pixels = images.from_picture(picture, description)
    assert pixels[:, 0, 0].tolist() == list(COLOURS[channels])
    assert images.to_picture(pixels, description).getpixel((0, 0)) == COLOURS["RGB"]


def test_grey_is_the_luma_of_colours() -> None:
    pixels = images.from_picture(Image.new("RGB", (1, 1), (255, 0, 0)), ImageDescription(channels="GREY", high=255))
    assert pixels.ravel() == pytest.approx(0.299 * 255, abs=1)


def test_grey_pictures_serve_colour_models() -> None:
    pixels = images.from_picture(Image.new("L", (4, 4), 51), RGB)
    np.testing.assert_allclose(pixels, np.full((3, 4, 4), 0.2), rtol=1e-6)


def test_transparent_parts_are_white() -> None:
    assert images.from_picture(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), GREY).min() == 1


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32896, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert images.load(tmp_path / "deep.png", ImageDescription(channels="GREY", high=255)).ravel().tolist() == [0, 128, 255]


def test_another_shape_is_cropped_around_its_centre() -> None:
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    for size in ((5, 5), (7, 7)):
        pixels = images.from_picture(Image.fromarray(wide), GREY, size)
        assert pixels.shape == (1, *size)
        assert pixels.min() == 1


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png", exif=exif)
    assert images.load(tmp_path / "a.png", RGB).shape == (3, 8, 4)


def test_pixels_out_of_range_are_clipped() -> None:
    picture = images.to_picture(np.array([[[-5.0, 0.0, 1.0, 9.0, np.nan]]]), GREY)
    assert np.asarray(picture).tolist() == [[0, 0, 255, 255, 0]]


def test_the_range_is_stretched_only_if_asked() -> None:
    pixels = np.array([[[0.25, 0.5]]])
    assert np.asarray(images.to_picture(pixels, GREY)).tolist() == [[64, 128]]
    assert np.asarray(images.to_picture(pixels, GREY, stretch=True)).tolist() == [[0, 255]]
    assert np.asarray(images.to_picture(pixels, None)).tolist() == [[0, 255]]
    assert np.asarray(images.to_picture(np.full((1, 1, 1), 3.0), None)).tolist() == [[128]]


@pytest.mark.parametrize("shape", [(4,), (5, 5), (2, 5, 5), (5, 5, 3), (1, 3, 5, 5)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidTensor, match=r"expected \[C, H, W\] with 1 or 3 channels"):
        images.to_picture(np.zeros(shape), RGB)


def test_picture_size_is_read_from_the_models_layout() -> None:
    def size(shape: tuple[int | str | None, ...], layout: str) -> tuple[int, int] | None:
        return images.picture_size(TensorDescription("x", "float32", shape, ImageDescription(layout=layout)))

    assert size(("N", 3, 20, 30), "NCHW") == (20, 30)
    assert size((None, 20, 30, 3), "NHWC") == (20, 30)
    assert size(("N", 3, "H", 30), "NCHW") is None


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_zero_is_white_and_signs_have_colours() -> None:
    picture = images.gradient_picture(np.array([[[-2.0, 0.0, 2.0]]]))
    blue, white, red = (picture.getpixel((x, 0)) for x in range(3))
    assert white == (255, 255, 255)
    assert blue[2] > blue[0]
    assert red[0] > red[2]


@pytest.mark.parametrize("channels", [1, 3])
def test_no_gradient_is_a_white_picture(channels: int) -> None:
    assert np.asarray(images.gradient_picture(np.zeros((channels, 4, 4)))).min() == 255


def test_several_channels_show_their_largest_magnitude() -> None:
    gradient = np.zeros((3, 1, 3))
    gradient[0, 0, 1], gradient[2, 0, 2] = 1.0, -1.0
    none, first, last = (images.gradient_picture(gradient).getpixel((x, 0)) for x in range(3))
    assert none == (255, 255, 255)
    assert first == last == (27, 0, 54)


def test_pictures_of_one_scale_can_be_compared() -> None:
    gradient = np.array([[[0.5, -0.5]]])
    assert images.gradient_scale(gradient) == 0.5
    half = images.gradient_picture(gradient, scale=1.0)
    assert half.getpixel((0, 0)) == images.gradient_picture(np.array([[[0.5, 1.0]]])).getpixel((0, 0))


def test_a_gradient_has_the_layout_of_its_input() -> None:
    description = ImageDescription(layout="NHWC")
    assert images.gradient_picture(np.ones((4, 6, 3)), description).size == (6, 4)
    assert not images.is_signed(np.ones((4, 6, 3)), description)
    assert images.is_signed(np.ones((1, 4, 6)))


# ---- contact sheets --------------------------------------------------------------------------------------------------


def test_small_pictures_are_enlarged_by_whole_pixels() -> None:
    picture = Image.fromarray(levels(28, 28))
    large = images.enlarge(picture)
    assert large.size == (224, 224)
    np.testing.assert_array_equal(np.asarray(large)[::8, ::8], picture)
    assert images.enlarge(Image.new("L", (300, 200))).size == (300, 200)


@pytest.mark.parametrize(
    ("count", "columns", "grid"), [(1, None, (1, 1)), (5, None, (3, 2)), (10, None, (5, 2)), (5, 5, (5, 1)), (4, 3, (3, 2))]
)
def test_a_contact_sheet_is_a_grid(count: int, columns: int | None, grid: tuple[int, int]) -> None:
    tile = Image.new("RGB", (50, 40), "red")
    sheet = images.contact_sheet([(tile, "caption\nof two lines")] * count, columns)
    assert sheet.size == (grid[0] * 62 + 12, grid[1] * (40 + 12 + 2 * 17) + 12)
    pixels = np.asarray(sheet)
    assert (pixels == (255, 0, 0)).all(axis=-1).sum() == count * 50 * 40
    assert (pixels[12:52, 12:62] == (255, 0, 0)).all()


def test_captions_never_leave_their_picture() -> None:
    sheet = images.contact_sheet([(Image.new("RGB", (60, 40), "red"), "a caption far wider than its picture" * 3)])
    pixels = np.asarray(sheet)
    assert (pixels[:, :11] == 255).all()
    assert (pixels[:, -11:] == 255).all()
    assert (pixels[54:, 12:72] < 255).any()


def test_an_empty_contact_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        images.contact_sheet([])


# ---- transparency ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg"])
@pytest.mark.parametrize("description", [GREY, RGB])
def test_what_is_transparent_is_white_where_a_file_cannot_say_so(tmp_path, ending, description):
    shape = (1 if description is GREY else 3, 8, 8)
    picture = images.to_picture(np.full(shape, 0.2), description, alpha=np.zeros((8, 8)))
    path = tmp_path / f"a{ending}"
    images.write(path, picture)
    for read in (Image.open(path), images.stored(picture, ending)):
        assert read.has_transparency_data == (ending != ".jpg")
        assert np.asarray(images.opaque(read)).min() == 255


# ---- what is no image ------------------------------------------------------------------------------------------------


def test_one_mean_and_scale_are_of_inputs_of_any_rank():
    description = ImageDescription(mean=(0.25,), std=(0.5,))
    vectors = np.float32([[0.25, 0.75], [1.25, 0.25]])
    np.testing.assert_array_equal(description.normalize(vectors), np.float32([[0, 1], [2, 0]]))
    np.testing.assert_array_equal(description.denormalize(description.normalize(vectors)), vectors)
