"""Brings the user's own pictures of digits into the form of MNIST's."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from mnist_lightning.errors import SettingError

FORMATS, ENDINGS = ("PNG", "JPEG", "WEBP", "BMP"), (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SIDE, BOX = 28, 20  # pixels; MNIST's digits fill a box of 20 by 20 in an image of 28 by 28
WORKING_SIDE = 400  # pixels; larger pictures are made smaller first
THINNEST = 2.0  # pixels of the 28; the least width of a stroke, as in MNIST
FAINTEST = 12.0  # of 255; the least difference between ink and ground
SPECK = 0.1  # of the largest patch of ink; smaller ones are dirt


class OwnImages(NamedTuple):
    """What a folder holds."""

    images: Tensor  # uint8 [n, 28, 28], light on dark
    names: list[str]
    skipped: dict[str, str]  # why, by name


def read_images(folder: str) -> OwnImages:
    """Reads the pictures of a folder by name, one digit a file, of any size and colours. What cannot be read is named."""
    images, names, skipped = [], [], {}
    for path in sorted(Path(folder).iterdir()):
        name = path.name.encode(errors="backslashreplace").decode()  # it may be no UTF-8
        if path.suffix.lower() not in ENDINGS and not path.is_dir():
            continue
        try:
            images.append(as_mnist(_colours(path)))
            names.append(name)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            skipped[name] = "is no picture" if isinstance(error, UnidentifiedImageError) else str(error)
    if not images:
        raise SettingError(f"data.images is {folder}, which holds no PNG, JPEG, WebP or BMP file that can be read.")
    return OwnImages(torch.from_numpy(np.stack(images)), names, skipped)


def as_mnist(picture: np.ndarray) -> np.ndarray:
    """Shows the digit of a picture, float [height, width, 3], as MNIST does, uint8 [28, 28].

    It is light on dark, its longer side has 20 pixels, and its centre of mass is in the middle (LeCun, Cortes and Burges,
    "The MNIST database of handwritten digits"). What the edges show is the ground; raises ValueError if nothing stands out.
    """
    ink = _ink(picture)
    mask = _largest_patches(ink > 0.5)
    # Along a stroke, the mean distance to the ground is a quarter of the width.
    width = 4 * ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask].mean()
    ink = np.where(ndimage.binary_dilation(mask, iterations=2), ink, 0)
    if (thicker := round(THINNEST / _scale(mask) - width)) > 0:
        ink = ndimage.grey_dilation(np.pad(ink, thicker), size=(thicker + 1, thicker + 1))
        mask = ink > 0.5
    scale, (rows, columns) = _scale(mask), _extent(mask)
    digit = Image.fromarray(ink[rows, columns].astype(np.float32))
    wide, high = (max(1, round(size * scale)) for size in digit.size)
    way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    small = np.clip(np.asarray(digit.resize((wide, high), way)), 0, 1)
    small = np.clip(small / max(float(np.quantile(small, 0.97)), 0.3 * float(small.max())), 0, 1)
    top, left = (
        int(np.clip(round((SIDE - 1) / 2 - middle), 0, SIDE - size))
        for middle, size in zip(ndimage.center_of_mass(small), small.shape, strict=True)
    )
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + high, left : left + wide] = np.round(255 * small)
    return image


def _colours(path: Path) -> np.ndarray:
    """Reads a picture, [height, width, 3]; turned as its EXIF data say, and with a ground behind transparent parts."""
    with Image.open(path, formats=FORMATS) as file:
        picture = ImageOps.exif_transpose(file) or file
        if picture.mode.startswith("I"):  # 16 bits a pixel
            picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
        picture = picture.convert("RGB").convert("RGBA") if picture.mode == "CMYK" else picture.convert("RGBA")
    picture.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    rgba = np.asarray(picture, np.float32)
    colours, alpha = rgba[:, :, :3], rgba[:, :, 3:] / 255
    if not alpha.any():
        raise ValueError("is wholly transparent")
    ground = 255.0 if np.average(colours.mean(2), weights=alpha[:, :, 0]) < 128 else 0.0
    return alpha * colours + (1 - alpha) * ground


def _ink(picture: np.ndarray) -> np.ndarray:
    """How much ink each pixel has, 0 to 1, by the distance of its colour from the ground's. 0.5 is Otsu's threshold (1979)."""
    if min(picture.shape[:2]) > 3 * SIDE:  # there is room to smooth away grain and JPEG's ripples
        picture = ndimage.median_filter(picture, size=(3, 3, 1))
    away = np.sqrt(((picture - _ground(picture)) ** 2).mean(2))
    if away.max() < FAINTEST:
        raise ValueError("shows nothing that stands out from its ground")
    threshold = _otsu(away)
    full = max(float(np.median(away[away > threshold])), 1.01 * threshold)
    return np.interp(away, [max(0.0, 2 * threshold - full), threshold, full], [0, 0.5, 1])


def _ground(picture: np.ndarray) -> np.ndarray:
    """The colours of the ground, [height, width, 3]: a surface of degree two through the edges, since light falls off."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=2)
    edge = np.ones((height, width), bool)
    edge[1:-1, 1:-1] = False
    values, places = picture[edge], terms[edge]
    off = np.abs(values - np.median(values, axis=0)).mean(1)
    for _ in range(5):  # what is far from the surface is ink that reaches the edge
        near = off <= 2 * np.median(off) + 1
        surface = np.linalg.lstsq(places[near], values[near], rcond=None)[0]
        off = np.abs(values - places @ surface).mean(1)
    return np.clip(terms @ surface, 0, 255)


def _extent(mask: np.ndarray) -> tuple[slice, slice]:
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def _scale(mask: np.ndarray) -> float:
    return BOX / max(side.stop - side.start for side in _extent(mask))


def _otsu(values: np.ndarray) -> float:
    counts, borders = np.histogram(values, 256)
    centres = (borders[:-1] + borders[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    # If no value lies between the two, all thresholds there are equally good, and the middle one is taken.
    best = np.flatnonzero(between >= np.nanmax(between) * (1 - 1e-9))
    return float((borders[best[0] + 1] + borders[best[-1] + 1]) / 2)


def _largest_patches(mask: np.ndarray) -> np.ndarray:
    """Removes specks. A digit may consist of several patches."""
    patches, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = ndimage.sum_labels(mask, patches, range(1, count + 1))
    return np.isin(patches, 1 + np.flatnonzero(sizes >= SPECK * sizes.max()))
