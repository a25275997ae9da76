"""The services of a robot's two nodes, called from an asyncio loop while another thread spins the node."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from wesam_ros.srv import AnswerQuestion, LoadAdapter, Segment
from wesam_ros.web.values import Outcome, RobotError

ANSWER_SECONDS = 60.0
"""A training step, or the judging of an adapter, comes first."""
READY_SECONDS = 5.0
"""A service is waited for so long: a client that has just been made sees it a little later."""
POLL_SECONDS = 0.05
UNCONNECTED = "the page is not connected to the robot yet; try again"


class RobotServices:
    """Clients of the services; made and closed in the thread that spins.

    Args:
        node: the owner of the clients.
        segmenter: full name of the segmenter.
        adapter: full name of the adapter node.
    """

    def __init__(self, node: Node, segmenter: str, adapter: str) -> None:
        self._node = node
        kinds: dict[str, tuple[Any, str]] = {
            "segment": (Segment, segmenter),
            "use_frozen": (SetBool, segmenter),
            "pause": (SetBool, adapter),
            "load": (LoadAdapter, adapter),
            "answer": (AnswerQuestion, adapter),
            **dict.fromkeys(("save", "rollback", "reset"), (Trigger, adapter)),
        }
        self._clients: dict[str, Any] = {name: node.create_client(kind, f"{owner}/{name}") for name, (kind, owner) in kinds.items()}

    def close(self) -> None:
        """Ends the clients."""
        for each in self._clients.values():
            self._node.destroy_client(each)
        self._clients.clear()

    async def call(self, name: str, request: Any) -> Any:
        """The response of a service. RobotError: it is not there, or does not answer in time."""
        client: Any = self._clients.get(name)
        if client is None:
            raise RobotError("the page is not connected to the robot any more; reload it")
        end = time.monotonic() + READY_SECONDS
        while not client.service_is_ready():
            if time.monotonic() > end:
                raise RobotError(f"{client.srv_name} is not there: is the node running?")
            await asyncio.sleep(POLL_SECONDS)
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
        try:
            await asyncio.wait_for(done.wait(), ANSWER_SECONDS)
        except TimeoutError:
            client.remove_pending_request(future)
            raise RobotError(f"{client.srv_name} did not answer within {ANSWER_SECONDS:g} s") from None
        return future.result()


async def outcome_of(services: RobotServices | None, name: str, request: Any) -> Outcome:
    """The outcome of a service that answers with success and a message; RobotError becomes one."""
    try:
        if services is None:
            raise RobotError(UNCONNECTED)
        response = await services.call(name, request)
    except RobotError as error:
        return Outcome(False, str(error))
    return Outcome(bool(response.success), str(response.message))


async def heard_by_all(node: Node, publisher: Any, topic: str) -> None:
    """Waits until all subscribers of a topic hear a publisher. RobotError: there is none, or not in time."""
    end = time.monotonic() + READY_SECONDS
    wanted = node.count_subscribers(topic)
    while not 0 < wanted <= publisher.get_subscription_count():
        if time.monotonic() > end:
            raise RobotError(f"nobody listens to {topic}: are the nodes running?")
        await asyncio.sleep(POLL_SECONDS)
        wanted = node.count_subscribers(topic)


def request_of(command: str, value: Any) -> Any:
    """The request of a command. KeyError: there is no such command."""
    if command == "load":
        return LoadAdapter.Request(path=str(value))
    return {
        "use_frozen": lambda: SetBool.Request(data=bool(value)),
        "pause": lambda: SetBool.Request(data=bool(value)),
        **dict.fromkeys(("save", "rollback", "reset"), Trigger.Request),
    }[command]()
