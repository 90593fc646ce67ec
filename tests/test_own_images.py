"""One's own pictures of digits: read, brought into MNIST's form, classified."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PROJECT, spawn
from handmade import draw, vignetted, write_all
from lightning.pytorch import Trainer
from PIL import Image, ImageOps
from scipy import ndimage

from mnist_lightning.data import MNISTDataModule
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.sources.own_images import as_mnist, read_images


def seen(folder: Path, picture: Image.Image, name: str = "picture.png", **how: object) -> np.ndarray:
    """A picture as it comes out of its file, [28, 28]."""
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
    black = seen(tmp_path, draw(4))
    clear = draw(4, ink=(0, 0, 0, 255), ground=(0, 0, 0, 0))
    palette = draw(4, ink=(200, 0, 0), ground=(0, 0, 200)).quantize(32)
    deep = Image.fromarray(np.asarray(draw(4).convert("L")).astype(np.uint16) * 257)
    assert np.array_equal(seen(tmp_path, ImageOps.invert(draw(4))), black)
    for other, most in ((clear, 4), (palette, 4), (deep, 4), (draw(4, place=(0.6, 0.55)), 8)):
        assert np.abs(black.astype(int) - seen(tmp_path, other)).mean() < most
    assert (black > 127).mean() == pytest.approx(0.1, abs=0.05)


def test_neither_the_format_nor_a_turned_camera_nor_dirt_changes_the_digit(tmp_path):
    upright = seen(tmp_path, draw(7))
    turned, dirty = Image.Exif(), draw(7)
    turned[0x0112] = 6  # shown after a quarter turn clockwise
    dirty.paste((0, 0, 0), (10, 10, 14, 14))
    assert np.array_equal(seen(tmp_path, draw(7), "picture.bmp"), upright)
    assert np.array_equal(seen(tmp_path, draw(7), "picture.WEBP", lossless=True), upright)
    assert np.array_equal(seen(tmp_path, draw(7).rotate(90, expand=True), "turned.png", exif=turned), upright)
    assert np.array_equal(seen(tmp_path, dirty, "dirty.png"), upright)


def test_light_that_falls_off_towards_the_corners_does_not_hide_the_digit():
    for digit in range(10):
        page = draw(digit, slant=0.1)
        light, dark = (as_mnist(np.asarray(each, np.float32)).astype(int) for each in (page, vignetted(page, 100)))
        # Its centre of mass may have moved into another pixel.
        moved = (np.roll(dark, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1))
        assert min(np.abs(light - each).mean() for each in moved) < 8, digit


def test_what_cannot_be_read_is_skipped_and_told(tmp_path):
    draw(3).save(tmp_path / "good.PNG")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.PNG").read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    Image.new("RGB", (50, 50), (9, 9, 9)).save(tmp_path / "empty.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    bomb = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)  # pixels that a small file may promise
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + bomb + struct.pack(">I", zlib.crc32(bomb)) + b"\0\0\0\0IDAT"
    (tmp_path / "bomb.png").write_bytes(bomb)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder").mkdir()
    os.link(tmp_path / "good.PNG", os.path.join(os.fsencode(tmp_path), b"\xff3.png"))
    own = read_images(str(tmp_path))
    assert own.names == ["good.PNG", "\\udcff3.png"]  # a name that is no UTF-8 can be printed
    assert torch.equal(*own.images)
    bad = {"cut.png", "empty.png", "clear.png", "bomb.png", "folder.png", "folder", "text.jpg"}
    assert own.skipped.keys() == bad and own.skipped["text.jpg"] == "is no picture"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a checkpoint, and pictures of 1, 2 and 3 in the folder `mine`."""
    folder = tmp_path_factory.mktemp("trained")
    plain = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    trainer = Trainer(accelerator="cpu", max_epochs=1, **plain)
    trainer.fit(MNISTClassifier(hidden=16, compile=False), MNISTDataModule(source="sample", batch_size=480))
    trainer.save_checkpoint(folder / "last.ckpt")
    (folder / "mine").mkdir()
    for digit in (3, 1, 2):
        draw(digit).save(folder / "mine" / f"{digit}.png")
    return folder


def test_predict_writes_a_table_and_a_sheet(command, monkeypatch, trained, capsys):
    monkeypatch.chdir(trained)
    # Neither MNIST nor its sample is read.
    options = ["--ckpt_path=last.ckpt", "--data.images=mine", "--data.data_dir=absent", "--trainer.accelerator=cpu"]
    assert command("predict", *options, "--predictions.path=out/mine.csv") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["predictions  out/mine.csv", "sheet        out/mine.png"]
    table, own = pd.read_csv("out/mine.csv"), read_images("mine")
    network = MNISTClassifier.load_from_checkpoint("last.ckpt", map_location="cpu").eval()
    with torch.no_grad():
        probability, digit = network(own.images).softmax(1).max(1)
    assert list(table) == ["file", "prediction", "probability"]
    assert (list(table["file"]), list(table["prediction"])) == (["1.png", "2.png", "3.png"], digit.tolist())
    assert list(table["probability"]) == pytest.approx(probability.tolist(), abs=1e-5)
    with Image.open("out/mine.png") as sheet:
        assert 70 < sheet.height < 200 < sheet.width < 2000  # one row
    assert sorted(os.listdir("mine")) == ["1.png", "2.png", "3.png"]


CHECKPOINT = "--ckpt_path=last.ckpt --data.source=sample"


@pytest.mark.parametrize(
    ("words", "named", "code"),
    [
        ("fit --data.source=sample --data.images=mine", "data.images", 2),
        (f"test {CHECKPOINT} --data.images=mine", "data.images", 2),
        (f"predict {CHECKPOINT} --data.images=empty", "data.images", 2),
        (f"predict {CHECKPOINT} --data.images=absent", "absent", 1),
        (f"predict {CHECKPOINT} --data.images=mine --predictions.path=mine/7.csv", "data.images", 2),
    ],
)
def test_a_folder_or_a_file_that_is_not_for_this_is_named(command, monkeypatch, trained, capsys, words, named, code):
    monkeypatch.chdir(trained)
    Path("empty").mkdir(exist_ok=True)
    before = sorted(Path().rglob("*"))
    assert command(*words.split()) == code
    assert named in capsys.readouterr().err.splitlines()[-1]
    assert sorted(Path().rglob("*")) == before


@pytest.mark.slow
def test_a_trained_network_reads_handmade_digits(tmp_path, mnist_dir):
    """Pictures drawn with splines: sizes from 40 to 1,600 pixels, colours, JPEG's noise, EXIF turns, shadows, a lamp."""
    options = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--data.data_dir", mnist_dir]
    trained = spawn(tmp_path, "fit", *options, "--config", PROJECT / "configs" / "fast.yaml", timeout=1500)
    assert trained.returncode == 0, trained.stderr
    (last,) = tmp_path.glob("logs/*/*/checkpoints/last.ckpt")
    digits = write_all(tmp_path / "mine")
    for digit in range(10):
        vignetted(draw(digit, pen=0.12), 100).save(tmp_path / "mine" / f"{digit}-lamp.png")
        digits[f"{digit}-lamp.png"] = digit
    done = spawn(tmp_path, "predict", "--ckpt_path", last, "--data.images=mine")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "predictions.csv")
    taken_for = dict(zip(table["file"], table["prediction"], strict=True))
    assert taken_for == digits and len(digits) == 34
