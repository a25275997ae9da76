"""The model as torch, ONNX Runtime and TensorRT compute it: one interface, export, and the gate that an engine has to pass."""

CHOICES = ("auto", "torch", "onnxruntime", "tensorrt")
"""What can be asked for by name; `selection.create_engine` says what each means."""
