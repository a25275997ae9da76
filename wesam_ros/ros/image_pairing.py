"""Images and the objects found in them, put together by stamp. Pure Python."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from wesam_ros.data.messages import stamp_of
from wesam_ros.web.values import PERSON

RING_IMAGES, RING_BYTES = 60, 128 * 2**20
"""Images that wait for their objects."""
RECENT_IMAGES = 15
"""A prompt for one of so many newest images finds it in the nodes, which keep `ring_length` of them (30 by default)."""


def is_of_person(message: Any) -> bool:
    """True for an ObjectArray that answers a mask which a person kept on the page."""
    return bool(message.objects) and all(each.id.startswith(PERSON) for each in message.objects)


class ImagePairing:
    """Keeps the newest images, and the newest one whose objects came. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: deque[Any] = deque()
        self._stamps: deque[int] = deque(maxlen=RECENT_IMAGES)
        self._newest: tuple[Any, Any] | None = None

    def add_image(self, message: Any) -> None:
        """Adds an Image or CompressedImage."""
        with self._lock:
            self._images.append(message)
            self._stamps.append(stamp_of(message.header))
            while len(self._images) > RING_IMAGES or sum(len(each.data) for each in self._images) > RING_BYTES:
                self._images.popleft()

    def add_objects(self, message: Any) -> None:
        """Adds an ObjectArray. Those of a person's prompts are left out: the detector's objects stay in view."""
        if is_of_person(message):
            return
        stamp = stamp_of(message.header)
        with self._lock:
            image = next((each for each in reversed(self._images) if stamp_of(each.header) == stamp), None)
            if image is not None:
                self._newest = image, message

    def newest(self) -> tuple[Any, Any] | None:
        """The newest image with objects, and these; None before the first."""
        with self._lock:
            return self._newest

    def is_recent(self, stamp: int) -> bool:
        """True for the stamp of one of the RECENT_IMAGES newest images."""
        with self._lock:
            return stamp in self._stamps

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._images.clear()
            self._stamps.clear()
            self._newest = None
