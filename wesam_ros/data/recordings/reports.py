"""The account of reading a recording: frames, what was left out and why, and how the file was opened."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

log = logging.getLogger(__name__)


@dataclass
class ReadingReport:
    """Counts of what a recording gave. One report may serve several recordings.

    Attributes:
        frames: images that were read.
        left_out: messages left out, by (role, reason); reasons are those of codecs, and "undecodable", "no_header", "wrong_size".
        first: the sentence for the first message of each (role, reason); it names the topic and the stamp.
        notes: sentences on how a file had to be opened, such as one without an index.
    """

    frames: int = 0
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, role: str, reason: str, sentence: str) -> None:
        """Counts one message, and logs the first of its role and reason."""
        self.left_out[role, reason] += 1
        if (role, reason) not in self.first:
            self.first[role, reason] = sentence
            log.warning("%s; more of the kind are counted only", sentence)

    def note(self, sentence: str) -> None:
        """Keeps a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def counted(self) -> str:
        """The numbers of messages by role and reason, as "2 depth.wrong_size"; "" where nothing was left out."""
        return ", ".join(f"{count} {role}.{reason}" for (role, reason), count in sorted(self.left_out.items()))

    def sentences(self) -> list[str]:
        """The notes, and a sentence for each reason: how many messages, and the first of them."""
        counted = sorted(self.left_out.items())
        return [*self.notes, *(f"{n} of {role} left out ({reason}); {self.first.get((role, reason), '')}" for (role, reason), n in counted)]

    def tell(self, name: str) -> None:
        """Logs the numbers of messages left out of the recording `name`."""
        if self.left_out:
            log.warning("%s: messages left out: %s", name, self.counted())
