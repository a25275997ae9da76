"""An adapter in the formats of other tools, and adapters of theirs in ours."""

LOW_RANK = ("loralib", "peft")
"""Formats of adapters, which are read, too."""
FORMATS = ("checkpoint", "onnx", "triton", "transformers", *LOW_RANK)
"""All that an adapter can leave in; `formats.hand_over` explains them."""
