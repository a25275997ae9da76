"""The cache of exported models: folders that are whole, checked by checksums, and belong to one model."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import wesam_ros
from wesam_ros.engines.engine import EngineError
from wesam_ros.files import write_atomically
from wesam_ros.sam.adapter import base_hash

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

FORMAT = 2
"""Counts up when the exported graphs change: their inputs, outputs or what they compute."""
OPSET = 20
"""The first with Gelu as one operator; LayerNormalization is one since 17. TensorRT 10 reads opsets 9 to 20."""
ENCODER, DECODER, DECODER_WITH_MASKS = "encoder.onnx", "decoder.onnx", "decoder_with_masks.onnx"
MANIFEST = "manifest.json"


def cache_folder() -> Path:
    """The cache: WESAM_CACHE, or wesam_ros in XDG_CACHE_HOME, or in ~/.cache."""
    if "WESAM_CACHE" in os.environ:
        return Path(os.environ["WESAM_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wesam_ros"


def key_of(sam: Sam, opset: int = OPSET) -> dict[str, str]:
    """Everything that an export of this model depends on; "none" for a package that is not installed."""
    versions = {"wesam_ros": wesam_ros.__version__, "torch": torch.__version__}
    for package in ("onnx", "onnxscript"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "none"
    return {"model": str(sam.weights_name), "weights": base_hash(sam), "format": str(FORMAT), "opset": str(opset), **versions}


def folder_of(sam: Sam, opset: int = OPSET) -> Path:
    """The folder in the cache for an export of this model with the packages that are installed now."""
    return folder_for("onnx", str(sam.weights_name), key_of(sam, opset))


def folder_for(kind: str, model: str, key: dict[str, str]) -> Path:
    """The folder in the cache for files that depend on all of `key`."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder() / kind / f"{model}-{digest[:16]}"


def publish(folder: Path, build: Callable[[Path], dict[str, Any]], unless: Callable[[], bool] = lambda: False) -> None:
    """Builds `folder`, which appears as a whole; nothing is left of a build that fails.

    One process builds at a time, and the others wait. The remains of a process that was killed are removed by the next.

    Args:
        folder: replaced where it exists.
        build: writes the files into the folder that it is given, and returns the manifest's entries besides their checksums.
        unless: called when no other process is building. If true, as where another has built the folder meanwhile, it stays as it is.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        for path in folder.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(folder.name)}\.\w{{8}}{_UNFINISHED}", path.name):
                shutil.rmtree(path, ignore_errors=True)
        if unless():
            return
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=_UNFINISHED))
        made, old = temporary / "new", temporary / "old"
        try:
            made.mkdir()
            manifest = build(made)
            files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(made.iterdir())}
            write_atomically(made / MANIFEST, (json.dumps({**manifest, "files": files}, indent=2) + "\n").encode())
            if folder.exists():
                folder.rename(old)
            made.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


_UNFINISHED = ".unfinished"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process, or thread, is within for this folder. A killed process releases it."""
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat())):
                continue  # whoever had the lock has removed the file
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def has(folder: Path, sam: Sam, opset: int = OPSET) -> bool:
    """True if the folder has a whole export of this model, made by the packages that are installed now."""
    try:
        return bool(check(folder, sam)["key"] == key_of(sam, opset))
    except EngineError:
        return False


def check(folder: Path, sam: Sam) -> dict[str, Any]:
    """The manifest of an export, if it is whole and of this model.

    Raises:
        EngineError: it is missing, not one of ours, of another model or format, or a file is missing, truncated or changed.
    """
    remedy = f"export the model with `wesam export --model {sam.weights_name}`"
    if not (folder / MANIFEST).exists():
        raise EngineError(f"there is no exported model in {folder}; {remedy}")
    manifest = whole(folder, remedy := f"{remedy} --again")
    weights, form = (str(manifest["key"].get(name)) for name in ("weights", "format"))
    if weights != base_hash(sam):
        raise EngineError(f"{folder} holds a model with hash {weights[:12]}, but this one has {base_hash(sam)[:12]}; {remedy}")
    if form != str(FORMAT) or not {ENCODER, DECODER, DECODER_WITH_MASKS} <= manifest["files"].keys():
        raise EngineError(f"{folder} is of format {form[:12]}, but {FORMAT} is needed; {remedy}")
    return manifest


def whole(folder: Path, remedy: str) -> dict[str, Any]:
    """The manifest of a folder that `publish` made, if every file is as it was then.

    Raises:
        EngineError: the manifest cannot be read, or a file is missing, truncated or changed; the message ends with `remedy`.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        expected = {name: (int(each["bytes"]), str(each["sha256"])) for name, each in manifest["files"].items()}
        manifest["key"].items(), manifest["files"].items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise EngineError(f"{folder / MANIFEST} cannot be read ({error}); {remedy}") from error
    for name, (size, digest) in expected.items():
        path = folder / Path(name).name
        if not _is(path, size, digest):
            raise EngineError(f"{path} is not what was written: it is missing, truncated or changed; {remedy}")
    return dict(manifest)


def _is(path: Path, size: int, digest: str) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size and _sha256(path) == digest
    except OSError:  # a name that no file can have, or a file that cannot be read
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
