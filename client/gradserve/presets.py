"""Settings of ascents as others have published them: `client.ascend(..., **presets.lucid(224))`."""

from gradserve.ascents import AscentSettings, Noise
from gradserve.optimizers import Adam
from gradserve.parameterizations import IMAGENET_COLOURS, Fourier
from gradserve.transforms import LUCID, Crop

__all__ = ["lucid"]


def lucid(height: int, width: int | None = None, channels: int = 3) -> AscentSettings:
    """Lucid's feature visualization (optvis/render.py, optvis/transform.py): spectrum, colours, transforms, Adam.

    One thing differs: each image of a batch draws its own transforms.

    Args:
        height: Of the model's input.
        width: Of the model's input; by default the same.
        channels: Of the model's input; only three are mixed as the colours of photographs are.
    """
    return {
        "parameterization": Fourier() if channels == len(IMAGENET_COLOURS) else Fourier(colours=()),
        "start": Noise(0.01),
        # The last one makes the result as large as the model's input, as Lucid's recipes do.
        "transforms": (*LUCID, Crop(height, width or height, fill=0.0)),
        "resample_each": True,
        "optimizer": Adam(0.05, epsilon_hat=True),
        "steps": 512,
    }
