"""One's own pictures of digits: read, brought into MNIST's form, classified."""

import csv
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PROJECT, QUICK, SMALL, spawn
from handmade import draw, write_all
from PIL import Image, ImageOps
from scipy import ndimage

from mnist_lightning.errors import SettingError
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.sources.own_images import as_mnist, read_images


def seen(folder: Path, picture: Image.Image, name: str = "picture.png", **how: object) -> np.ndarray:
    """A picture as it comes out of its file, [28, 28]."""
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / name, **how)
    own = read_images(str(folder))
    return own.images[own.names.index(name)].numpy()


def test_a_digit_fills_the_box_and_its_mass_is_in_the_middle():
    for digit in range(10):
        image = as_mnist(np.asarray(draw(digit, place=(0.4, 0.6)), np.float32))
        assert (image.shape, image.dtype) == ((28, 28), np.uint8)
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        assert np.abs(np.array(ndimage.center_of_mass(image)) - 13.5).max() <= 0.5
        assert image.max() == 255


def test_what_is_drawn_is_seen_whatever_its_colours(tmp_path):
    black = seen(tmp_path / "black", draw(4))
    white = seen(tmp_path / "white", ImageOps.invert(draw(4)))
    clear = seen(tmp_path / "clear", draw(4, ink=(0, 0, 0, 255), ground=(0, 0, 0, 0)))
    palette = seen(tmp_path / "palette", draw(4, ink=(200, 0, 0), ground=(0, 0, 200)).quantize(32))
    deep = Image.fromarray(np.asarray(draw(4).convert("L")).astype(np.uint16) * 257)
    assert np.array_equal(black, white)
    for other in (clear, palette, seen(tmp_path / "deep", deep)):
        assert np.abs(black.astype(int) - other).mean() < 4
    moved = seen(tmp_path / "moved", draw(4, place=(0.6, 0.55)))
    assert np.abs(black.astype(int) - moved).mean() < 8
    assert (black > 127).mean() == pytest.approx(0.1, abs=0.05)


def test_other_formats_show_the_same_digit(tmp_path):
    png = seen(tmp_path, draw(4))
    assert np.array_equal(seen(tmp_path, draw(4), "picture.bmp"), png)
    assert np.array_equal(seen(tmp_path, draw(4), "picture.WEBP", lossless=True), png)


