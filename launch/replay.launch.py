"""A recording in; an adapter file and a report out.

    ros2 launch wesam_ros replay.launch.py bag:=table.mcap out:=out/table

Plays the recording through the segmenter and the adapter, in a ROS graph of its own, and writes into the folder `out`:
adapter.safetensors, report.html, summary.json and the nodes' logs. The same as `wesam replay`, which has more options.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from wesam_ros.settings import launch_argument

TOPICS = ("image_topic", "depth_topic", "camera_info_topic", "detections_topic", "prompts_topic", "labels_topic")
SETTINGS = ("model", "checkpoint", "device", "engine", "max_boxes", "sync_slop", "rectified", "detections_size", "steps_per_frame", "seed")
PASSED_ON = ("out", *SETTINGS, *TOPICS)
PATIENCE = "40"
"""Seconds that it has to end: both nodes finish what they are at."""


def arguments() -> list[DeclareLaunchArgument]:
    return [
        DeclareLaunchArgument("bag", description="recording: an MCAP file or a rosbag2 folder with images, and detections or prompts"),
        DeclareLaunchArgument("out", default_value="out/replay", description="folder for the adapter file, the report and the logs"),
        *(DeclareLaunchArgument(name, **launch_argument(name)) for name in SETTINGS),
        DeclareLaunchArgument("adapter_file", default_value="", description="adapter file to start from; empty for the frozen model"),
        DeclareLaunchArgument(
            "lock_step",
            default_value="true",
            choices=["true", "false"],
            description="wait for both nodes after each frame: every frame is learnt from, and the outcome is reproducible; "
            "false plays as recorded",
        ),
        *(
            DeclareLaunchArgument(name, default_value="", description="of the recording; empty: found by type; none: left out")
            for name in TOPICS
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*arguments(), OpaqueFunction(function=replay)])


def replay(context: LaunchContext) -> list[ExecuteProcess]:
    """The process that does it; its options depend on what was given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in (*PASSED_ON, "bag", "adapter_file", "lock_step")}
    options = [f"--{name.replace('_', '-')}={given[name]}" for name in PASSED_ON]
    if given["adapter_file"]:
        options.append(f"--adapter={given['adapter_file']}")
    if given["lock_step"] == "true":
        options.append("--lock-step")
    command = [ExecutableInPackage(executable="wesam", package="wesam_ros"), "replay", given["bag"], *options]
    return [ExecuteProcess(cmd=command, name="wesam_replay", output="screen", sigterm_timeout=PATIENCE)]
