"""Recordings of every kind, opened by one function: MCAP, sqlite3, ROS 1, packed, split, without metadata, cut short, damaged.

The usual way is the rosbags library's. Where it refuses a file, or its index misses what the file holds, the file is read from its start.
"""

from __future__ import annotations

import logging
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import Reader

from wesam_ros.data.recordings import mcap_scan, ros1, sqlite_scan
from wesam_ros.data.recordings.parts import LibraryPart, Part, Parts, Recording, why_of
from wesam_ros.data.recordings.topics import BagError
from wesam_ros.data.recordings.unpacking import is_packed, unpack

log = logging.getLogger(__name__)

ENDINGS = (".mcap", ".db3", ".bag", ".bag.active")
PACKED = (".zstd", ".zst", ".gz", ".bz2", ".lz4", ".xz")
METADATA = "metadata.yaml"
BETWEEN_MCAP = "`mcap recover` writes it anew"
LFS = b"version https://git-lfs.github.com/spec/"


@contextmanager
def opened(path: Path) -> Iterator[Recording]:
    """A recording: a file of any kind (told by its first bytes), or a folder of such files, with or without metadata.yaml.

    Raises:
        BagError: no such file, nothing that is a recording, or one of which nothing can be read; the sentence names the command that helps.
    """
    if not path.exists():
        raise BagError(f"bag {path} does not exist; give an .mcap, .db3 or .bag file, or a folder of such files")
    recording = Recording(path)
    with ExitStack() as stack:
        try:
            recording.parts = _Opener(recording, stack).parts_of(path)
        except BagError:
            raise
        except Exception as error:  # rosbags raises many kinds for damaged files
            raise _unreadable(path, error, "") from error
        for note in recording.notes:
            _say(path, note)
        yield recording


@lru_cache(maxsize=256)
def _say(path: Path, note: str) -> None:
    """Logs a sentence on a recording once, however often it is opened."""
    log.warning("bag %s: %s", path, note)


def fingerprint(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of change of a recording's files: what was found out about it holds while these stay."""
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path] if path.exists() else []
    return tuple((each.name, (found := each.stat()).st_size, found.st_mtime_ns) for each in files)


@lru_cache(maxsize=8)
def _scan(kind: Callable[[Path], Any], path: Path, _: Any) -> Any:
    """A file read through once, kept for the next call; the last argument is its `fingerprint`."""
    return kind(path)


def _unreadable(path: Path, error: BaseException, remedy: str) -> BagError:
    return BagError(f"bag {path} cannot be read: {why_of(error)}{'; ' if remedy else ''}{remedy}")


