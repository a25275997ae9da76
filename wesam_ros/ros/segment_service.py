"""The service ~/segment: one image that need not be on the image topic."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from wesam_ros.ros.frame_request import FrameRequest, from_service
from wesam_ros.ros.intake import Intake
from wesam_ros.ros.object_output import ObjectOutput, SegmentedFrame
from wesam_ros.ros.parameters import Declared
from wesam_ros.settings import SegmenterParameters
from wesam_ros.srv import Segment


class SegmentService:
    """Has a request segmented in the worker thread, between two frames, by the function that segments these.

    Args:
        node: the owner of the service.
        declared: its parameters.
        intake: its worker.
        segment: the function; with True it takes the frozen model.
        output: fills the response.
    """

    def __init__(
        self,
        node: Node,
        declared: Declared[SegmenterParameters],
        intake: Intake,
        segment: Callable[[FrameRequest, bool], SegmentedFrame],
        output: ObjectOutput,
    ) -> None:
        self._declared, self._intake, self._segment, self._output = declared, intake, segment, output
        # A group of its own: its callback waits for the worker, and nothing else may wait for it.
        node.create_service(Segment, "~/segment", self._serve, callback_group=ReentrantCallbackGroup())

    async def _serve(self, request: Segment.Request, response: Segment.Response) -> Segment.Response:
        try:
            await self._intake.call(lambda: self._answer(request, response))
        except Exception as error:
            response.success, response.message = False, str(error)
        return response

    def _answer(self, request: Segment.Request, response: Segment.Response) -> None:
        parameters = self._declared.value
        self._output.fill(response, self._segment(from_service(request, parameters.max_boxes, parameters.rectified), request.frozen))
