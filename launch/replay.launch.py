"""A recording in; an adapter file and a report out.

    ros2 launch wesam_ros replay.launch.py bag:=table.mcap out:=out/table

Plays the recording through the segmenter and the adapter, in a ROS graph of its own, and writes into the folder `out`:
adapter.safetensors, report.html, summary.json and the nodes' logs. The same as `wesam run`, which has more options.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

TOPICS = ("image_topic", "depth_topic", "camera_info_topic", "detections_topic", "prompts_topic", "labels_topic")
PASSED_ON = ("out", "model", "checkpoint", "device", "seed", *TOPICS)
PATIENCE = "40"
"""Seconds that it has to end: both nodes finish what they are at."""


def arguments() -> list[DeclareLaunchArgument]:
    return [
        DeclareLaunchArgument("bag", description="recording: an MCAP file or a rosbag2 folder with images, and detections or prompts"),
        DeclareLaunchArgument("out", default_value="out/run", description="folder for the adapter file, the report and the logs"),
        DeclareLaunchArgument(
            "model", default_value="tiny", choices=["tiny", "vit_t", "vit_b", "vit_l", "vit_h"], description="Segment Anything model"
        ),
        DeclareLaunchArgument(
            "checkpoint", default_value="", description="checkpoint file of the model; empty for the weights in the package (tiny only)"
        ),
        DeclareLaunchArgument("device", default_value="cpu", description="torch device: cpu, cuda, cuda:1, ..."),
        DeclareLaunchArgument("adapter_file", default_value="", description="adapter file to start from; empty for the frozen model"),
        DeclareLaunchArgument("seed", default_value="0", description="seed of everything random in the training"),
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
    command = [ExecutableInPackage(executable="wesam", package="wesam_ros"), "run", given["bag"], *options]
    return [ExecuteProcess(cmd=command, name="wesam_run", output="screen", sigterm_timeout=PATIENCE)]
