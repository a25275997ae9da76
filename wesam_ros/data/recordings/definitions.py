"""Messages whose definition in a recording differs from ours: read by the recording's own, and made anew by ours.

Recordings of other ROS distributions have other fields under the same type: vision_msgs changed between noetic, Foxy and Galactic
(ros-perception/vision_msgs, branches noetic-devel, foxy, galactic, ros2), and a noetic bag is not CDR at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wesam_ros.data.recordings import messages

CDR, ROS1 = "cdr", "ros1"
NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")
FOXY = {
    "vision_msgs/msg/ObjectHypothesisWithPose": "string id\nfloat64 score\ngeometry_msgs/PoseWithCovariance pose",
    "vision_msgs/msg/BoundingBox2D": "geometry_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\n"
        "sensor_msgs/Image source_img\nbool is_tracking\nstring tracking_id"
    ),
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}
"""vision_msgs 2. Recordings before Iron hold no definitions in sqlite3, so that only the bytes tell it from Humble's."""

Translation = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Channel:
    """A topic of a recording's file, as one publisher wrote it.

    Attributes:
        key: its number in the file.
        topic: its name.
        msgtype: "package/msg/Name".
        definition: the text of its type, as it was recorded.
        encoding: "cdr", "ros1", or what another tool wrote, such as "json".
        count: messages on it.
    """

    key: int
    topic: str
    msgtype: str
    definition: MessageDefinition
    encoding: str
    count: int


def type_of(name: str) -> str:
    """ "package/msg/Name" of a type as ROS 1, and the first ROS 2, name it: "package/Name"."""
    package, _, rest = name.partition("/")
    return f"{package}/msg/{rest}" if rest and "/" not in rest else name


def translation(channel: Channel) -> Translation | None:
    """The function that makes CDR bytes of our definition of a channel's messages; None where they are that already.

    Types that are not ours are left as they are, if they are CDR. The function raises ValueError for bytes that are not of the type.
    """
    ours = messages.typestore()
    if channel.encoding == CDR and channel.msgtype not in ours.types:
        return None
    if channel.encoding not in (CDR, ROS1):
        return None
    own = _store_of(channel.msgtype, channel.definition)
    if channel.encoding == ROS1:
        return None if own is None else _checked(_from_ros1(own, channel.msgtype))
    if own is None:
        return _checked(_told_by_bytes) if channel.msgtype == messages.DETECTIONS else None
    if _layout(own, channel.msgtype) == _layout(ours, channel.msgtype):
        return None
    return _checked(lambda data: _made_anew(own.deserialize_cdr(data, channel.msgtype), channel.msgtype))


def _checked(function: Translation) -> Translation:
    def call(data: bytes) -> bytes:
        try:
            return function(data)
        except Exception as error:  # rosbags raises many kinds for damaged bytes
            raise ValueError(f"bytes are not of the recorded type ({type(error).__name__}: {error})") from error

    return call


def _from_ros1(own: Typestore, msgtype: str) -> Translation:
    ours = messages.typestore()
    if msgtype not in ours.types:
        raise_type = f"{msgtype} of ROS 1 is no type of this package"

        def refuse(_: bytes) -> bytes:
            raise ValueError(raise_type)

        return refuse
    return lambda data: _made_anew(own.deserialize_ros1(data, msgtype), msgtype)


def _made_anew(value: Any, msgtype: str) -> bytes:
    return messages.serialize(_as_ours(value, msgtype))


def _told_by_bytes(data: bytes) -> bytes:
    """Detections without a recorded definition: ours where the bytes are written back as they were, else Foxy's likewise."""
    try:
        if bytes(messages.serialize(messages.deserialize(data, messages.DETECTIONS))) == bytes(data):
            return data
    except Exception:  # another definition leads to any kind of error
        pass
    foxy = _foxy()
    try:
        value = foxy.deserialize_cdr(data, messages.DETECTIONS)
    except Exception:  # neither: left to be refused when it is read
        return data
    return _made_anew(value, messages.DETECTIONS)


@lru_cache(maxsize=1)
def _foxy() -> Typestore:
    store = get_typestore(Stores.ROS2_FOXY)
    fresh = get_typestore(Stores.EMPTY)
    fresh.register({name: fields for name, fields in store.fielddefs.items() if not name.startswith("vision_msgs/")})
    for name, text in FOXY.items():
        fresh.register(get_types_from_msg(text, name))
    return fresh


