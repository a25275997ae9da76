"""The settings of the nodes, without ROS."""

from __future__ import annotations

import pytest
import torch

from wesam_ros.machine import resolve_device
from wesam_ros.options import options
from wesam_ros.settings import AdapterParameters, PlayerParameters, SegmenterParameters


@pytest.mark.parametrize(
    ("device", "gpu", "taken"), [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda:1", False, "cuda:1")]
)
def test_device(device: str, gpu: bool, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve_device(device) == taken


@pytest.mark.parametrize("cls", [SegmenterParameters, AdapterParameters, PlayerParameters])
def test_defaults_are_allowed_and_described(cls: type) -> None:
    cls()
    assert all(each.doc for each in options(cls))
