"""What computes the model: torch, eager or compiled, ONNX Runtime, or TensorRT; export, and the gate that an engine has to pass."""

CHOICES = ("auto", "torch", "compiled", "onnxruntime", "tensorrt")
"""What can be asked for by name; `selection.create_engine` says what each means."""