@lru_cache(maxsize=256)
def _store_of(msgtype: str, definition: MessageDefinition) -> Typestore | None:
    """The types of a recorded definition; None where there is none, or it cannot be parsed."""
    if definition.format == MessageDefinitionFormat.NONE:
        return None
    try:
        if definition.format == MessageDefinitionFormat.MSG:
            types = get_types_from_msg(definition.data, msgtype)
        else:
            types = {}
            for part in definition.data.split("=" * 80 + "\n"):
                if text := part.split("\n", 1)[1] if part.startswith("IDL: ") else part:
                    types |= get_types_from_idl(text)
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        store.get_msgdef(msgtype)
    except Exception:  # the parser raises many kinds
        return None
    return store


def _layout(store: Typestore, msgtype: str) -> tuple[Any, ...]:
    """The primitive values of a type in the order in which CDR has them: types of one layout have the same bytes."""
    return tuple(value for _, each in store.fielddefs[msgtype][1] for value in _flat(store, each))


def _flat(store: Typestore, description: Any) -> tuple[Any, ...]:
    node, inner = description
    if node == Nodetype.NAME:
        return _layout(store, inner)
    if node in (Nodetype.SEQUENCE, Nodetype.ARRAY):
        return ((node.name, _flat(store, inner[0]), inner[1] if node == Nodetype.ARRAY else 0),)
    return (inner[0],)


def _as_ours(value: Any, msgtype: str) -> Any:
    """Our message of the fields of another: by their names, in any case (ROS 1's CameraInfo has K); what is missing is 0 or empty."""
    store = messages.typestore()
    given = {name.lower(): each for name, each in _VIEWS.get(msgtype, _fields)(value).items()}
    values = {}
    for name, description in store.fielddefs[msgtype][1]:
        values[name] = _value(given.get(name.lower()), description)
    return store.types[msgtype](**values)


def _fields(value: Any) -> Mapping[str, Any]:
    names = getattr(value, "__dataclass_fields__", None)
    if names is not None:
        return {name: getattr(value, name) for name in names if name != "__msgtype__"}
    return vars(value) if value is not None else {}


def _value(value: Any, description: Any) -> Any:
    node, inner = description
    if node == Nodetype.NAME:
        return _as_ours(value, inner)
    if node == Nodetype.BASE:
        if inner[0] == "string":
            return "" if value is None else str(value)
        return 0 if value is None else value
    kind, length = inner
    if kind[0] == Nodetype.NAME:
        return [_as_ours(each, kind[1]) for each in ([] if value is None else value)]
    if kind[1][0] == "string":
        return [str(each) for each in ([] if value is None else value)]
    size = length if node == Nodetype.ARRAY else 0
    array = np.zeros(size, kind[1][0]) if value is None else np.asarray(value).astype(kind[1][0])
    if node == Nodetype.ARRAY and array.size != size:
        raise ValueError(f"an array must have {size} values, but has {array.size}")
    return array


def _hypothesis_with_pose(value: Any) -> Mapping[str, Any]:
    """noetic and Foxy have the id, a number or a text, and the score beside the pose."""
    fields = _fields(value)
    if "hypothesis" in fields or "id" not in fields:
        return fields
    return {"hypothesis": SimpleNamespace(class_id=str(fields["id"]), score=fields["score"]), "pose": fields.get("pose")}


def _hypothesis(value: Any) -> Mapping[str, Any]:
    fields = dict(_fields(value))
    if "class_id" not in fields and "id" in fields:
        fields["class_id"] = str(fields["id"])
    return fields


def _pose(value: Any) -> Mapping[str, Any]:
    """geometry_msgs/Pose2D, which vision_msgs took until Galactic, has x and y right in it."""
    fields = _fields(value)
    return fields if "position" in fields or "x" not in fields else {"position": value, "theta": fields.get("theta")}


def _detection(value: Any) -> Mapping[str, Any]:
    """Foxy has the id of a track in place of one of the box."""
    fields = dict(_fields(value))
    if "id" not in fields and "tracking_id" in fields:
        fields["id"] = fields["tracking_id"]
    return fields


_VIEWS: dict[str, Callable[[Any], Mapping[str, Any]]] = {
    "vision_msgs/msg/ObjectHypothesisWithPose": _hypothesis_with_pose,
    "vision_msgs/msg/ObjectHypothesis": _hypothesis,
    "vision_msgs/msg/Pose2D": _pose,
    "vision_msgs/msg/Detection2D": _detection,
}
"""Fields of another definition under the names that ours has, by the type of ours."""
