"""The encoder of convolutions and attention: shapes, size, the published weights folded into it, adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from wesam_ros.pretraining.trunk import convert, read_trunk
from wesam_ros.sam.architectures import ARCHITECTURES
from wesam_ros.sam.hybrid_encoder import STAGES, STEM, SameConv2d, Trunk
from wesam_ros.sam.lora import adapted, adapter_shape, prepare
from wesam_ros.sam.predictor import Encoder
from wesam_ros.sam.preprocessing import normalize


class PublishedBlock(nn.Module):
    """A block as efficientnet_lite_pytorch has it: convolutions without bias, each followed by batch normalisation."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = width * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(width, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._project_conv = nn.Conv2d(hidden, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=1e-3)
        self.residual = stride == 1 and width == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = functional.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        hidden = functional.relu6(self._bn1(self._depthwise_conv(_same(hidden, self._depthwise_conv))))
        hidden = self._bn2(self._project_conv(hidden))
        return x + hidden if self.residual else hidden


class Published(nn.Module):
    """The network below the classifier, with the published names."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, eps=1e-3)
        blocks, width = [], STEM
        for count, kernel, stride, expansion, out in STAGES:
            for index in range(count):
                blocks.append(PublishedBlock(out if index else width, out, kernel, 1 if index else stride, expansion))
            width = out
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(_same(x, self._conv_stem))))
        for block in self._blocks:
            x = block(x)
        return x


def _same(x: torch.Tensor, convolution: nn.Conv2d) -> torch.Tensor:
    """TensorFlow's padding: of an odd number of pixels, one more after than before."""
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    total = max(0, (-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1])
    return functional.pad(x, (total // 2, total - total // 2) * 2)


def test_folded_weights_compute_what_the_published_network_does() -> None:
    """On pixels as each of them takes them, away from the image's edge, where padding is of another colour."""
    torch.manual_seed(0)
    published, trunk = Published().eval(), Trunk().eval()
    for module in published.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    trunk.load_state_dict(convert(published.state_dict()))
    pixels = torch.randint(0, 256, (1, 3, 64, 96)).float()
    with torch.inference_mode():
        stem = functional.relu6(published._bn0(published._conv_stem(_same((pixels - 127) / 128, published._conv_stem))))
        own = functional.relu6(trunk.stem(normalize(pixels, 96)[..., :64, :]))
        torch.testing.assert_close(own[..., 1:-1, 1:-1], stem[..., 1:-1, 1:-1], atol=1e-4, rtol=1e-4)
        x = y = stem
        for block in published._blocks:
            x = block(x)
        for stage in trunk.stages:
            y = stage(y)
    torch.testing.assert_close(y, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_kernel_with_zeros_before_it_pads_as_tensorflow_does(kernel: int) -> None:
    convolution, plain = SameConv2d(2, 2, kernel, 2, groups=2), nn.Conv2d(2, 2, kernel, 2, groups=2)
    with torch.no_grad():
        convolution.weight.copy_(functional.pad(plain.weight, (1, 0, 1, 0)))
        convolution.bias.copy_(plain.bias)
    x = torch.randn(1, 2, 12, 16)
    padded = functional.pad(x, ((kernel - 2) // 2, (kernel - 1) // 2) * 2)
    torch.testing.assert_close(convolution(x), plain(padded))


def test_size_and_shapes() -> None:
    with torch.device("meta"):
        sam = ARCHITECTURES["tiny"].build()
        embedding = sam.image_encoder(torch.empty(2, 3, 512, 512))
    assert embedding.shape == (2, 512, 32, 32)
    count = sum(value.numel() for value in sam.state_dict().values())
    assert count <= 8_000_000 and 2 * count <= 16_000_000


def test_an_adapter_changes_the_embedding_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    sam = ARCHITECTURES["tiny"].build()
    prepare(sam)
    inputs, outputs = adapter_shape(sam)
    pixels, low_rank = torch.randn(1, 3, 512, 512), (0.1 * torch.randn(2, inputs), 0.1 * torch.randn(outputs, 2))
    with torch.inference_mode():
        before = sam.image_encoder(pixels)
        with adapted(sam, low_rank):
            changed = sam.image_encoder(pixels)
        after = sam.image_encoder(pixels)
    assert (changed - before).abs().max() > 1e-3 and torch.equal(before, after)


def test_the_export_agrees_with_torch_in_single_and_in_half_precision(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from wesam_ros.engines.export import _export_graph
    from wesam_ros.engines.half_precision import to_half_precision
    from wesam_ros.engines.store import ENCODER, OPSET

    torch.manual_seed(0)
    sam = ARCHITECTURES["tiny"].build()
    prepare(sam)
    module, pixels = Encoder(sam), torch.randn(1, 3, 512, 512)
    count, outputs = adapter_shape(sam)
    a, b = torch.randn(4, count) / 14, torch.randn(outputs, 4) / 20
    rank = torch.export.Dim("rank", min=1, max=64)
    inputs, free = {"pixels": pixels, "a": a, "b": b}, {"pixels": {}, "a": {0: rank}, "b": {1: rank}}
    _export_graph(module, inputs, free, tmp_path / ENCODER, OPSET)
    to_half_precision(tmp_path / ENCODER, tmp_path / "half.onnx")
    with torch.inference_mode():
        expected = module(pixels, a, b)
    for name, tolerance in ((ENCODER, 1e-4), ("half.onnx", 2e-2)):
        session = onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=tolerance, rtol=tolerance)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"is not efficientnet-lite2-9656183e\.pth"):
        read_trunk(path)
