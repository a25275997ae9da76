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

    @property
    def topic(self) -> str: ...

    @property
    def heard(self) -> float | None: ...

    def publishers(self) -> int: ...

    def foreign(self) -> list[str]: ...

    def instead(self) -> str: ...


class InputHealth:
    """Counts the messages that found no partner, with a remedy for each kind, and names the inputs that are silent.

    Args:
        diagnostics: takes the counts.
        prefix: of the counters' inputs: a robot's namespace and a slash, or nothing for the node's own.
        inputs: the subscriptions by kind, "image" at least.
        requested: whether masks have to be asked for, by "detections" or "prompts", which are then among the inputs.
    """

    def __init__(self, diagnostics: Counts, prefix: str, inputs: Mapping[str, _Input], *, requested: bool = True) -> None:
        self._diagnostics, self._prefix, self._inputs, self._requested = diagnostics, prefix, inputs, requested
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

    def counted(self, name: str) -> None:
        """Counts what happened to a request that came beside another of its stamp, such as "merged.detections"."""
        what, _, kind = name.partition(".")
        self._diagnostics.count(f"{what}.{self._prefix}{kind}")

    def missing(self) -> str:
        """The inputs that do not come, and why, a line for each; "" if none is missed."""
        foreign = {kind: each.foreign() for kind, each in self._inputs.items()}
        sentences = [sentence for found in foreign.values() for sentence in found]
        image = self._inputs["image"]
        silent = self._silent("image", self._began)
        if silent and image.publishers():
            sentences.append(f"nothing comes on {image.topic}: it has a publisher, which is silent or cannot be heard")
        elif silent and not foreign["image"]:
            sentences.append(f"nothing comes on {image.topic}: nobody publishes it{image.instead()}")
        elif not silent and self._silent("depth"):  # an old camera_info serves
            sentences.append(f"nothing comes on {self._inputs['depth'].topic} any more: no 3D output")
        if not self._requested:
            return "\n".join(sentences)
        requests = self._requests_missing(any(foreign[kind] for kind in REQUESTS), others=bool(sentences))
        return "\n".join([*sentences, *requests])

    def _requests_missing(self, foreign: bool, others: bool) -> list[str]:
        """A line where nothing asks for masks; `foreign` and `others`: publishers of other types, and anything else, are told already."""
        requests = [self._inputs[kind] for kind in REQUESTS]
        if not any(each.publishers() for each in requests):
            topics = " or ".join(each.topic for each in requests)
            return [] if foreign else [f"nobody publishes {topics}{requests[0].instead()}"]
        heard = [kind for kind in REQUESTS if self._inputs[kind].heard is not None]
        if others or not heard or not all(map(self._silent, heard)):  # one that was never heard may have nothing to say yet
            return []
        topics = " or ".join(self._inputs[kind].topic for kind in heard)
        gone = not any(self._inputs[kind].publishers() for kind in heard)
        why = "its publisher has gone" if gone else "its publisher is there, and sees nothing or has stopped"
        return [f"nothing comes on {topics} any more: {why}; nothing is segmented"]

    def quiet(self) -> dict[str, str]:
        """For /diagnostics: the requests that have a publisher and never came, by "quiet.<input>"; a detector may see nothing yet."""
        waiting = {kind: self._inputs[kind] for kind in REQUESTS if kind in self._inputs and self._inputs[kind].heard is None}
        return {
            f"quiet.{self._prefix}{kind}": f"{each.topic} has a publisher that fits, and has sent nothing yet: it may see nothing"
            for kind, each in waiting.items()
            if each.publishers()
        }

    def _silent(self, kind: str, since: float | None = None) -> bool:
        """True where an input was heard last, or is awaited since, more than SILENT_SECONDS ago."""
        each = self._inputs.get(kind)
        last = each.heard if each is not None and each.heard is not None else since
        return last is not None and time.monotonic() - last > SILENT_SECONDS