@dataclass
class _Opener:
    """Opens the files of one recording; they are closed, and what was unpacked is removed, with `stack`."""

    recording: Recording
    stack: ExitStack
    _folder: Path | None = None

    def note(self, sentence: str) -> None:
        if sentence not in self.recording.notes:
            self.recording.notes.append(sentence)

    @property
    def folder(self) -> Path:
        """A temporary one."""
        if self._folder is None:
            self._folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="wesam-bag-")))
        return self._folder

    def parts_of(self, path: Path) -> list[Part]:
        """The parts of a file or folder."""
        if path.name == METADATA:
            path = path.parent
        return self._of_folder(path) if path.is_dir() else [self._of_file(path)]

    def _of_folder(self, path: Path) -> list[Part]:
        why = "there is none"
        files = files_in(path)
        if (path / METADATA).exists():
            try:
                whole = self._by_library(path, lambda: Parts(self._of_files(files)))
                why = _differing(whole, files)
                if not why:  # of messages that are packed by themselves, one that is damaged would end the library's reading
                    return self._of_files(files) if whole.packed_by_message else [whole]
            except Exception as error:  # rosbags raises many kinds for damaged files
                why = why_of(error)
        if not files:
            inner = [each.name for each in sorted(path.iterdir()) if each.is_dir() and ((each / METADATA).exists() or files_in(each))]
            hint = f"give one of the folders in it: {', '.join(inner)}" if inner else f"it has no file named *{', *'.join(ENDINGS)}"
            raise BagError(f"folder {path} is no recording: {hint}")
        self.note(f"its {METADATA} is not used ({why}): the files are read as they are; `ros2 bag reindex {path}` writes one")
        return self._of_files(files)

    def _of_files(self, files: Sequence[Path]) -> list[Part]:
        parts: list[Part] = []
        refused: list[BagError] = []
        for file in files:
            try:
                parts.append(self._of_file(file))
            except BagError as error:
                refused.append(error)
                self.note(str(error))
        if not parts:
            raise refused[0]
        return parts

    def _of_file(self, path: Path, given: Path | None = None) -> Part:
        """The part of a file; `given` is the packed one that it was unpacked from."""
        shown = given or path
        with path.open("rb") as file:
            head = file.read(64)
        if not head:
            raise BagError(f"bag {shown} cannot be read: it is empty; the recorder wrote nothing, or the copy failed")
        if head.startswith(LFS):
            raise BagError(f"bag {shown} cannot be read: it is a pointer of Git LFS; run `git lfs pull` in its repository")
        if is_packed(head):
            target, whole = unpack(path, self.folder)
            if not whole and not target.stat().st_size:
                raise BagError(
                    f"bag {shown} cannot be read: it is packed, but cut short or damaged, and nothing could be unpacked; copy it again"
                )
            if not whole:
                self.note(f"{shown.name} was cut short or is damaged: what could be unpacked is read")
            return self._of_file(target, shown)
        if archive := _archive_of(path, head):
            raise BagError(f"bag {shown} cannot be read: it is a {archive} archive; unpack it, and give the recording in it")
        if head.startswith(mcap_scan.MAGIC):
            return self._of_mcap(path)
        if head.startswith(sqlite_scan.MAGIC):
            return self._of_sqlite(path)
        if head.startswith(ros1.MAGIC):
            return self._of_ros1(path)
        if head.startswith(ros1.MAGIC_OLD):
            raise BagError(f"bag {shown} cannot be read: it is of ROS 1's format 1; `rosbag reindex` and `rosbag fix` of a ROS 1 help")
        raise BagError(f"bag {shown} cannot be read: it is neither MCAP, sqlite3 nor a ROS 1 bag; its first bytes are {head[:8]!r}")

    def _of_mcap(self, path: Path) -> Part:
        try:
            part = self._by_library(self._named(path, ".mcap"), lambda: self._scanned(path, "", quiet=True))
            if _has_no_chunks(part):
                return self._scanned(path, "", quiet=True)
            if not _index_is_missing(part):
                return part
            why = "its index is missing"
        except Exception as error:  # rosbags raises many kinds for damaged files
            why = why_of(error)
        return self._scanned(path, why)

    def _scanned(self, path: Path, why: str, quiet: bool = False) -> Part:
        scan: mcap_scan.McapScan = _scan(mcap_scan.McapScan, path, fingerprint(path))
        if not any(channel.count for channel in scan.channels) and why:
            raise BagError(f"bag {path} cannot be read: {why}; no message in it is whole; {BETWEEN_MCAP} if there is more")
        if not quiet:
            lost = f", {scan.damaged} damaged parts passed over" if scan.damaged else ""
            end = "" if scan.whole else ", up to where it was cut short"
            self.note(f"{path.name} is read from its start{end}{lost} ({why}); {BETWEEN_MCAP}")
        return scan

    def _of_sqlite(self, path: Path) -> Part:
        wal = sqlite_scan.log_of(path)
        try:
            if not wal.exists() or not wal.stat().st_size:
                return self._by_library(self._named(path, ".db3"), lambda: self._salvaged(path))
            why = "the recorder did not close it"
        except Exception as error:  # rosbags raises many kinds for damaged files
            why = why_of(error)
        try:
            part = self._salvaged(path)
        except Exception as error:  # sqlite3's, and what is in its tables
            remedy = f"`sqlite3 {path.name} .recover | sqlite3 mended.db3`, then `ros2 bag reindex`, may mend it"
            raise _unreadable(path, error, remedy) from error
        self.note(f"{path.name} is read row by row ({why})")
        return part

    def _salvaged(self, path: Path) -> Part:
        """The database where it is, or a copy: reading a write-ahead log takes a folder that can be written to."""
        try:
            scan = sqlite_scan.SqliteScan(path)
        except Exception:
            copy = self.folder / path.name
            for each in (path, sqlite_scan.log_of(path)):
                if each.exists():
                    shutil.copy(each, self.folder / each.name)
            scan = sqlite_scan.SqliteScan(copy)
        self.stack.callback(scan.close)
        return scan

    def _of_ros1(self, path: Path) -> Part:
        try:
            bag = ros1.Ros1Bag(path, lambda: ros1.Ros1Scan(path), self.note)
            self.stack.callback(bag.close)
            return bag
        except Exception as error:  # rosbags raises many kinds for damaged files
            why = why_of(error)
        scan: ros1.Ros1Scan = _scan(ros1.Ros1Scan, path, fingerprint(path))
        if not any(channel.count for channel in scan.channels):
            raise BagError(f"bag {path} cannot be read: {why}; no message in it is whole")
        lost = f", {scan.damaged} damaged parts passed over" if scan.damaged else ""
        self.note(f"{path.name} is read from its start{lost} ({why}); `rosbag reindex` of a ROS 1 writes its index")
        return scan

    def _by_library(self, path: Path, rest: Callable[[], Part] | None) -> LibraryPart:
        reader = self.stack.enter_context(Reader(path))
        return LibraryPart(reader, rest, self.note)

    def _named(self, path: Path, ending: str) -> Path:
        """The path, or a link to it with the ending that the library goes by, and without letters that have a meaning in an address."""
        if path.suffix == ending and not set("?#%") & set(str(path)):
            return path
        link = self.folder / f"{len(list(self.folder.iterdir()))}{ending}"
        link.symlink_to(path.resolve())
        return link


