"""The account of reading a recording: frames, what was left out and why, and how the file was opened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


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
        """Counts one message."""
        self.left_out[role, reason] += 1
        self.first.setdefault((role, reason), sentence)

    def note(self, sentence: str) -> None:
        """Keeps a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def counted(self) -> list[str]:
        """A sentence for each reason: how many messages, and the first of them."""
        return [
            f"{count} of {role} left out ({reason}); the first: {self.first[role, reason]}"
            for (role, reason), count in sorted(self.left_out.items())
        ]

    def sentences(self) -> list[str]:
        """The notes, and what was counted."""
        return [*self.notes, *self.counted()]
