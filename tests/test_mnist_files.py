"""The four files of MNIST, with small stand-ins whose MD5 the tests put in the place of MNIST's."""

import gzip
import hashlib
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from filelock import FileLock
from torchvision.datasets import MNIST

from mnist_lightning.errors import SettingError
from mnist_lightning.sources import mnist_files
from mnist_lightning.sources.mnist_files import MissingFilesError, ensure_files

IMAGES, LABELS = struct.pack(">IIII", 2051, 3, 28, 28) + bytes(3 * 784), struct.pack(">II", 2049, 3) + bytes(3)
CONTENT = {name: (IMAGES if "images" in name else LABELS)[:-1] + bytes([n]) for n, name in enumerate(mnist_files.MD5)}
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in CONTENT.items()}
FIRST, *_, LAST = CONTENT


@pytest.fixture(autouse=True)
def raw(tmp_path, monkeypatch):
    """The folder of the four files, on a machine without a network."""
    monkeypatch.setattr(mnist_files, "MD5", {name: hashlib.md5(c).hexdigest() for name, c in CONTENT.items()})
    monkeypatch.setattr(MNIST, "resources", [(name, hashlib.md5(c).hexdigest()) for name, c in PACKED.items()])
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # the port of discard: nobody listens
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    return raw


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """The folder that a mirror on this machine serves, behind one that does not answer to any name."""
    (tmp_path / "mirror").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "mirror")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [*MNIST.mirrors, f"http://127.0.0.1:{server.server_port}/"])
        yield tmp_path / "mirror"
        server.shutdown()


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize("where", ["raw", "mirror"])
def test_missing_files_are_unpacked_or_fetched_from_the_mirror_that_has_them(tmp_path, raw, mirror, where):
    write(raw if where == "raw" else mirror, PACKED)
    ensure_files(str(tmp_path))
    assert contents(raw) == PACKED | CONTENT
    raw.joinpath(".lock").unlink(missing_ok=True)
    ensure_files(str(tmp_path))  # where all are good, nothing is written
    assert not raw.joinpath(".lock").exists()


@pytest.mark.parametrize("bad", [CONTENT[LAST][:-1], b"", b"<html>not found</html>", CONTENT[FIRST]])
def test_a_damaged_file_is_named_and_kept_though_a_mirror_has_a_good_one(tmp_path, raw, mirror, bad):
    write(mirror, PACKED)
    write(raw, {**CONTENT, LAST: bad})
    with pytest.raises(SettingError, match=f"data.data_dir.*{LAST} is damaged") as error:
        ensure_files(str(tmp_path))
    assert not isinstance(error.value, MissingFilesError)  # for which `auto` would take the sample
    assert contents(raw) == {**CONTENT, LAST: bad}


def test_a_file_that_another_process_unpacks_is_waited_for(tmp_path, raw):
    with ThreadPoolExecutor() as pool, FileLock(raw / ".lock"):
        write(raw, {**CONTENT, LAST: b"half of the fi"})
        waits = pool.submit(ensure_files, str(tmp_path))
        time.sleep(0.3)
        write(raw, CONTENT)
    assert waits.result() is None


@pytest.mark.parametrize("served", [{}, dict.fromkeys(PACKED, gzip.compress(b"other"))])
def test_where_no_mirror_has_a_file_the_missing_ones_are_named(tmp_path, raw, mirror, served):
    write(mirror, served)
    write(raw, {FIRST: CONTENT[FIRST]})
    with pytest.raises(MissingFilesError, match=f"data.data_dir {tmp_path}.*cannot be fetched"):
        ensure_files(str(tmp_path))
    assert contents(raw).keys() & CONTENT == {FIRST}


def test_a_mirror_that_hangs_costs_as_long_as_it_may_stay_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_files, "ANSWER_WITHIN", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        begin = time.monotonic()
        with pytest.raises(MissingFilesError):
            ensure_files(str(tmp_path))
        assert 0.4 < time.monotonic() - begin < 5
    assert socket.getdefaulttimeout() is None


def test_files_that_torchvision_would_read_instead_are_refused(tmp_path, raw):
    write(raw, CONTENT)
    (raw.parent / "processed").mkdir()
    write(raw.parent / "processed", {"training.pt": b"unchecked"})
    with pytest.raises(SettingError, match="data.data_dir.*processed"):
        ensure_files(str(tmp_path))
