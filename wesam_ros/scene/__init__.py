"""The scene of a frame without the model: support surface, constraints on masks, refined masks, and places in space."""
