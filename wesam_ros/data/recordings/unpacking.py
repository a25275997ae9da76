"""Whole recordings that were packed with zstd, gzip, bzip2, lz4 or xz: unpacked into a folder of its own. And messages that were."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x28\xb5\x2f\xfd": zstd.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\x04\x22\x4d\x18": lz4.frame.open,
    b"\xfd7zXZ\x00": lzma.open,
}
"""Functions that open a packed file, by the bytes that it begins with."""


LARGEST_MESSAGE = 2**29
"""Bytes of an unpacked message: more than the largest image has. A damaged one may claim more."""


def unpacked_message(data: bytes) -> bytes:
    """The bytes of a message that was packed by itself with zstd; ValueError where it is damaged, or too large."""
    decompressor = zstd.ZstdDecompressor()
    try:
        whole = decompressor.decompress(data, LARGEST_MESSAGE)
    except zstd.ZstdError as error:
        raise ValueError(f"it was packed with zstd, and is damaged ({error})") from error
    if not decompressor.eof:
        raise ValueError(f"it was packed with zstd, and is cut short, or larger than {LARGEST_MESSAGE} bytes")
    return bytes(whole)


def is_packed(head: bytes) -> bool:
    """True for the first bytes of a packed file."""
    return any(head.startswith(start) for start in OPENERS)


def unpack(path: Path, folder: Path) -> tuple[Path, bool]:
    """Unpacks a file into `folder`, under its name without the last ending.

    Returns:
        the new file, and whether it is whole: False where the packed one was cut short or is damaged, and ends early.
    """
    with path.open("rb") as file:
        head = file.read(8)
    opener = next(each for start, each in OPENERS.items() if head.startswith(start))
    target = folder / (path.stem if path.suffix in (".zstd", ".zst", ".gz", ".bz2", ".lz4", ".xz") else f"{path.name}.unpacked")
    with target.open("wb") as out:
        try:
            with opener(path) as packed:
                while data := packed.read1(2**16):  # a longer read would lose what stands before the end of a file that was cut short
                    out.write(data)
        except OSError as error:
            if error.errno is not None:  # a full disk, and not the packed file
                raise
            return target, False
        except Exception:  # the libraries raise many kinds for damaged files
            return target, False
    return target, True
