"""Transitions that fail: a sentence in the log, and nothing left behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from wesam_ros.ros import lifecycle as lifecycle_module
from wesam_ros.ros.intake import Intake
from wesam_ros.ros.lifecycle import Lifecycle
from wesam_ros.settings import InputParameters

STATE: Any = None


@pytest.fixture
def logged() -> list[str]:
    return []


@pytest.fixture
def node(logged: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """In place of a node."""
    monkeypatch.setattr(lifecycle_module, "load_sam", lambda *_: None)
    monkeypatch.setattr(LifecycleNode, "on_activate", lambda *_: TransitionCallbackReturn.SUCCESS)
    monkeypatch.setattr(LifecycleNode, "on_deactivate", lambda *_: logged.append("deactivated"))
    return SimpleNamespace(get_logger=lambda: SimpleNamespace(error=logged.append), get_name=lambda: "broken")


def lifecycle_of(node: Any, intake: Any, logged: list[str], **fails: Any) -> Lifecycle:
    functions: dict[str, Any] = {"prepare": lambda sam: None, "start": lambda: None, **fails}
    declared: Any = SimpleNamespace(value=InputParameters(torch_threads=1))
    return Lifecycle(
        node, declared, intake, discard=lambda: logged.append("discarded"), stop=lambda ended: logged.append("stopped"), **functions
    )


@pytest.mark.parametrize(
    ("error", "may_pass", "sentence"),
    [
        (AttributeError("no attribute 'execute_async_v3'"), False, "cannot configure: AttributeError: no attribute 'execute_async_v3'"),
        (ValueError("engine must be torch"), False, "cannot configure: engine must be torch"),
        (FileNotFoundError("there is no checkpoint file"), False, "cannot configure: there is no checkpoint file"),
        (RuntimeError("CUDA out of memory"), True, "cannot configure: CUDA out of memory"),
    ],
)
def test_a_configuration_that_fails(node: Any, logged: list[str], error: Exception, may_pass: bool, sentence: str) -> None:
    def prepare(sam: Any) -> None:
        raise error

    lifecycle = lifecycle_of(node, None, logged, prepare=prepare)
    assert lifecycle.configure(STATE) == TransitionCallbackReturn.FAILURE
    assert logged == [sentence, "discarded"]
    assert (lifecycle.state, lifecycle.may_pass) == ("unconfigured", may_pass)


def test_an_activation_that_fails(node: Any, logged: list[str]) -> None:
    declared: Any = SimpleNamespace(value=InputParameters())
    diagnostics: Any = None
    intake = Intake(node, declared, diagnostics, lambda request: None)
    threads: list[Any] = []

    def start() -> None:
        threads.append(intake.worker and intake.worker._thread)
        raise KeyError("topic")

    lifecycle = lifecycle_of(node, intake, logged, start=start)
    assert lifecycle.activate(STATE) == TransitionCallbackReturn.FAILURE
    assert logged == ["cannot activate: KeyError: 'topic'", "stopped", "deactivated"]
    assert lifecycle.may_pass
    (thread,) = threads
    assert intake.worker is None and not thread.is_alive()
