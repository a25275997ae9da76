"""Images by the names that annotation files have for them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

from wesam_ros.data.datasets.files import IMAGE_SUFFIXES

PathsByName = defaultdict[str, list[Path]]


class ImageFinder:
    """Images by names that are paths of another machine, of Windows, of an address, or bare; and in another case or Unicode form."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: tuple[PathsByName, PathsByName] | None = None

    def find(self, name: str, *folders: Path) -> Path:
        """The file, looked for in some folders first, then by its bare name in all; where there is none, the path that was looked for."""
        plain = name.split("?d=")[-1].replace("\\", "/").removeprefix("file://")
        for text in dict.fromkeys((plain, unquote(plain), unquote(plain.partition("?")[0]))):
            for folder in folders:
                if (path := folder / text.lstrip("/")).is_file():
                    return path
            for bare in (Path(text).name, Path(text).name.partition("-")[2]):  # Label Studio puts eight letters before the name
                if bare and len(found := self._named(bare)) == 1:
                    return found[0]
        return folders[0] / plain.lstrip("/")

    def _named(self, name: str) -> list[Path]:
        if self._names is None:
            self._names = defaultdict(list), defaultdict(list)
            exact, folded = self._names
            for path in self._root.rglob("*"):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    exact[path.name].append(path)
                    folded[_folded(path.name)].append(path)
        exact, folded = self._names
        return exact.get(name) or folded.get(_folded(name), [])


def _folded(name: str) -> str:
    """A name without the differences that file systems make: case, and how letters with marks are written (Unicode's NFC, NFD)."""
    return unicodedata.normalize("NFC", name).casefold()
