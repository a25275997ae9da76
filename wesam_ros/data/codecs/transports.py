"""Image transports, and payloads of compressed images, that are not read here: video, of which one message alone is no picture."""

from __future__ import annotations

import re

from wesam_ros.data.codecs.fields import CodecError

UNREAD_TRANSPORTS = {
    "ffmpeg": "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
    "foxglove": "foxglove_msgs/msg/CompressedVideo",
    "theora": "theora_image_transport/msg/Packet",
    "zstd": "sensor_msgs/msg/CompressedImage",
    "avif": "sensor_msgs/msg/CompressedImage",
}
"""Transports by the last part of their topic's name, and the type of their messages."""
_VIDEO = {
    "ffmpeg": r"ffmpeg|(lib)?x26[45]|h\.?26[3456]|hevc|avc1?|av1|vp[89]|mpeg[124-]\w*|h26[45]_\w+",
    "theora": r"theora|ogg",
    "zstd": r"zstd",
    "avif": r"avif",
}
"""Words of `format` that name a payload, by the transport whose decoder there is for it."""
_MAGIC = {b"\x28\xb5\x2f\xfd": "zstd", b"OggS": "theora", b"\x00\x00\x00\x01": "ffmpeg", b"\x00\x00\x01": "ffmpeg"}
"""First bytes of payloads, likewise; the last two begin a unit of H.264 or H.265."""


def unread_transport(name: str) -> str | None:
    """The transport that is not read, for the name of a topic, of a message type or of a transport; None where there is nothing against it.

    /camera/image_raw/ffmpeg, ffmpeg_image_transport_msgs/msg/FFMPEGPacket and ffmpeg all give "ffmpeg".
    """
    last = name.rstrip("/").rpartition("/")[2]
    if last in UNREAD_TRANSPORTS:
        return last
    types = {kind.replace("/msg/", "/"): transport for transport, kind in UNREAD_TRANSPORTS.items() if not kind.startswith("sensor_msgs")}
    return types.get(name.replace("/msg/", "/"))


def republish_command(transport: str, topic: str = "/camera/image_raw") -> str:
    """The command that makes raw images of a transport, for its own topic or the base one. Humble reads the words, Jazzy the parameters."""
    base = topic.removesuffix(f"/{transport}")
    return (
        f"ros2 run image_transport republish {transport} raw --ros-args -p in_transport:={transport} -p out_transport:=raw "
        f"-r in/{transport}:={base}/{transport} -r out:={base}/republished"
    )


def refuse_payload(data: bytes, message_format: str) -> None:
    """CodecError "unread_transport" where a payload is named, or begins, like one that another transport decodes."""
    words = re.split(r"[\s;,/]+", message_format.strip().lower())
    named = [transport for transport, pattern in _VIDEO.items() if any(re.fullmatch(pattern, word) for word in words)]
    begun = [transport for magic, transport in _MAGIC.items() if data.startswith(magic)]
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        begun.append("avif")
    for transport in (*named, *begun):
        raise CodecError(
            "unread_transport",
            f"compressed image must be a whole picture (JPEG, PNG, WebP or TIFF), but is {message_format or transport!r}; "
            f"have it decoded: {republish_command(transport)}",
        )