def test_a_turned_camera_is_turned_back(tmp_path):
    upright = seen(tmp_path, draw(7), "upright.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn clockwise
    back = seen(tmp_path, draw(7).rotate(90, expand=True), "turned.png", exif=turned)
    assert np.array_equal(back, upright)


def test_dirt_is_no_part_of_the_digit():
    picture = np.asarray(draw(1), np.float32).copy()
    clean = as_mnist(picture)
    picture[10:14, 10:14] = 0
    assert np.array_equal(as_mnist(picture), clean)


def bomb(path: Path) -> None:
    """A PNG file of some bytes that says it is 100,000 pixels wide and high."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))))


def test_what_cannot_be_read_is_skipped_and_told(tmp_path):
    draw(3).save(tmp_path / "good.PNG")
    whole = tmp_path / "good.PNG"
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    Image.new("RGB", (50, 50), (9, 9, 9)).save(tmp_path / "empty.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    bomb(tmp_path / "bomb.png")
    (tmp_path / "folder.png").mkdir()
    own = read_images(str(tmp_path))
    assert own.names == ["good.PNG"]
    bad = {"cut.png", "text.jpg", "empty.png", "clear.png", "bomb.png", "folder.png"}
    assert set(own.skipped) == bad
    assert own.skipped["text.jpg"] == "is no picture"
    assert own.skipped["folder.png"] == "is a folder, and folders in a folder are not read"
    assert "stands out" in own.skipped["empty.png"]
    assert "pixels" in own.skipped["bomb.png"]


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(SettingError, match=r"data\.images is .*which holds no PNG, JPEG, WebP or BMP file"):
        read_images(str(tmp_path))
    with pytest.raises(SettingError, match=r"data\.images is .*cannot be read"):
        read_images(str(tmp_path / "absent"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(SettingError, match="of which no file can be read"):
        read_images(str(tmp_path))


def test_predict_writes_a_table_and_a_sheet(command, tmp_path, capsys):
    assert command("fit", *QUICK, "--trainer.max_epochs=1", "--trainer.accelerator=cpu") == 0
    checkpoint = next(tmp_path.glob("logs/*/*/*/*/checkpoints/last.ckpt"))
    mine = tmp_path / "mine"
    mine.mkdir()
    for digit in (3, 1, 2):
        draw(digit).save(mine / f"{digit}.png")
    (mine / "x.png").write_text("")
    capsys.readouterr()
    # Neither MNIST nor its sample is read.
    options = ["--ckpt_path", checkpoint, "--data.images", mine, "--data.data_dir", tmp_path / "absent"]
    assert command("predict", *options, "--predictions.path=out/mine.csv", "--trainer.accelerator=cpu") == 0
    said = capsys.readouterr()
    assert "skipped      x.png: is no picture" in said.err
    assert said.out.splitlines()[-2:] == ["predictions  out/mine.csv", "sheet        out/mine.png"]
    with open("out/mine.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["1.png", "2.png", "3.png"]
    assert list(rows[0]) == ["file", "prediction", "probability"]
    network = MNISTClassifier.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    with torch.no_grad():
        probability, digit = network(read_images(str(mine)).images).softmax(1).max(1)
    assert [int(row["prediction"]) for row in rows] == digit.tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(probability.tolist(), abs=1e-5)
    with Image.open("out/mine.png") as sheet:
        assert sheet.size == (3 * 120, 128)

    for name in ("fit", "test"):
        options = ["--ckpt_path", checkpoint] if name == "test" else []
        assert command(name, *SMALL, *options, "--data.images", mine) == 2
        assert f"but {name} reads MNIST: leave it out" in capsys.readouterr().err
    predict = ["predict", "--ckpt_path", checkpoint, "--data.images", mine]
    for place, words in (
        (mine / "7.csv", "its sheet would be one of the pictures"),
        ("out.png", "name a .csv"),
    ):
        assert command(*predict, "--predictions.path", place) == 2
        assert words in capsys.readouterr().err
    assert sorted(os.listdir(mine)) == ["1.png", "2.png", "3.png", "x.png"]
    (tmp_path / "none").mkdir()
    assert command("predict", "--ckpt_path", checkpoint, "--data.images=none") == 2
    assert "holds no PNG, JPEG, WebP or BMP" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trained_network_reads_handmade_digits(tmp_path, mnist_dir):
    """24 pictures drawn with splines: sizes from 40 to 1,600 pixels, colours, JPEG's noise, EXIF turns, shadows."""
    fast = PROJECT / "configs" / "fast.yaml"
    options = ["--data.data_dir", mnist_dir, "--data.source=mnist", "--data.batch_size=64", "--config", fast]
    trained = spawn(tmp_path, "fit", *options, "--trainer.accelerator=cpu", timeout=1500)
    assert trained.returncode == 0, trained.stderr
    (last,) = tmp_path.glob("logs/*/*/*/*/checkpoints/last.ckpt")
    digits = write_all(tmp_path / "mine")
    assert len(digits) == 24
    done = spawn(tmp_path, "predict", "--ckpt_path", last, "--data.images=mine")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "predictions.csv").open(newline="") as file:
        taken_for = {row["file"]: int(row["prediction"]) for row in csv.DictReader(file)}
    wrong = {name: digit for name, digit in taken_for.items() if digit != digits[name]}
    assert len(taken_for) == 24 and len(wrong) <= 2, wrong


def test_a_name_that_is_no_utf_8_can_be_printed(tmp_path):
    draw(3).save(tmp_path / "3.png")
    os.rename(tmp_path / "3.png", os.path.join(os.fsencode(tmp_path), b"\xff3.png"))
    os.mkdir(os.path.join(os.fsencode(tmp_path), b"\xfe"))
    found = read_images(str(tmp_path))
    assert found.names == ["\\udcff3.png"] and list(found.skipped) == ["\\udcfe"]
