"""The engines that compute the model: torch, eager or compiled, ONNX Runtime, TensorRT; export, and the parity gate."""

CHOICES = ("auto", "torch", "compiled", "onnxruntime", "tensorrt")
"""The names to ask for; `selection.create_engine` explains them."""
