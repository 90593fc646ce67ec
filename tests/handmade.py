"""Digits drawn with a pen of Pillow's along splines: other people's handwriting, scanned, painted or photographed."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import make_interp_spline

Stroke = Sequence[tuple[float, float]]  # points of a spline in a box of 1 by 1, y downwards

HANDS: dict[int, list[Stroke]] = {
    0: [[(0.5, 0), (0.17, 0.25), (0.15, 0.7), (0.5, 1), (0.84, 0.7), (0.82, 0.25), (0.5, 0)]],
    1: [[(0.53, 0), (0.5, 0.5), (0.47, 1)]],
    2: [[(0.12, 0.28), (0.27, 0.06), (0.55, 0), (0.82, 0.16), (0.78, 0.42), (0.5, 0.7), (0.1, 1)], [(0.1, 1), (0.9, 0.97)]],
    3: [[(0.15, 0.12), (0.5, 0), (0.82, 0.2), (0.7, 0.4), (0.42, 0.47)], [(0.42, 0.47), (0.8, 0.58), (0.83, 0.82), (0.5, 1), (0.12, 0.88)]],
    4: [[(0.28, 0), (0.15, 0.55)], [(0.15, 0.55), (0.9, 0.5)], [(0.72, 0.05), (0.62, 1)]],
    5: [[(0.82, 0), (0.27, 0.02)], [(0.27, 0.02), (0.2, 0.42)], [(0.2, 0.42), (0.55, 0.36), (0.85, 0.6), (0.65, 0.93), (0.15, 0.93)]],
    6: [[(0.68, 0), (0.35, 0.3), (0.18, 0.7), (0.4, 1), (0.75, 0.88), (0.72, 0.62), (0.42, 0.56), (0.2, 0.75)]],
    7: [[(0.1, 0.03), (0.85, 0.02)], [(0.85, 0.02), (0.58, 0.5), (0.42, 1)]],
    8: [[(0.78, 0.14), (0.5, 0), (0.22, 0.2), (0.5, 0.46), (0.8, 0.76), (0.5, 1), (0.2, 0.78), (0.5, 0.46), (0.8, 0.22), (0.78, 0.14)]],
    9: [[(0.78, 0.2), (0.5, 0), (0.2, 0.2), (0.33, 0.46), (0.65, 0.42), (0.78, 0.2)], [(0.78, 0.2), (0.72, 0.6), (0.6, 1)]],
}  # fmt: skip


def draw(digit, size=(200, 200), pen=0.1, ink=(0, 0, 0), ground=(255,) * 3, slant=0.0, place=(0.5, 0.5), share=0.6):
    """A picture of a digit; size in pixels, place and share (its height) of the picture, pen and slant of its height."""
    fine = 4  # drawn larger and shrunk, for smooth edges
    picture = Image.new("RGBA" if len(ground) == 4 else "RGB", (size[0] * fine, size[1] * fine), ground)
    canvas = ImageDraw.Draw(picture)
    high = share * min(size) * fine
    wide, radius = 0.7 * high, pen * high / 2
    for stroke in HANDS[digit]:
        points = np.array(stroke)
        spline = make_interp_spline(range(len(points)), points, k=min(3, len(points) - 1))
        for x, y in spline(np.linspace(0, len(points) - 1, 60 * len(points))):
            x = place[0] * size[0] * fine + (x - 0.5) * wide + (0.5 - y) * slant * high
            y = place[1] * size[1] * fine + (y - 0.5) * high
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return picture.resize(size, Image.Resampling.BOX)


def uneven(picture: Image.Image, grain: float, shade: float) -> Image.Image:
    """As a camera sees it: darker towards one corner by a share, and grainy by so many of 255."""
    pixels = np.asarray(picture, np.float32)
    height, width = pixels.shape[:2]
    dark = 1 - shade * np.add.outer(np.linspace(0, 0.5, height), np.linspace(0, 0.5, width))
    noise = np.random.default_rng(0).normal(0, grain, (height, width, 1))
    return Image.fromarray((pixels * dark[:, :, None] + noise).clip(0, 255).astype(np.uint8))


def vignetted(picture: Image.Image, levels: float) -> Image.Image:
    """Darker towards all corners, by so many of 255 there, as under a lamp."""
    pixels = np.asarray(picture, np.float32)
    y, x = (np.linspace(-1, 1, side) for side in pixels.shape[:2])
    dark = levels / 2 * np.add.outer(y**2, x**2)
    return Image.fromarray((pixels - dark[:, :, None]).clip(0, 255).astype(np.uint8))


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """With JPEG's noise."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def write_all(folder: Path) -> dict[str, int]:
    """24 pictures: the digits they show by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    digits: dict[str, int] = {}

    def save(digit: int, name: str, picture: Image.Image, **how: object) -> None:
        picture.save(folder / name, **how)
        digits[name] = digit

    for digit in range(10):
        save(digit, f"{digit}-on-paper.png", draw(digit, pen=0.09 + 0.006 * digit, slant=0.02 * digit))
    blue, sand, chalk, board = (30, 50, 160), (222, 205, 170), (235, 235, 225), (38, 72, 56)
    save(0, "small.png", draw(0, size=(40, 40), pen=0.12))
    save(1, "wide.png", draw(1, size=(640, 120), pen=0.12, slant=0.15))
    save(2, "chalk.jpg", uneven(draw(2, (900, 700), 0.11, chalk, board), 6, 0.3), quality=60)
    save(3, "photo.jpeg", uneven(draw(3, (1200, 1600), 0.1, blue, sand), 8, 0.35), quality=40)
    save(4, "corner.png", draw(4, (500, 400), 0.13, place=(0.2, 0.75), share=0.35))
    save(5, "noisy.jpg", as_jpeg(draw(5, (160, 160), 0.12), 8), quality=12)
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn clockwise
    save(6, "turned.jpg", draw(6, (600, 800), 0.12, blue, sand).rotate(90, expand=True), exif=turned)
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    save(7, "upside-down.jpg", draw(7, (400, 300), 0.12).rotate(180), exif=upside_down)
    save(8, "clear.png", draw(8, (300, 300), 0.12, (0, 0, 0, 255), (0, 0, 0, 0)))
    save(9, "clear-white.png", draw(9, (300, 300), 0.12, (255, 255, 255, 255), (255, 255, 255, 0)))
    save(2, "grey.png", draw(2, (256, 256), 0.12, (20, 20, 20), (120, 120, 120)).convert("L"))
    save(3, "palette.png", draw(3, (256, 256), 0.12, (200, 30, 30), (250, 250, 90)).quantize(8))
    save(5, "neon.png", draw(5, (256, 256), 0.12, (90, 255, 90), (10, 10, 40), slant=0.1))
    save(7, "thin.png", draw(7, (1000, 1000), 0.02, (60, 60, 60)))
    return digits
