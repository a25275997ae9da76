"""Segmenter and adapter on the topics of a camera and a detector, or on a recording.

    ros2 launch wesam_ros adapt.launch.py image:=/camera/color/image_raw depth:=/camera/depth/image_raw \\
        camera_info:=/camera/color/camera_info detections:=/detections adapter_file:=table.safetensors

Without a detector give propose:=all.

`--show-args` lists all arguments. `image` and `depth` are base names: the nodes subscribe to <image> or <image>/compressed, and to <depth>
or <depth>/compressedDepth, whichever is published. With bag:=table.mcap the recording is played to them on these names.
"""

from __future__ import annotations

from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import (
    EqualsSubstitution,
    IfElseSubstitution,
    LaunchConfiguration,
    NotEqualsSubstitution,
    PathJoinSubstitution,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from wesam_ros.settings import LAUNCH_ARGUMENTS, launch_argument

TOPICS = {
    "image": "colour image",
    "depth": "depth image, registered to the colour image",
    "camera_info": "CameraInfo of the colour image",
    "detections": "vision_msgs/Detection2DArray of the detector, or Detection3DArray",
    "prompts": "wesam_ros/Prompts: points and coarse masks",
}

PATIENCE = "40"
"""Seconds that a node has to end: a training step is finished, and the adapter saved."""
RESPAWN_DELAY = 0.5
"""Seconds after which a node that died is started again."""
WRONG_SETTINGS = 2
"""Exit status of a node that cannot be configured with its settings (wesam_ros/ros/process.py): it would end so each time."""


def arguments() -> list[DeclareLaunchArgument]:
    return [
        *(DeclareLaunchArgument(name, default_value=name, description=f"topic: {text}") for name, text in TOPICS.items()),
        *(DeclareLaunchArgument(name, **launch_argument(name)) for name in LAUNCH_ARGUMENTS),
        DeclareLaunchArgument(
            "adapter_file",
            default_value="",
            description="adapter file to go on from, where it exists, and to save each new adapter to; "
            "empty starts with the frozen model and saves nothing",
        ),
        DeclareLaunchArgument(
            "config",
            default_value=PathJoinSubstitution([FindPackageShare("wesam_ros"), "config", "nodes.yaml"]),
            description="file of the nodes' further parameters; arguments of this launch file count more than what it says",
        ),
        DeclareLaunchArgument(
            "respawn",
            default_value="true",
            choices=["true", "false"],
            description="start a node that died again, unless a setting is wrong; the adapter node goes on from adapter_file, so give one",
        ),
        DeclareLaunchArgument(
            "web",
            default_value="false",
            choices=["true", "false"],
            description="serve a page to watch with, on 127.0.0.1 (needs the extra web)",
        ),
        DeclareLaunchArgument("bag", default_value="", description="recording to play: an MCAP file or a rosbag2 folder; empty plays none"),
    ]


def generate_launch_description() -> LaunchDescription:
    names = ("image_transport", "depth_transport", "rectified", "detections_size", "model", "checkpoint", "device")
    common = {name: text(name) for name in names}
    common["lock_step"] = ParameterValue(LaunchConfiguration("lock_step"), value_type=bool)
    common["sync_slop"] = ParameterValue(LaunchConfiguration("sync_slop"), value_type=float)
    # Without a detector the adapter learns from what the segmenter proposes.
    learnt = IfElseSubstitution(
        EqualsSubstitution(LaunchConfiguration("propose"), "all"), "segmenter/proposals", LaunchConfiguration("detections")
    )
    remappings = [(name + suffix, [LaunchConfiguration(name), suffix]) for name in TOPICS for suffix in suffixes(name)]
    kept_alive: dict[str, Any] = {"respawn": LaunchConfiguration("respawn"), "respawn_delay": RESPAWN_DELAY, "on_exit": stay_down}
    segmenter = Node(
        package="wesam_ros",
        executable="segmenter",
        name="segmenter",
        output="screen",
        sigterm_timeout=PATIENCE,
        **kept_alive,
        remappings=remappings,
        parameters=[
            LaunchConfiguration("config"),
            common | {name: text(name) for name in ("engine", "target_frame", "propose")} | {"keep_beside": text("adapter_file")},
        ],
    )
    adapter = Node(
        package="wesam_ros",
        executable="adapter",
        name="adapter",
        output="screen",
        sigterm_timeout=PATIENCE,
        **kept_alive,
        remappings=[("detections", learnt), *(each for each in remappings if each[0] != "detections")],
        parameters=[
            LaunchConfiguration("config"),
            common | {"save_to": text("adapter_file"), "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int)},
        ],
    )
    player = Node(
        package="wesam_ros",
        executable="player",
        name="player",
        output="screen",
        condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("bag"), "")),
        remappings=remappings,
        parameters=[{"bag": text("bag"), **{name: common[name] for name in ("lock_step", "sync_slop")}}],
    )
    # A plain process: it takes no ROS arguments, and asks the graph for the topics' names.
    web = ExecuteProcess(
        cmd=[ExecutableInPackage(executable="wesam", package="wesam_ros"), "web", "--image", LaunchConfiguration("image")],
        name="web",
        output="screen",
        condition=IfCondition(LaunchConfiguration("web")),
    )
    return LaunchDescription([*arguments(), segmenter, adapter, player, web])


def stay_down(event: ProcessExited, _: LaunchContext) -> list[EmitEvent]:
    """Keeps a node from being started again where that would be of no use; called at its end."""
    if event.returncode != WRONG_SETTINGS:
        return []
    return [EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action)))]


def text(name: str) -> ParameterValue:
    """The argument `name` as a string parameter, also where it reads like a number or a boolean."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def suffixes(topic: str) -> tuple[str, ...]:
    """Suffixes that the nodes append to a topic's name for the transports that it may come by; ROS remaps whole names only."""
    return {"image": ("", "/compressed"), "depth": ("", "/compressedDepth")}.get(topic, ("",))
