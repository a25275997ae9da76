"""Segmented objects as messages of vision_msgs."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import Pose, PoseWithCovariance, Vector3
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    BoundingBox3D,
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)

from wesam_ros.data.detections import Detections
from wesam_ros.ros.objects import set_pose
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.geometry import Located

BACKGROUND = "background"
"""The class name of label 0."""


def detections_2d(header: Header, masks: Masks, detections: Detections) -> Detection2DArray:
    """The tight boxes of the masks, in pixels of the image; without the empty ones. Class, score and id are the detector's."""
    found = []
    for i, (rows, columns) in enumerate(masks.crops):
        if rows.stop > rows.start:
            middle = Point2D(x=(columns.start + columns.stop) / 2, y=(rows.start + rows.stop) / 2)
            box = BoundingBox2D(
                center=Pose2D(position=middle), size_x=float(columns.stop - columns.start), size_y=float(rows.stop - rows.start)
            )
            found.append(Detection2D(header=header, results=[_hypothesis(detections, i)], bbox=box, id=detections.ids[i]))
    return Detection2DArray(header=header, detections=found)


def detections_3d(header: Header, located: Sequence[Located | None], detections: Detections) -> Detection3DArray:
    """The oriented boxes of the objects that have one, in metres, in the frame of the header."""
    found = []
    for i, place in enumerate(located):
        if place is not None and place.box is not None:
            pose = Pose()
            set_pose(pose, place.box)
            x, y, z = place.box.size.tolist()
            box = BoundingBox3D(center=pose, size=Vector3(x=x, y=y, z=z))
            found.append(Detection3D(header=header, results=[_hypothesis(detections, i, pose)], bbox=box, id=detections.ids[i]))
    return Detection3DArray(header=header, detections=found)


def label_info(header: Header, detections: Detections) -> LabelInfo:
    """The class of each value of the label image: the detector's, else the object's id; 0 is the background. Masks have no threshold of
    confidence: 0."""
    names = [BACKGROUND] + [name or own for name, own in zip(detections.classes, detections.ids, strict=True)]
    return LabelInfo(header=header, class_map=[VisionClass(class_id=label, class_name=name) for label, name in enumerate(names)])


def _hypothesis(detections: Detections, row: int, pose: Pose | None = None) -> ObjectHypothesisWithPose:
    """Class and score of a detection; the pose is the box's, without a covariance."""
    hypothesis = ObjectHypothesis(class_id=detections.classes[row], score=float(detections.scores[row]))
    return ObjectHypothesisWithPose(hypothesis=hypothesis, pose=PoseWithCovariance(pose=pose or Pose()))
