"""The model as torch and as ONNX Runtime compute it: one interface, export, and the gate that an engine has to pass."""

CHOICES = ("auto", "torch", "onnxruntime")
"""What can be asked for by name; `selection.create_engine` says what each means."""
