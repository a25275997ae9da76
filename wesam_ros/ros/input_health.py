"""The inputs of a robot that do not come, or do not fit together, and why as far as that can be seen. Pure Python."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from wesam_ros.counts import Counts
from wesam_ros.data.synchronizer import REQUESTS

SILENT_SECONDS = 10.0
"""An input from which nothing has come for so many seconds is named in /diagnostics."""
REMEDIES = {
    "unmatched": "no image with its stamp came; the detector must copy the header of the image that it saw, not stamp by its own clock",
    "late": "its image has left the ring; raise ring_length, or make the detector faster",
    "unstamped": "its stamp is 0, or that of several images; the driver must stamp each image, and the detector copy the image's header",
    "missing": "none came in time within sync_slop of the image's stamp; the frame goes on without: raise sync_slop, switch on the "
    "camera's synchronisation, or look at the stamps",
    "jumped": "stamps went back, as where a recording starts again; what waited from before is forgotten",
}


class _Input(Protocol):
    """A subscription, as far as its health goes."""

    topic: str
    heard: float | None

    def publishers(self) -> int: ...


class InputHealth:
    """Counts the messages that found no partner, with a remedy for each kind, and names the inputs that are silent.

    Args:
        diagnostics: takes the counts.
        prefix: of the counters' inputs: a robot's namespace and a slash, or nothing for the node's own.
        inputs: the subscriptions by kind, "image", "detections" and "prompts" at least.
    """

    def __init__(self, diagnostics: Counts, prefix: str, inputs: Mapping[str, _Input]) -> None:
        self._diagnostics, self._prefix, self._inputs = diagnostics, prefix, inputs
        self._began = time.monotonic()

    def unsynchronized(self, name: str) -> None:
        """Counts a message or frame that the synchronizer names, such as "late.detections"."""
        problem, _, kind = name.partition(".")
        counter = f"{problem}.{self._prefix}{kind}"
        if problem in REMEDIES:
            topic = self._inputs[kind].topic if kind in self._inputs else f"{self._prefix}{kind}"
            self._diagnostics.problem(counter, f"{topic}: {REMEDIES[problem]}")
        else:
            self._diagnostics.count(counter)  # an image that nobody asked about

    def missing(self) -> str:
        """The inputs that do not come, and why, a line for each; "" if none is missed."""
        sentences = []
        image = self._inputs["image"]
        if self._silent("image", self._began):
            why = "it has a publisher, which is silent or cannot be heard" if image.publishers() else "nobody publishes it"
            sentences.append(f"nothing comes on {image.topic}: {why}")
        elif self._silent("depth"):  # an old camera_info serves
            sentences.append(f"nothing comes on {self._inputs['depth'].topic} any more: no 3D output")
        requests = [self._inputs[kind] for kind in REQUESTS]
        heard = [kind for kind in REQUESTS if self._inputs[kind].heard is not None]
        if not any(each.publishers() for each in requests):
            sentences.append(f"nobody publishes {' or '.join(each.topic for each in requests)}")
        elif not sentences and heard and all(map(self._silent, heard)):  # one that was never heard may have nothing to say yet
            topics = " or ".join(self._inputs[kind].topic for kind in heard)
            sentences.append(f"nothing comes on {topics} any more: nothing is segmented")
        return "\n".join(sentences)

    def _silent(self, kind: str, since: float | None = None) -> bool:
        """True where an input was heard last, or is awaited since, more than SILENT_SECONDS ago."""
        each = self._inputs.get(kind)
        last = each.heard if each is not None and each.heard is not None else since
        return last is not None and time.monotonic() - last > SILENT_SECONDS
