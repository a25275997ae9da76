"""TF of the graph: a buffer that /tf and /tf_static fill."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from wesam_ros.data.transforms import TransformBuffer

QUEUE = 100
"""Messages kept of /tf and /tf_static, as tf2 does."""
STATIC = QoSProfile(depth=QUEUE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Of /tf_static: who comes later hears them, too."""


def listen_to_transforms(node: Node) -> TransformBuffer | None:
    """A buffer of the transforms that `node` hears from now on; None where tf2_msgs is not installed. For the executor's thread."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    buffer = TransformBuffer()
    node.create_subscription(TFMessage, "/tf", lambda message: buffer.add(message.transforms, static=False), QUEUE)
    node.create_subscription(TFMessage, "/tf_static", lambda message: buffer.add(message.transforms, static=True), STATIC)
    return buffer
