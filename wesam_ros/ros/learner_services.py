"""The services of the adapter node: pause, resume, load, reset, save, rollback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from wesam_ros.adaptation.guard import ADMITTED
from wesam_ros.ros.adapter_output import AdapterOutput
from wesam_ros.ros.intake import Intake
from wesam_ros.ros.learning import Learning
from wesam_ros.ros.parameters import Declared
from wesam_ros.ros.persisted_flag import PersistedFlag
from wesam_ros.ros.saving import LearnerFiles
from wesam_ros.sam.adapter import Adapter
from wesam_ros.settings import AdapterParameters
from wesam_ros.srv import LoadAdapter


class LearnerServices:
    """Serves an operator's requests to the training; each action runs in the worker thread, between two steps.

    Args:
        node: the owner of the services.
        declared: its parameters.
        intake: its worker.
        learning: is paused, and has the learner.
        output: publishes adapters.
        files: the saved adapter and state.
        pause_flag: outlives the process.
    """

    def __init__(
        self,
        node: Node,
        declared: Declared[AdapterParameters],
        intake: Intake,
        learning: Learning,
        output: AdapterOutput,
        files: LearnerFiles,
        pause_flag: PersistedFlag,
    ) -> None:
        self._declared, self._intake, self._learning = declared, intake, learning
        self._output, self._files, self._flag, self._log = output, files, pause_flag, node.get_logger()
        group = ReentrantCallbackGroup()  # they wait for the worker; nothing else may wait for them
        node.create_service(SetBool, "~/pause", self._on_pause, callback_group=group)
        node.create_service(Trigger, "~/resume", self._on_resume, callback_group=group)
        node.create_service(LoadAdapter, "~/load", self._on_load, callback_group=group)
        for name, action in (("reset", self.reset), ("save", self.save), ("rollback", self.roll_back)):
            node.create_service(Trigger, f"~/{name}", self._answering(action), callback_group=group)

    def pause(self, paused: bool) -> None:
        """Pauses learning, or has it go on; also in the next process."""
        if paused != self._learning.paused:
            self._log.info("learning is paused" if paused else "learning goes on")
        self._learning.paused = paused
        self._flag.keep(paused)

    def reset(self) -> str:
        """Publishes an untrained adapter, and forgets all frames."""
        self._files.forget()  # first: a kill, or a full disk, must not bring the forgotten frames back
        self._output.publish(self._learning.start_anew())
        if self._declared.value.save_minutes:
            self._files.keep_state(self._learning.running())
        return f"starts anew; version {self._output.version} equals the frozen model"

    def roll_back(self) -> str:
        """Publishes the adapter before the last one again. ValueError: there is none."""
        self._output.publish(self._learning.running().rollback())
        return f"rolled back: version {self._output.version} is the one before the last"

    def save(self) -> str:
        """Saves adapter and state now. ValueError: there is no file to save to; OSError: it cannot be written."""
        return self._files.save(self._learning.running(), self._declared.value.save_minutes)

    def load(self, path: Path) -> str:
        """Publishes an adapter from elsewhere, unless it is worse than the published one. ValueError: it is, or the file cannot be used."""
        learner = self._learning.running()
        adapter = Adapter.load(path, for_sam=learner.sam)
        proposal = learner.consider(adapter)
        if proposal.adapter is None:
            self._learning.reject(proposal.decision, f", of {path}")
            raise ValueError(f"{path} is rejected: {proposal.decision}; version {self._output.version} stays")
        self._output.publish(proposal.adapter)
        judged = "not worse than the one before" if proposal.decision.code == ADMITTED else "unjudged: there are no validation frames yet"
        return f"version {adapter.version} of {path} is published as version {self._output.version}, {judged}"

    async def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.pause(request.data)
        response.success, response.message = True, "paused" if request.data else "learning"
        if request.data and self._intake.worker is not None:  # answered after the step or publication at hand: nothing follows
            await self._answer(lambda: "paused", response)
        return response

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.pause(False)
        response.success, response.message = True, "learning"
        return response

    async def _on_load(self, request: LoadAdapter.Request, response: LoadAdapter.Response) -> LoadAdapter.Response:
        await self._answer(lambda: self.load(Path(request.path).expanduser()), response)
        return response

    def _answering(self, action: Callable[[], str]) -> Callable[[Any, Any], Any]:
        async def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            await self._answer(action, response)
            return response

        return answer

    async def _answer(self, action: Callable[[], str], response: Any) -> None:
        """Fills success and message of a response with the sentence that `action` returns, or raises, in the worker thread."""
        try:
            response.message = await self._intake.call(action)
            response.success = True
        except Exception as error:
            response.success, response.message = False, str(error)
        self._log.info(f"a service was called: {response.message}")
