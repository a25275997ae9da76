"""The node that a segmenter takes adapters from where several publish them: the first, until it is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

UNKNOWN = "_NODE_NAME_UNKNOWN_"
"""The name that rmw reports for the node of a publisher as long as the real one has not arrived."""
PROCESS_BYTES = 12
"""The first bytes of a publisher's id in DDS, the same for all publishers of a process (RTPS specification, 9.3.1)."""


class AdapterSource:
    """The publisher that is served. A node that was restarted under its name takes over from itself; one with another name has to wait.

    Args:
        publishers: gives the publishers on the topic now, as the graph knows them: id to the full name of its node. One that was killed
            stays in the graph for some seconds.
    """

    def __init__(self, publishers: Callable[[], Mapping[bytes, str]]) -> None:
        self._publishers = publishers
        self._name = ""
        self._served: bytes | None = None
        self._before: set[bytes] = set()

    @property
    def name(self) -> str:
        """The full name of the node whose adapter was taken last; where that has not arrived yet, of the one before, or ""."""
        if self._served is not None:
            name = self._publishers().get(self._served, UNKNOWN)
            if not name.endswith(UNKNOWN):
                self._name = name
        return self._name

    def rejection(self, publisher: bytes) -> str | None:
        """The reason for which an adapter of this publisher may not be taken, "" if that is not known yet; None where it may.

        It does not make the publisher the served one; `take` does, when its adapter has turned out to be sound.
        """
        if self._served is None or publisher[:PROCESS_BYTES] == self._served[:PROCESS_BYTES]:
            return None
        present = self._publishers()
        name = present.get(publisher, UNKNOWN)
        if self._served not in present:
            return None
        if name.endswith(UNKNOWN) or not self.name:
            return ""
        if name != self.name:
            return f"{name} publishes adapters, but those of {self.name} are in use; end one of them, or give each a topic of its own"
        if publisher in self._before:
            return f"two nodes named {name} publish adapters; end one of them"
        return None

    def gone(self) -> bool:
        """True where the node whose adapter was taken last has left the graph, and has not come back under its name."""
        name, present = self.name, self._publishers()
        return bool(name) and self._served not in present and name not in present.values()

    def take(self, publisher: bytes) -> None:
        """Makes a publisher the one that is served."""
        if publisher != self._served:
            if self._served is not None:
                self._before.add(self._served)
            self._served = publisher
