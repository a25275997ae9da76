"""Pixels of ROS image messages to arrays and back, with numpy and OpenCV alone.

Everything works on plain values: any object with the fields of sensor_msgs/Image will do, be it a message of rclpy, one of the rosbags
library or a `RawImage`. Bytes may come as bytes, bytearray, memoryview, array.array or a numpy array. Live messages and recorded ones go
through the same functions.

fields.py      the fields of a message, and the error of one that cannot be used
colour.py      colour encodings to RGB
raw.py         sensor_msgs/Image: colour, depth, labels
files.py       whole image files in a message: JPEG, PNG, WebP, TIFF
compressed.py  sensor_msgs/CompressedImage: colour and labels, by the words of `format`
depth.py       compressed depth: PNG and RVL behind the header of compressed_depth_image_transport
rvl.py         the RVL code of depth
transports.py  image transports that are not read here, and the command that makes raw images of them
"""

from wesam_ros.data.codecs.colour import COLOUR_ENCODINGS, assumption_of
from wesam_ros.data.codecs.compressed import decode_compressed_image, decode_compressed_labels, encode_jpeg
from wesam_ros.data.codecs.depth import decode_compressed_depth, encode_compressed_depth
from wesam_ros.data.codecs.fields import MAX_PIXELS, CodecError, ImageFields, RawImage
from wesam_ros.data.codecs.files import PNG_CHUNK, PNG_END, PNG_START, encode_png, png_is_whole
from wesam_ros.data.codecs.raw import DEPTH_ENCODINGS, LABEL_ENCODINGS, decode_depth, decode_image, decode_labels, encode_image
from wesam_ros.data.codecs.transports import republish_command, unread_transport

__all__ = [
    "COLOUR_ENCODINGS",
    "DEPTH_ENCODINGS",
    "LABEL_ENCODINGS",
    "MAX_PIXELS",
    "PNG_CHUNK",
    "PNG_END",
    "PNG_START",
    "CodecError",
    "ImageFields",
    "RawImage",
    "assumption_of",
    "decode_compressed_depth",
    "decode_compressed_image",
    "decode_compressed_labels",
    "decode_depth",
    "decode_image",
    "decode_labels",
    "encode_compressed_depth",
    "encode_image",
    "encode_jpeg",
    "encode_png",
    "png_is_whole",
    "republish_command",
    "unread_transport",
]
