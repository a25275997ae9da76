"""Processes that train one adapter together, each on frames of its own: gradients are averaged, decisions are everybody's.

With one process nothing is sent, and nothing changes. With several, started by torchrun, each method is to be called by all of them, in the
same order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed


class Together:
    """The processes of a run.

    Attributes:
        rank: this process's place among them, from 0.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def of_environment(cls, device: str) -> Together:
        """The processes that torchrun has started, connected; this one alone where it did not.

        Args:
            device: torch device that they compute on; of several GPUs of a machine each takes its own.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        on_gpu = device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    def close(self) -> None:
        """Ends the connection."""
        if self.size > 1:
            distributed.destroy_process_group()

    def average_gradients(self, parameters: Sequence[Tensor], *, counts: bool = True) -> bool:
        """Gives parameters the mean of the gradients of the processes that have some; False if nobody has.

        Args:
            parameters: the same in all processes, of the same values.
            counts: this process has gradients; else it takes the others'.
        """
        if self.size == 1:
            return counts
        gradients = [each.grad if counts and each.grad is not None else torch.zeros_like(each) for each in parameters]
        total = torch.cat([*(each.flatten() for each in gradients), gradients[0].new_full((1,), float(counts))])
        distributed.all_reduce(total)
        number = float(total[-1])
        if number:
            for parameter, part in zip(parameters, total[:-1].split([each.numel() for each in parameters]), strict=True):
                parameter.grad = (part / number).view_as(parameter)
        return number > 0

    def most(self, value: int) -> int:
        """The highest of all processes' values."""
        return int(max(self.everyones(value)))

    def everyones(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values


ALONE = Together()
