"""The scene of a frame without the model: support surface, constraints on masks, refined masks, and places in space."""

REFINE_CHOICES = ("off", "boxes", "depth", "all")
"""The witnesses that served masks are made of: the model alone; with prompts and the other objects; with depth as well; all there are."""
PROPOSE_CHOICES = ("off", "missing", "all")
"""The things without a prompt that are segmented as well: none, those that a detector leaves out, everything without a detector."""
CARRY_FRAMES = 10
"""Frames in succession for which an object is served that the detector misses."""
