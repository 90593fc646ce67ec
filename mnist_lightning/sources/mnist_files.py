"""Makes sure that the four MNIST files are there and are MNIST."""

import gzip
import hashlib
import socket
import zlib
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock
from torchvision.datasets import MNIST

from mnist_lightning.errors import SettingError
from mnist_lightning.run_files import LOCK, write_whole

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
ANSWER_WITHIN = 10.0  # seconds a mirror may stay silent


class MissingFilesError(SettingError):
    """Files are not there and cannot be fetched."""


def ensure_files(data_dir: str) -> None:
    """Unpacks what is missing in `MNIST/raw/` from a .gz beside it, or lets torchvision fetch it; other files are an error."""
    raw = Path(data_dir) / "MNIST" / "raw"
    if any((raw.parent / "processed").glob("*.pt")):
        raise SettingError(f"data.data_dir {data_dir}: torchvision would read {raw.parent}/processed: move it away.")
    with suppress(SettingError):  # a file may look damaged while another process unpacks it
        if _checked(raw):
            return
    raw.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    with FileLock(raw / LOCK):
        for name, md5 in MD5.items():  # torchvision takes a .gz with its own MD5 only
            with suppress(OSError, EOFError, zlib.error):
                content = gzip.decompress((raw / f"{name}.gz").read_bytes())
                if not (raw / name).exists() and _md5(content) == md5:
                    write_whole(raw / name, content)
        if _checked(raw):
            return
        socket.setdefaulttimeout(ANSWER_WITHIN)
        try:
            MNIST(data_dir, download=True)
        except (RuntimeError, HTTPException, TimeoutError, ConnectionError) as error:
            raise MissingFilesError(
                f"data.data_dir {data_dir}: the four MNIST files are not in {raw} and cannot be fetched ({error})"
            ) from error
        finally:
            socket.setdefaulttimeout(before)
        _checked(raw)


def _checked(raw: Path) -> bool:
    """Whether all files are there; raises SettingError if one is damaged."""
    there = [name for name in MD5 if (raw / name).exists()]
    for name in there:
        if _md5((raw / name).read_bytes()) != MD5[name]:
            raise SettingError(f"data.data_dir: {raw / name} is damaged, or not MNIST's: remove it, or mend it.")
    return len(there) == len(MD5)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
