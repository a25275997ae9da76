"""Bad input to every codec, reader and loader: a value or the documented error, never anything else, never a hang, never gigabytes.

WESAM_FUZZ=5000 tries as many inputs of each kind; the number that was tried is printed at the end.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backports import zstd
from fuzz_inputs import CAMERA, JSON, METRES, NUMBERS, PLANE, RGB, SIZE, SIZES, Attempt, damaged
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from recorded import TOPICS, file_of
from recorded import write as write_recorded
from recorded_before import noetic
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from safetensors.torch import save as safetensors_save

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.state import pack, unpack
from wesam_ros.data import codecs
from wesam_ros.data.codecs import CodecError, RawImage
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import BagMessage, FrameMessages, bag_info, decode_frame, read_bag, write_bag
from wesam_ros.data.recordings.topics import BagError
from wesam_ros.data.requests import Request
from wesam_ros.engines.engine import EngineError
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER, MANIFEST, check, key_of, publish
from wesam_ros.sam import Adapter, AdapterError, Prompts, base_hash, load_sam
from wesam_ros.sam.adapter import EARLIER, FORMAT
from wesam_ros.sam.checkpoints import CheckpointError
from wesam_ros.sam.prompts import Prompt, PromptError


@st.composite
def raw_images(draw: st.DrawFn) -> RawImage:
    """The fields of an Image message, mostly inconsistent."""
    known = [*codecs.COLOUR_ENCODINGS, *codecs.DEPTH_ENCODINGS, *codecs.LABEL_ENCODINGS]
    encoding = draw(st.sampled_from([*known, "yuv422"]) | st.text(max_size=6))
    if draw(st.booleans()):
        height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
        step = width * draw(st.sampled_from([1, 2, 3, 4])) + draw(st.integers(0, 3))
        data = draw(st.binary(min_size=step * height, max_size=step * height))
    else:
        height, width, step, data = draw(SIZES), draw(SIZES), draw(SIZES), draw(st.binary(max_size=64))
    return RawImage(encoding, height, width, step, draw(st.integers(0, 1)), data)


@given(message=raw_images())
def test_raw_images(attempt: Attempt, message: RawImage) -> None:
    for decode in (codecs.decode_image, codecs.decode_depth, codecs.decode_labels):
        pixels = attempt(decode, message, refusal=CodecError)
        assert pixels is None or pixels.shape[:2] == (message.height, message.width)
        if decode is codecs.decode_depth and pixels is not None:
            assert np.isfinite(pixels).all()
            assert (pixels >= 0).all()


@pytest.mark.parametrize("whole", [codecs.encode_jpeg(RGB), codecs.encode_png(RGB), codecs.encode_png(PLANE)], ids=["jpeg", "png", "png16"])
@given(data=st.data())
def test_compressed_images(attempt: Attempt, whole: bytes, data: st.DataObject) -> None:
    bad = data.draw(damaged(whole))
    for decode in (codecs.decode_compressed_image, codecs.decode_compressed_labels):
        attempt(decode, bad, refusal=CodecError)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
@given(data=st.data())
def test_compressed_depth(attempt: Attempt, encoding: str, data: st.DataObject) -> None:
    name, whole = codecs.encode_compressed_depth(METRES, encoding)
    others = st.sampled_from(["", "png", "16UC1; compressedDepth rvl", "32FC1;compressedDepth"]) | st.text(max_size=12)
    name = data.draw(st.just(name) | others)
    metres = attempt(codecs.decode_compressed_depth, data.draw(st.just(whole) | damaged(whole)), name, refusal=CodecError)
    assert metres is None or (np.isfinite(metres).all() and (metres >= 0).all())


def test_a_small_file_that_says_it_is_a_large_image_is_refused() -> None:
    png = bytearray(codecs.encode_png(RGB))
    png[16:24] = (9000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    jpeg = bytearray(codecs.encode_jpeg(RGB))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = (9000).to_bytes(2, "big") * 2
    for data in (png, jpeg):
        with pytest.raises(CodecError, match="at most 67108864 pixels"):
            codecs.decode_compressed_image(bytes(data))


def serialised() -> dict[str, bytes]:
    """A valid message of each type that a recording holds."""
    found = Detections(np.array([[1, 2, 9, 9], [3, 3, 20, 20]], np.float32), ("a", "b"), ("cup", ""))
    image = codecs.encode_image(RGB)._asdict()
    pixels = np.frombuffer(image.pop("data"), np.uint8)
    raw = messages.typestore().types[messages.IMAGE](header=messages.header(5), data=pixels, **image)
    sent = (
        raw,
        messages.compressed_image(5, "jpeg", codecs.encode_jpeg(RGB)),
        messages.camera_info(5, CAMERA, SIZE),
        messages.detection_array(5, found),
        messages.prompt_array(5, Request(Prompts(SIZE, (Prompt(np.array([1, 2, 9, 9]), mask=PLANE > 500),)), found)),
    )
    return {each.__msgtype__: messages.serialize(each) for each in sent}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A short valid recording of each kind, by the suffix of its file."""
    folder = tmp_path_factory.mktemp("recordings")
    found = Detections(np.array([[1, 2, 9, 9]], np.float32))
    frames = [Frame(RGB, METRES, CAMERA, found, (PLANE // 10000).astype(np.uint16), stamp_ns=10**9 * (i + 1)) for i in range(3)]
    write_bag(folder / "a.mcap", frames)
    with Writer(folder / "b", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        for msgtype, data in serialised().items():
            writer.write(writer.add_connection("/" + msgtype.split("/")[-1], msgtype, typestore=messages.typestore()), 5, data)
    by_message = write_recorded(folder / "d", StoragePlugin.SQLITE3, CompressionMode.MESSAGE)
    files = {".mcap": folder / "a.mcap", ".db3": folder / "b" / "b.db3", ".bag": noetic(folder / "c.bag"), ".zstd.db3": file_of(by_message)}
    whole = {suffix: path.read_bytes() for suffix, path in files.items()}
    return {**whole, ".mcap.zst": zstd.compress(whole[".mcap"]), ".bag.gz": gzip.compress(whole[".bag"])}


@pytest.mark.parametrize("suffix", [".mcap", ".db3", ".zstd.db3", ".bag", ".mcap.zst", ".bag.gz"])
@given(data=st.data())
def test_recordings(
    attempt: Attempt, recordings: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(data.draw(damaged(recordings[suffix])))
    labels = data.draw(st.booleans())
    # The library reads as many bytes as a damaged length says: address space that is given back without having been touched.
    attempt(bag_info, path, refusal=BagError, may_ask=True)
    attempt(lambda: list(read_bag(path, labels=labels, detections_required=False)), refusal=BagError, may_ask=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A recording in a folder with its metadata, of each way to store and pack it."""
    root = tmp_path_factory.mktemp("folders")
    ways = [(plugin, mode) for plugin in StoragePlugin for mode in (None, CompressionMode.FILE, CompressionMode.MESSAGE)]
    return [write_recorded(root / str(number), *way) for number, way in enumerate(ways)]


@given(data=st.data())
def test_folders_of_recordings(attempt: Attempt, folders: list[Path], data: st.DataObject) -> None:
    folder = data.draw(st.sampled_from(folders))
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(whole)))
        attempt(bag_info, folder, refusal=BagError, may_ask=True)
        attempt(lambda: list(read_bag(folder, topics=TOPICS)), refusal=BagError, may_ask=True)
    finally:
        path.write_bytes(whole)


@given(data=st.data())
def test_messages_of_a_recording(attempt: Attempt, data: st.DataObject) -> None:
    sent = serialised()
    msgtype, whole = data.draw(st.sampled_from(sorted(sent.items())))
    message = BagMessage("/image", msgtype, 5, data.draw(damaged(whole)))
    attempt(decode_frame, FrameMessages(5, {"image": message}), refusal=BagError)
    attempt(lambda: message.stamp_ns, refusal=BagError)
    bad = BagMessage("/prompts", messages.PROMPTS, 5, data.draw(damaged(sent[messages.PROMPTS])))
    image = BagMessage("/image", messages.IMAGE, 5, sent[messages.IMAGE])
    attempt(decode_frame, FrameMessages(5, {"prompts": bad, "image": image}), refusal=BagError)


def boxes() -> st.SearchStrategy[np.ndarray]:
    """(n, 4) of any numbers."""
    return hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=NUMBERS)


@given(found=boxes(), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_boxes(attempt: Attempt, found: np.ndarray, size: tuple[int, int]) -> None:
    keep, reasons = attempt(Prompts.checked_boxes, found, size, refusal=PromptError)
    assert keep.tolist() == [reason is None for reason in reasons]
    kept = attempt(Prompts.from_boxes, found[keep], size, refusal=PromptError)
    assert kept is not None, "what was said to be good is refused"
    for each in kept.objects:
        assert ((each.box >= 0) & (each.box <= (size[1], size[0], size[1], size[0]))).all()
    if not keep.all():
        assert attempt(Prompts.from_boxes, found, size, refusal=PromptError) is None


@given(
    box=st.none() | hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=5), elements=NUMBERS),
    points=hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=4), elements=NUMBERS),
    labels=hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=1, min_side=0, max_side=4), elements=st.integers(-1, 2)),
    mask=st.none() | hnp.arrays(np.bool_, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)),
)
def test_prompts(attempt: Attempt, box: Any, points: Any, labels: Any, mask: Any) -> None:
    attempt(lambda: Prompts((6, 6), (Prompt(box, points, labels, mask),)), refusal=PromptError)


@pytest.fixture(scope="module")
def adapter(sam: Any) -> Adapter:
    return Adapter.untrained(sam, base_hash(sam), rank=2, seed=0)


@given(data=st.data())
def test_damaged_adapters(attempt: Attempt, sam: Any, adapter: Adapter, data: st.DataObject) -> None:
    attempt(Adapter.from_bytes, data.draw(damaged(adapter.to_bytes())), for_sam=sam, refusal=AdapterError)


@given(data=st.data())
def test_adapters_from_someone_else(attempt: Attempt, sam: Any, adapter: Adapter, data: st.DataObject) -> None:
    """Whole safetensors files with headers and tensors that no trainer of ours writes."""
    texts = st.text(max_size=8) | st.sampled_from(["", "-1", "\u00b2", "1e3", "9" * 20, "9" * 5000, adapter.base, FORMAT, EARLIER])
    metadata = {"format": FORMAT, "base": adapter.base, "version": "3"}
    metadata |= data.draw(st.dictionaries(st.sampled_from(sorted(metadata)) | st.text(max_size=4), texts, max_size=2))
    right = st.sampled_from([tuple(adapter.a.shape), tuple(adapter.b.shape)])
    shapes = right | hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
    kinds = st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.float8_e4m3fn, torch.bool])
    values = st.sampled_from([0.0, 1.0, float("nan"), float("inf"), 1e38])
    tensors = {
        name: torch.full(data.draw(shapes), data.draw(values)).to(data.draw(kinds))
        for name in data.draw(st.just(["a", "b"]) | st.lists(st.sampled_from("abc"), unique=True))
    }
    taken = attempt(Adapter.from_bytes, safetensors_save(tensors, metadata), for_sam=sam, refusal=AdapterError)
    assert taken is None or Adapter.from_bytes(taken.to_bytes(), for_sam=sam).version == taken.version


@given(header=JSON | st.fixed_dictionaries({"__metadata__": JSON, "a": JSON}), tail=st.binary(max_size=16))
def test_adapters_with_any_header(attempt: Attempt, sam: Any, header: Any, tail: bytes) -> None:
    text = json.dumps(header).encode()
    assert attempt(Adapter.from_bytes, len(text).to_bytes(8, "little") + text + tail, for_sam=sam, refusal=AdapterError) is None


def test_an_adapter_whose_header_is_nested_without_end(attempt: Attempt, sam: Any) -> None:
    text = b"[" * 200_000
    assert attempt(Adapter.from_bytes, len(text).to_bytes(8, "little") + text, for_sam=sam, refusal=AdapterError) is None


@pytest.fixture(scope="module")
def checkpoints(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A few tensors as a checkpoint in each format, by suffix: small, so that damage is dense."""
    state = {name: value.clone() for name, value in list(sam.state_dict().items())[:3]}
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save(state, zipped)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    return {".safetensors": safetensors_save(state), ".pth": zipped.getvalue(), ".pt": legacy.getvalue()}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@given(data=st.data())
def test_checkpoints(
    attempt: Attempt, checkpoints: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(data.draw(damaged(checkpoints[suffix])))
    assert attempt(load_sam, "tiny", path, refusal=CheckpointError) is None


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {1: torch.ones(2), "a": torch.ones(2)},
        {"a": 1},
        torch.zeros(3),
        {"a": torch.ones(2).to_sparse()},
        {"a": {"b": torch.ones(1)}},
    ],
    ids=["list", "number keys", "numbers", "tensor", "sparse", "nested"],
)
def test_checkpoints_of_something_else(attempt: Attempt, tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert attempt(load_sam, "tiny", tmp_path / "a.pth", refusal=CheckpointError) is None


@pytest.fixture(scope="module")
def export(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `wesam export` leaves it, with little in its files."""
    folder = tmp_path_factory.mktemp("export") / "tiny"

    def build(made: Path) -> dict[str, Any]:
        for name in (ENCODER, DECODER, DECODER_WITH_MASKS):
            (made / name).write_bytes(name.encode() * 9)
        return {"key": key_of(sam)}

    publish(folder, build)
    return folder


@given(data=st.data())
def test_exports(attempt: Attempt, sam: Any, export: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([MANIFEST, MANIFEST, ENCODER, DECODER]))
    whole = (export / name).read_bytes()
    try:
        (export / name).write_bytes(data.draw(damaged(whole)))
        attempt(check, export, sam, refusal=EngineError)
    finally:
        (export / name).write_bytes(whole)


@given(key=JSON, files=JSON | st.dictionaries(st.text(max_size=300), st.fixed_dictionaries({"bytes": JSON, "sha256": JSON}), max_size=4))
def test_exports_with_any_manifest(attempt: Attempt, sam: Any, export: Path, key: Any, files: Any) -> None:
    whole = (export / MANIFEST).read_bytes()
    known = json.loads(whole)
    more = {**known["files"], **files} if isinstance(files, dict) else files
    try:
        for manifest in ({"key": key, "files": files}, {**known, "files": more}):
            (export / MANIFEST).write_text(json.dumps(manifest))
            attempt(check, export, sam, refusal=EngineError)
        (export / MANIFEST).write_text("[" * 200_000)
        assert attempt(check, export, sam, refusal=EngineError) is None
    finally:
        (export / MANIFEST).write_bytes(whole)


@pytest.fixture(scope="module")
def state(sam: Any) -> dict[str, Any]:
    """A learner's saved state after a frame."""
    learner = Learner(sam, AdaptationConfig(rank=1), 0)
    learner.observe(Frame(RGB, METRES, CAMERA, stamp_ns=1), Prompts.from_boxes(np.array([[2, 2, 20, 20]], np.float32), SIZE))
    return pack(learner)


@given(data=st.data())
def test_adaptation_states(attempt: Attempt, sam: Any, state: dict[str, Any], data: st.DataObject) -> None:
    bad = {name: dict(part) if isinstance(part, dict) else part for name, part in state.items()}
    parts = [bad, bad["trainer"], bad["history"], bad["replay_buffer"]]
    for part in data.draw(st.lists(st.sampled_from(parts), min_size=1, max_size=3)):
        name = data.draw(st.sampled_from([*part, "more"]))
        if data.draw(st.booleans()):
            part.pop(name, None)
        else:
            part[name] = data.draw(JSON | st.sampled_from(list(state.values())))
    learner = Learner(sam, AdaptationConfig(rank=1), 0)

    def restored() -> dict[str, Any]:
        unpack(learner, bad)
        return pack(learner)

    attempt(restored, refusal=ValueError)