def _archive_of(path: Path, head: bytes) -> str:
    """The kind of an archive of several files; "" for other files."""
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    return "tar" if tarfile.is_tarfile(path) else ""


def files_in(folder: Path) -> list[Path]:
    """Files of a recording right in a folder, in the order of the numbers in their names."""
    names = [each for each in folder.iterdir() if each.is_file() and _bare(each.name).endswith(ENDINGS)]
    whole = {each.name for each in names}
    return sorted((each for each in names if each.suffix not in PACKED or each.stem not in whole), key=lambda each: _order(each.name))


def _bare(name: str) -> str:
    return next((name.removesuffix(ending) for ending in PACKED if name.endswith(ending)), name)


def _order(name: str) -> list[tuple[int, str]]:
    digits = "".join(letter if letter.isdigit() else " " for letter in _bare(name)).split()
    return [*((int(each), "") for each in digits), (0, name)]


def _index_is_missing(part: LibraryPart) -> bool:
    """True where chunks hold messages that no message index names: the library would give none of them."""
    return any(chunk.compressed_size and not chunk.message_index_offsets for chunk in getattr(part.storage, "chunks", ()))


def _has_no_chunks(part: LibraryPart) -> bool:
    """True for a file of messages one by one, as rosbag2's fast preset writes it: the library takes them only in order of time."""
    return not getattr(part.storage, "chunks", ()) and any(channel.count for channel in part.channels)


def _differing(part: LibraryPart, files: Sequence[Path]) -> str:
    """The difference between a folder's metadata and its files, as a sentence; "" where they agree."""
    if any(sqlite_scan.log_of(file).exists() and sqlite_scan.log_of(file).stat().st_size for file in files):
        return "a file was not closed by its recorder"
    storages = part.storage.storages
    counted, stored = sum(channel.count for channel in part.channels), sum(each.metadata.message_count for each in storages)
    if counted != stored:
        return f"it counts {counted} messages, and the files have {stored}"
    if any(chunk.compressed_size and not chunk.message_index_offsets for each in storages for chunk in getattr(each, "chunks", ())):
        return "an index is missing"
    if any(not getattr(each, "chunks", True) for each in storages):
        return "a file has no chunks"
    known = {(c.topic, c.msgtype, str(c.ext)) for each in storages for c in each.connections}
    if absent := [c.topic for c in part.connections if c.msgcount and (c.topic, c.msgtype, str(c.ext)) not in known]:
        return f"it describes {absent[0]} otherwise than the files"
    return ""
