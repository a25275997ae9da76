"""The settings of the nodes, without ROS: parameters, launch arguments, config files and the docs' table are made from these options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wesam_ros.adaptation.config import STEPS_PER_FRAME
from wesam_ros.data.detection_grid import grid_of
from wesam_ros.data.stamps import SLOP_SECONDS
from wesam_ros.engines import CHOICES
from wesam_ros.options import option, options, validate
from wesam_ros.scene import CARRY_FRAMES, PROPOSE_CHOICES, REFINE_CHOICES
from wesam_ros.scene.proposals_limits import region_of

MODELS = (
    "tiny", "vit_t", "vit_b", "vit_l", "vit_h", "sam2.1_hiera_tiny", "sam2.1_hiera_small", "sam2.1_hiera_base_plus", "sam2.1_hiera_large",
)  # fmt: skip
"""The models of wesam_ros.sam.architectures. They stand here so that launch files get by without torch; a test holds both together."""


@dataclass(frozen=True)
class InputParameters:
    """Parameters of both the segmenter and the adapter node: the model, and how inputs arrive and are synchronised."""

    model: str = option("tiny", "Segment Anything model", choices=MODELS, read_only=True)
    checkpoint: str = option("", "checkpoint file of the model; empty for the weights that the package ships (tiny only)", read_only=True)
    device: str = option(
        "auto",
        "torch device, such as cpu, cuda or cuda:1; auto: cuda where torch finds a GPU, else cpu; openvino:GPU or openvino:NPU: that of "
        "Intel for the engine openvino, and the CPU for torch",
        read_only=True,
    )
    torch_threads: int = option(
        0,
        "threads that torch uses; 0: half of the cores, since segmenter and adapter compute at the same time",
        minimum=0,
        maximum=256,
        read_only=True,
    )
    autostart: bool = option(True, "configure and activate at the start; false leaves that to a lifecycle manager", read_only=True)
    image_transport: str = option(
        "auto",
        "raw: sensor_msgs/Image on image; compressed: CompressedImage on image/compressed; auto: what is published, raw first",
        choices=("auto", "raw", "compressed"),
        read_only=True,
    )
    depth_transport: str = option(
        "auto",
        "raw: sensor_msgs/Image on depth; compressedDepth: CompressedImage on depth/compressedDepth; auto: what is published, raw first",
        choices=("auto", "raw", "compressedDepth"),
        read_only=True,
    )
    use_depth: bool = option(True, "subscribe to depth and camera_info", read_only=True)
    rectified: str = option(
        "auto",
        "whether the image is rectified: true takes P of camera_info, false K and D, whose distortion is then undone in 3D; auto: by the "
        "image's topic (image_rect), D and R",
        choices=("auto", "true", "false"),
    )
    lock_step: bool = option(
        False,
        "a player waits for each frame: a frame waits longer for its depth and camera_info, so that the outcome does not depend on timing",
        read_only=True,
    )
    ring_length: int = option(30, "images kept for detections that arrive later", minimum=1, maximum=1000, read_only=True)
    sync_slop: float = option(
        SLOP_SECONDS,
        "seconds by which the stamp of a depth may be off its image's; the nearest is taken; 0: equal stamps only",
        minimum=0.0,
        maximum=1.0,
        read_only=True,
    )
    join_wait: float = option(
        0.5,
        "seconds that a frame waits for its depth, and for a first camera_info; in lock step, 10: a player says what it does not send",
        minimum=0.0,
        maximum=60.0,
    )
    max_boxes: int = option(
        100, "objects segmented per image; of more, the best scored are taken and the others counted", minimum=1, maximum=1000
    )
    detections_size: str = option(
        "",
        "pixel grid of the detections' boxes where it is not the image's: width x height, and letterbox (bars around the image), corner "
        "(bars right and below) or stretch, such as 640x640 letterbox, or 1x1 stretch for shares of the image",
    )

    def __post_init__(self) -> None:
        validate(self)
        grid_of(self.detections_size)


@dataclass(frozen=True)
class SegmenterParameters(InputParameters):
    """Parameters of the segmenter node."""

    engine: str = option(
        "auto",
        "what computes the model; auto: the fastest of openvino, onnxruntime and torch on a CPU, where `wesam export` has been run, or "
        "tensorrt on a GPU, where `wesam doctor` has built it, if it is installed and its masks agree with torch, and torch elsewhere; a "
        "name: that one or none",
        choices=CHOICES,
        read_only=True,
    )
    adapter: str = option("", "adapter file (safetensors) to start from; empty starts with the frozen model", read_only=True)
    use_frozen: bool = option(
        False, "segment with the frozen model; adapters are still received (the service ~/use_frozen sets it as well)"
    )
    refine: str = option(
        "all",
        "witnesses that decide the masks beside the model: off, none; boxes, the prompts and the other objects; depth, these and depth; "
        "all, all there are",
        choices=REFINE_CHOICES,
    )
    carry_frames: int = option(
        CARRY_FRAMES,
        "frames in succession for which an object that the detector misses is served by its mask of the frames before, and no more than it "
        "was detected in; such objects have track in their source; 0: none",
        minimum=0,
        maximum=1000,
    )
    propose: str = option(
        "off",
        "things that no detector asked for: off, none; missing, those that the detections leave out; all, everything in each image: "
        "detections are not subscribed to",
        choices=PROPOSE_CHOICES,
        read_only=True,
    )
    propose_rate: float = option(
        2.0, "images a second that proposals are made for, at most; 0: each one; in lock step, each one", minimum=0.0, maximum=100.0
    )
    propose_region: str = option(
        "", "only things mostly within: x0 y0 x1 y1 of a box, or x y of three corners or more, in pixels of the image; empty for all of it"
    )
    propose_least_pixels: int = option(80, "pixels of the image that a proposed thing must have", minimum=1, maximum=10_000_000)
    propose_lowest: float = option(
        0.0, "metres above the surface over which a proposed thing's top must lie, where there is depth", minimum=0.0, maximum=10.0
    )
    propose_highest: float = option(1.0, "metres above the surface up to which it may lie", minimum=0.001, maximum=10.0)
    keep_beside: str = option(
        "",
        "adapter file beside which it is kept, in a file of its name with .use_frozen, that the frozen model was chosen while the node "
        "ran: a restarted node serves it again; empty keeps nothing",
        read_only=True,
    )
    oriented_boxes: bool = option(
        True,
        "objects have an oriented box beside centroid and extent; false spares some 2 ms a frame, while nobody listens to detections_3d",
    )
    target_frame: str = option(
        "", "frame of centroid, extent, boxes and points, where TF has it; empty for the camera's optical frame", read_only=True
    )
    fixed_frame: str = option(
        "",
        "frame that does not move with the camera, such as map, odom, or the base of an arm that stands still: with depth and TF, things "
        "that were covered or out of sight keep their ids by their places in it; empty: by image motion",
        read_only=True,
    )
    tf_wait: float = option(0.1, "seconds to wait for the transform at the image's stamp", minimum=0.0, maximum=10.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        region_of(self.propose_region)
        if self.propose_lowest >= self.propose_highest:
            raise ValueError(f"propose_lowest must be below propose_highest, but got {self.propose_lowest} and {self.propose_highest}")


@dataclass(frozen=True)
class AdapterParameters(InputParameters):
    """Parameters of the adapter node; those of the method itself are declared as adaptation.<name>."""

    namespaces: str = option(
        "",
        "namespaces of the robots whose frames are learnt from, separated by commas, such as /robot1,/robot2; empty for the node's own",
        read_only=True,
    )
    steps_per_frame: int = option(STEPS_PER_FRAME, "training steps after each frame", minimum=0, maximum=1000)
    save_to: str = option(
        "", "file that each published adapter is saved to, and that a restarted node goes on from; empty saves nothing", read_only=True
    )
    save_minutes: float = option(
        10.0,
        "minutes between two savings of the training's state (frames, optimizer) beside save_to, which a restarted node resumes; saved at "
        "the end as well; 0 neither saves nor resumes it",
        minimum=0.0,
        maximum=10_000.0,
    )
    questions: int = option(
        0,
        "questions to a person that wait at a time, on ~/questions: the objects on which an answer would teach most; 0 looks for none",
        minimum=0,
        maximum=50,
    )
    seed: int = option(0, "seed of everything random in the training", minimum=0, maximum=2**31 - 1, read_only=True)


@dataclass(frozen=True)
class PlayerParameters:
    """Parameters of the player."""

    bag: str = option("", "the recording: an MCAP, sqlite3 or ROS 1 file, or a folder of a rosbag2 recording", read_only=True)
    rate: float = option(0.0, "frames per second; 0 as recorded", minimum=0.0, maximum=1000.0, read_only=True)
    loop: bool = option(False, "start again at the end", read_only=True)
    lock_step: bool = option(False, "wait for the segmenter's and the adapter's answer to each frame", read_only=True)
    sync_slop: float = option(
        SLOP_SECONDS, "as of the nodes: the depth that is sent with an image", minimum=0.0, maximum=1.0, read_only=True
    )
    timeout: float = option(
        120.0, "seconds to wait for the nodes to subscribe, and in lock step for each answer", minimum=0.1, maximum=86400.0, read_only=True
    )
    image_topic: str = option("", "the recording's colour image; empty takes the only one there is, or the one named color", read_only=True)
    depth_topic: str = option("", "the recording's depth image; empty takes the only one there is; none sends none", read_only=True)
    camera_info_topic: str = option(
        "", "the recording's camera_info; empty takes the only one there is, or the one named color", read_only=True
    )
    detections_topic: str = option("", "the recording's vision_msgs/Detection2DArray; empty and none as above", read_only=True)
    prompts_topic: str = option("", "the recording's wesam_ros/Prompts; empty and none as above", read_only=True)

    def __post_init__(self) -> None:
        validate(self)


LAUNCH_ARGUMENTS = (
    "model", "checkpoint", "device", "engine", "image_transport", "depth_transport", "sync_slop", "rectified", "detections_size",
    "target_frame", "seed", "lock_step", "propose",
)  # fmt: skip
"""Parameters that launch/adapt.launch.py has arguments for, by the same name."""
SET_BY_ADAPTER_FILE = ("keep_beside", "save_to")
"""Parameters that it sets to its argument adapter_file."""


def launch_argument(name: str) -> dict[str, Any]:
    """Default, choices and text of the launch argument for a parameter of either node, for launch.actions.DeclareLaunchArgument."""
    each = next(each for cls in (SegmenterParameters, AdapterParameters) for each in options(cls) if each.name == name)
    if each.type is bool:
        return {"default_value": str(each.default).lower(), "choices": ["true", "false"], "description": each.doc}
    return {"default_value": str(each.default), "choices": each.choices, "description": each.doc}
