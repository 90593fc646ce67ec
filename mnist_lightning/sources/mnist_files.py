"""Makes sure that the four MNIST files are there and are MNIST."""

import errno
import gzip
import hashlib
import os
import tempfile
import time
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import MNIST
from tqdm import tqdm

from mnist_lightning.durability.locks import alone_in
from mnist_lightning.errors import SettingError

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
LARGEST_FILE = 47_040_016  # bytes, unpacked
ANSWER_WITHIN = 10  # seconds a mirror may stay silent
FETCH_WITHIN = 300  # seconds a file may take
JUDGED_AFTER = 20  # seconds, from when on a file must be on its way to that
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # the disk's fault, not the mirror's


class MissingFilesError(SettingError):
    """Files are not there and cannot be fetched; none that is there is damaged."""


def ensure_files(data_dir: str) -> None:
    """Checks each file by MD5; one that is missing or damaged is unpacked from its .gz beside it, or fetched.

    A damaged file stays where it is until a good copy replaces it.

    Args:
        data_dir: Folder that holds `MNIST/raw/`, where torchvision reads the files.

    Raises:
        MissingFilesError: If files are missing and cannot be fetched.
        SettingError: If a file is damaged and cannot be fetched again, or torchvision would read others.
    """
    raw = Path(data_dir) / "MNIST" / "raw"
    legacy = raw.parent / "processed"
    try:
        if any(legacy.glob("*.pt")):
            raise SettingError(
                f"{legacy} is there, which torchvision reads unchecked and in the place of {raw}: "
                f"move it away (data.data_dir is {data_dir})."
            )
        if not any(_fault(raw / name, md5) for name, md5 in MD5.items()):
            return
        raw.mkdir(parents=True, exist_ok=True)
        with alone_in(raw):
            damaged, missing = _mend(raw)
    except OSError as error:
        raise SettingError(
            f"data.data_dir {data_dir}: {error.filename or raw}: {error.strerror or error}; "
            "make it readable and writable, or name another folder."
        ) from error
    if damaged:
        raise SettingError(f"{damaged[0]}: put a good copy there, or move it away (data.data_dir is {data_dir}).")
    if missing:
        raise MissingFilesError(
            f"{missing[0]}: put the four MNIST files there, gzipped or not (data.data_dir is {data_dir})."
        )


def _mend(raw: Path) -> tuple[list[str], list[str]]:
    """Unpacks or fetches what is not there or not right; says of what is damaged still, and of what is missing."""
    mirrors = list(MNIST.mirrors)
    damaged, missing = [], []
    for name, md5 in MD5.items():
        fault = _fault(raw / name, md5)
        if not fault:
            continue
        packed = raw / f"{name}.gz"
        packed_fault = _unpack(packed, raw / name, md5)
        if not packed_fault:
            continue
        failure = _fetch(name, md5, raw, mirrors)
        if not failure:
            continue
        faults = [f"{path} {f}" for path, f in ((raw / name, fault), (packed, packed_fault)) if f != "is missing"]
        if faults:
            damaged.append(f"{' and '.join(faults)}, and could not be fetched again ({failure})")
        else:
            missing.append(f"{raw / name} is missing and could not be fetched ({failure})")
    return damaged, missing


def _fault(path: Path, md5: str) -> str:
    """What is wrong with a file, or nothing."""
    if not path.exists():
        return "is missing"
    if path.stat().st_size > LARGEST_FILE:
        return f"is not MNIST's file ({path.stat().st_size:,} bytes)"
    return _content_fault(path.read_bytes(), md5)


def _content_fault(content: bytes, md5: str) -> str:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return "" if found == md5 else f"is damaged ({len(content):,} bytes with MD5 {found}, not {md5})"


def _unpack(packed: Path, target: Path, md5: str) -> str:
    """Unpacks a .gz into its place if the content is right; else says what is wrong."""
    if not packed.exists():
        return "is missing"
    try:
        with gzip.open(packed) as file:
            content = file.read(LARGEST_FILE + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"is damaged ({error})"
    fault = _content_fault(content, md5)
    if not fault:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacking-") as folder:
            part = Path(folder) / target.name
            part.write_bytes(content)
            if target.exists():
                # It may be all that the user has of something else.
                number = len(list(target.parent.glob(f"{target.name}.damaged-*")))
                os.replace(target, target.with_name(f"{target.name}.damaged-{number}"))
            os.replace(part, target)
    return fault


def _fetch(name: str, md5: str, raw: Path, mirrors: list[str]) -> str:
    """Fetches a file into its place; else says what failed. A mirror that does not answer is struck off."""
    failures = []
    with tempfile.TemporaryDirectory(dir=raw, prefix=".fetching-") as folder:
        part = Path(folder) / f"{name}.gz"
        for mirror in list(mirrors):
            try:
                _download(f"{mirror}{part.name}", part)
            except (OSError, HTTPException, ValueError) as error:
                if getattr(error, "errno", None) in FULL:
                    raise
                failures.append(f"{mirror}: {getattr(error, 'reason', error)}")
                mirrors.remove(mirror)
                continue
            fault = _unpack(part, raw / name, md5)
            if not fault:
                return ""
            failures.append(f"{mirror}: what it sent {fault}")
    return "; ".join(failures) or "no mirror answers"


def _download(url: str, part: Path) -> None:
    begin = time.monotonic()
    with urllib.request.urlopen(url, timeout=ANSWER_WITHIN) as answer, part.open("wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, desc=part.name, unit="B", unit_scale=True, leave=False) as progress:
            # read1 returns what has come, so that a mirror that trickles meets the deadline.
            while chunk := answer.read1(1 << 16):
                file.write(chunk)
                progress.update(len(chunk))
                seconds = time.monotonic() - begin
                if seconds > FETCH_WITHIN:
                    raise TimeoutError(f"not whole after {FETCH_WITHIN} s")
                if seconds > JUDGED_AFTER and progress.n * FETCH_WITHIN < size * seconds:
                    raise TimeoutError(f"sent {progress.n:,} of {size:,} bytes in {seconds:.0f} s")
                if progress.n > LARGEST_FILE:
                    raise OSError("sends more than MNIST's file")
    if size and part.stat().st_size != size:
        raise OSError(f"sent {part.stat().st_size:,} of {size:,} bytes")
