"""One picture file, opened safely: whatever is stored, it comes out as 8-bit RGB or as one line that says why not."""

import contextlib
import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageStat

MAX_PIXELS = 89_478_485  # more is refused before it is decoded: as RGB a quarter of a gigabyte
SUFFIXES = frozenset(
    [".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)

# Pillow warns between one and two times its own limit, which is this one; here the first is refused already.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadPicture(ValueError):
    """One line: why this picture cannot be used."""


@dataclass(frozen=True)
class Facts:
    """What one look at a picture told."""

    width: int
    height: int
    mode: str  # as stored: RGB, L, P, LA, CMYK, I;16, …
    phash: int
    small: bytes  # its thumbnail, see duplicates.py
    spread: float  # standard deviation of the channel that varies most, 0..255; 0: one flat colour


def open_picture(source: Path | str | np.ndarray) -> Image.Image:
    """RGB, upright, on white where it was transparent; of an animation the first frame."""
    return decode(source)[0]


def decode(source: Path | str | np.ndarray) -> tuple[Image.Image, str]:
    """The picture as RGB, and the mode in which it was stored."""
    if isinstance(source, np.ndarray):
        source = _encoded(source)
    try:
        with Image.open(source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadPicture(_too_large(image))
            mode = image.mode
            image.load()
            return _upright(_rgb(image)), mode
    except BadPicture:
        raise
    except Image.DecompressionBombError:
        raise BadPicture(f"a decompression bomb: more than {2 * MAX_PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise BadPicture("not a picture that can be read") from None
    except Exception as error:  # Pillow's decoders raise anything
        raise BadPicture(" ".join(str(error).split())[:200] or type(error).__name__) from None


def digest(source: Path | np.ndarray) -> str:
    """SHA-256 of the file, or of the pixels where there is no file."""
    if isinstance(source, np.ndarray):
        return hashlib.sha256(source.tobytes()).hexdigest()
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spread(image: Image.Image) -> float:
    return max(ImageStat.Stat(image).stddev)


def _encoded(pixels: np.ndarray) -> io.BytesIO:
    """Pixels take the way of a file, so that there is one way only."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=0)
    return file


def _too_large(image: Image.Image) -> str:
    return f"a decompression bomb: {image.width:,} x {image.height:,}, more than {MAX_PIXELS:,} pixels"


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(np.asarray(image))
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.info = image.info  # its EXIF orientation
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bit(pixels: np.ndarray) -> Image.Image:
    """16 bits are scaled by a constant, so that dark stays dark; other ranges from their least to their most."""
    pixels = np.nan_to_num(pixels.astype(np.float32), posinf=0, neginf=0)
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and 255 < high <= 65535:
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    return Image.fromarray(((pixels - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8))


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # broken EXIF data are no reason to lose the picture
        return ImageOps.exif_transpose(image)
    return image
