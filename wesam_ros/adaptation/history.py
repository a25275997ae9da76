"""The adapters that were published, and the count of their versions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from wesam_ros.sam.adapter import Adapter

KEPT = 10
"""Published adapters that are kept to go back to."""


class AdapterHistory:
    """The newest published adapters, oldest first, and the version of the last one.

    Attributes:
        published: at least one, but for the moment between `clear` and the next publication.
        version: of the adapter that was published last; it only ever grows.
    """

    def __init__(self, first: Adapter) -> None:
        self.published = [first]
        self.version = first.version

    @property
    def last(self) -> Adapter:
        """The adapter that was published last, which is what is served."""
        return self.published[-1]

    def publish(self, a: Tensor, b: Tensor, base: str) -> Adapter:
        """A new adapter of a copy of these tensors, under the next version, for a model with the hash `base`."""
        self.version += 1
        self.published.append(Adapter(a.detach().cpu().clone(), b.detach().cpu().clone(), base, self.version))
        del self.published[:-KEPT]
        return self.last

    def append(self, adapter: Adapter) -> None:
        """Takes over an adapter that was published already, with its version."""
        self.published.append(adapter)
        self.version = max(self.version, adapter.version)

    def roll_back(self) -> Adapter:
        """Forgets the last two adapters and returns the earlier of them, to be published again.

        Raises:
            ValueError: there is only one.
        """
        if len(self.published) < 2:
            raise ValueError(
                f"there is no earlier adapter than version {self.last.version}; call ~/reset to start anew, or segmenter/use_frozen"
            )
        self.published.pop()
        return self.published.pop()

    def clear(self) -> None:
        """Forgets all adapters, but not the version."""
        self.published.clear()

    def state_dict(self) -> dict[str, Any]:
        """Tensors, hash and version of each adapter, and the version of the last one."""
        return {"published": [(each.a, each.b, each.base, each.version) for each in self.published], "version": self.version}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over another history.

        Raises:
            ValueError: its adapters are of another model.
        """
        published = [Adapter(*values) for values in state["published"]]
        if published[-1].base != self.last.base:
            raise ValueError("the saved state is of another model; give the one that it was begun with, or start anew")
        self.published, self.version = published, state["version"]
