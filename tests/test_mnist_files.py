"""The four files, with small stand-ins whose MD5 the tests put in the place of MNIST's."""

import gzip
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from mnist_lightning.errors import SettingError
from mnist_lightning.sources import mnist_files
from mnist_lightning.sources.mnist_files import MissingFilesError, ensure_files

CONTENT = {name: f"content of {name}".encode() * 50 for name in mnist_files.MD5}
FIRST, *_, LAST = CONTENT


@pytest.fixture(autouse=True)
def small_files_and_no_network(monkeypatch):
    monkeypatch.setattr(mnist_files, "MD5", {name: hashlib.md5(c).hexdigest() for name, c in CONTENT.items()})
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])  # the port of discard: nobody listens


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in CONTENT.items():
        (raw / name).write_bytes(content)
    return raw


@pytest.fixture
def mirror(monkeypatch):
    """A mirror on this machine; the test says how it answers and reads what was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            try:
                self.server.answer(self, gzip.compress(CONTENT[Path(self.path).stem]))
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked, server.over = [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_address[1]}/"])
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(length or len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def contents(raw: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in raw.iterdir()}


def test_good_files_are_left_alone(tmp_path, raw):
    before = contents(raw)
    ensure_files(str(tmp_path))
    assert contents(raw) == before


def test_gzipped_files_are_unpacked_beside_themselves(tmp_path, raw):
    for name, content in CONTENT.items():
        (raw / name).rename(raw / f"{name}.gz")
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    packed = contents(raw)
    ensure_files(str(tmp_path))
    assert contents(raw) == {**packed, **CONTENT}


def test_missing_files_are_fetched(tmp_path, mirror):
    mirror.answer = send
    ensure_files(str(tmp_path))
    assert contents(tmp_path / "MNIST" / "raw") == CONTENT
    assert mirror.asked == [f"/{name}.gz" for name in CONTENT]


@pytest.mark.parametrize(
    "bad",
    [CONTENT[LAST][:-1], b"", b"<html>not found</html>", bytes([CONTENT[LAST][0] ^ 1]) + CONTENT[LAST][1:]],
)
def test_a_damaged_file_is_replaced_by_a_fetched_one(tmp_path, raw, mirror, bad):
    (raw / LAST).write_bytes(bad)
    mirror.answer = send
    ensure_files(str(tmp_path))
    assert contents(raw) == {**CONTENT, f"{LAST}.damaged-0": bad}
    assert mirror.asked == [f"/{LAST}.gz"]


def test_a_damaged_file_without_network_is_named_and_kept(tmp_path, raw):
    (raw / LAST).write_bytes(b"half a file")
    with pytest.raises(SettingError, match=f"{LAST} is damaged .11 bytes.*fetched again.*put a good copy") as error:
        ensure_files(str(tmp_path))
    assert not isinstance(error.value, MissingFilesError)
    assert "\n" not in str(error.value)
    assert contents(raw) == {**CONTENT, LAST: b"half a file"}


def test_images_and_labels_that_are_swapped_are_named_and_kept(tmp_path, raw):
    swapped = {FIRST: CONTENT[LAST], LAST: CONTENT[FIRST]}
    for name, content in swapped.items():
        (raw / name).write_bytes(content)
    with pytest.raises(SettingError, match=f"{FIRST} is damaged"):
        ensure_files(str(tmp_path))
    assert contents(raw) == {**CONTENT, **swapped}


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_error_page_under_a_files_name_is_named_and_kept(tmp_path, raw, suffix):
    page = b"<!DOCTYPE html><title>404 Not Found</title>"
    (raw / LAST).unlink()
    (raw / f"{LAST}{suffix}").write_bytes(page)
    with pytest.raises(SettingError, match=f"{LAST}{suffix} is damaged"):
        ensure_files(str(tmp_path))
    assert contents(raw)[f"{LAST}{suffix}"] == page


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users as Unix has them")
def test_a_folder_without_permission_is_named(tmp_path, raw):
    raw.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # nothing is closed to root
    try:
        with pytest.raises(SettingError, match=f"data.data_dir {tmp_path}.*Permission denied"):
            ensure_files(str(tmp_path))
    finally:
        os.seteuid(user)
        raw.chmod(0o755)
    assert contents(raw) == CONTENT


def test_a_gz_cut_short_is_named_and_kept(tmp_path, raw):
    packed = gzip.compress(CONTENT[LAST])[:-9]
    (raw / LAST).unlink()
    (raw / f"{LAST}.gz").write_bytes(packed)
    with pytest.raises(SettingError, match=f"{LAST}.gz is damaged") as error:
        ensure_files(str(tmp_path))
    assert not isinstance(error.value, MissingFilesError)
    assert contents(raw)[f"{LAST}.gz"] == packed


def test_missing_files_without_network_are_named(tmp_path):
    with pytest.raises(MissingFilesError, match=f"{FIRST} is missing.*put the four MNIST files there"):
        ensure_files(str(tmp_path))
    assert list((tmp_path / "MNIST" / "raw").iterdir()) == []


def refuse(handler, body):
    handler.send_error(404)


def other_bytes(handler, body):
    send(handler, gzip.compress(b"other"))


def cut_short(handler, body):
    send(handler, body[:-5], len(body))


def stay_silent(handler, body):
    handler.server.over.wait()


def talk_nonsense(handler, body):
    handler.wfile.write(b"nonsense\r\n\r\n")


def count_wrongly(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", "many")
    handler.end_headers()


def trickle(handler, body):
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.over.wait(0.1):
        handler.wfile.write(b"0")


@pytest.mark.parametrize("answer", [refuse, other_bytes, cut_short, stay_silent, talk_nonsense, count_wrongly, trickle])
def test_a_bad_mirror_costs_bounded_time_and_no_file(tmp_path, raw, mirror, monkeypatch, answer):
    monkeypatch.setattr(mnist_files, "ANSWER_WITHIN", 0.5)
    monkeypatch.setattr(mnist_files, "FETCH_WITHIN", 1)
    (raw / FIRST).unlink()
    mirror.answer = answer
    minute = threading.Timer(60, mirror.over.set)  # a slow mirror would go on for so long
    minute.daemon = True
    minute.start()
    with pytest.raises(MissingFilesError, match=f"{FIRST} is missing"):
        ensure_files(str(tmp_path))
    assert not mirror.over.is_set()
    minute.cancel()
    assert contents(raw) == {name: content for name, content in CONTENT.items() if name != FIRST}


def test_a_dead_mirror_is_asked_once_and_the_next_one_answers(tmp_path, mirror, monkeypatch):
    mirror.answer = send
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", *MNIST.mirrors])
    ensure_files(str(tmp_path))
    assert contents(tmp_path / "MNIST" / "raw") == CONTENT


def test_files_that_torchvision_would_read_instead_are_named(tmp_path, raw):
    (raw.parent / "processed").mkdir()
    (raw.parent / "processed" / "training.pt").write_bytes(b"unchecked")
    with pytest.raises(SettingError, match="processed is there.*move it away"):
        ensure_files(str(tmp_path))


def test_a_data_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(SettingError, match=f"data.data_dir {tmp_path / 'data'}"):
        ensure_files(str(tmp_path / "data"))
