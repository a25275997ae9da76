"""The model: checkpoints, preprocessing, prompts and masks as values, LoRA."""

from wesam_ros.sam.adapter import Adapter, AdapterError, base_hash
from wesam_ros.sam.checkpoints import CheckpointError, load_sam
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.preprocessing import preprocess, upscale
from wesam_ros.sam.prompts import Prompt, PromptError, Prompts

__all__ = [
    "Adapter",
    "AdapterError",
    "CheckpointError",
    "Masks",
    "Prompt",
    "PromptError",
    "Prompts",
    "base_hash",
    "load_sam",
    "preprocess",
    "upscale",
]
