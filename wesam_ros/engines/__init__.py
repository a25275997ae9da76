"""The engines that compute the model: torch, eager or compiled, OpenVINO, ONNX Runtime, TensorRT; export, and the parity gate."""

CHOICES = ("auto", "torch", "compiled", "openvino", "onnxruntime", "tensorrt")
"""The names to ask for; `selection.create_engine` explains them."""
