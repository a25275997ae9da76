"""The switch between the adapter and the frozen model: a parameter, a service, and a flag that outlives the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.persisted_flag import USE_FROZEN, PersistedFlag


class FrozenSwitch:
    """Keeps the parameter use_frozen beside an adapter file, and serves ~/use_frozen, which sets it.

    Args:
        node: the owner of the parameter, which has been declared.
        diagnostics: its counters.
        beside: path of the adapter file; empty keeps nothing.
        changed: called when the service has set the parameter; returns the version of the adapter that was received last.
    """

    def __init__(self, node: Node, diagnostics: Diagnostics, beside: str, changed: Callable[[], int]) -> None:
        self._node, self._changed = node, changed
        self._flag = PersistedFlag(Path(beside).expanduser() if beside else None, USE_FROZEN, diagnostics)
        if self._flag.is_set:
            node.set_parameters([Parameter("use_frozen", value=True)])
            node.get_logger().warning(
                "the frozen model serves, as was chosen before this node ended; call ~/use_frozen with false for the adapter"
            )
        node.add_post_set_parameters_callback(self._keep)
        node.create_service(SetBool, "~/use_frozen", self._set, callback_group=ReentrantCallbackGroup())

    def _set(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = self._node.set_parameters_atomically([Parameter("use_frozen", value=request.data)]).successful
        version = self._changed()
        response.message = "the frozen model" if request.data else f"adapter version {version}"
        return response

    def _keep(self, parameters: list[Parameter[Any]]) -> None:
        for each in parameters:
            if each.name == "use_frozen":
                self._flag.keep(each.value)
