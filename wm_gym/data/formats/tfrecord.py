"""What is in a TFRecord file? Its records with their checksums, and each one's tf.train.Example, without TensorFlow."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from wm_gym.data.formats.lerobot_schema import AGAIN, DatasetError
from wm_gym.data.formats.memory import check_memory


def records(path: Path) -> Iterator[tuple[int, bytes | DatasetError]]:
    """Yield (offset, bytes) of each record of a TFRecord file, its checksums compared.

    A record whose content does not have its checksum is a DatasetError in the place of the bytes: others follow it.

    Raises:
        DatasetError: Where the file breaks off.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        offset = 0
        while offset < size:
            data: bytes | DatasetError
            try:
                data = _record(file, path, offset, size)
            except WrongChecksum as error:
                data = error
            yield offset, data
            offset = file.tell()


def record_at(path: Path, offset: int) -> bytes:
    """The record that begins at `offset` of a TFRecord file."""
    with open(path, "rb") as file:
        return _record(file, path, offset, path.stat().st_size)


def _record(file: BinaryIO, path: Path, offset: int, size: int) -> bytes:
    file.seek(offset)
    head = file.read(12)
    if len(head) < 12 or _masked(head[:8]) != struct.unpack("<I", head[8:])[0]:
        raise DatasetError(f"{path}: no TFRecord begins at byte {offset}; it is truncated or damaged: {AGAIN}")
    length = struct.unpack("<Q", head[:8])[0]
    if length + 4 > size - offset - 12:
        raise DatasetError(
            f"{path}: the record at byte {offset} says {length} bytes, {size - offset - 16} are left; {AGAIN}"
        )
    check_memory(f"the record at byte {offset} of {path}", length)
    data = file.read(length)
    if _masked(data) != struct.unpack("<I", file.read(4))[0]:
        raise WrongChecksum(f"{path}: the record at byte {offset} does not have its checksum; {AGAIN}")
    return data


class WrongChecksum(DatasetError):
    """What a record holds was changed; where it ends is known."""


def _masked(data: bytes) -> int:
    """TFRecord's rotated CRC-32C."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def parse_example(data: bytes, path: Path) -> dict[str, np.ndarray | list[bytes]]:
    """The values of a serialised tf.train.Example, float32 or int64 arrays and lists of bytes, by their names."""
    from google.protobuf.message import DecodeError

    example = _example_class()()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        raise DatasetError(f"{path}: a record is no tf.train.Example ({error}); {AGAIN}") from None
    values: dict[str, np.ndarray | list[bytes]] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind == "bytes_list":
            values[name] = list(feature.bytes_list.value)
        elif kind:
            values[name] = np.array(getattr(feature, kind).value, np.float32 if kind == "float_list" else np.int64)
        else:
            values[name] = []
    return values


@functools.cache
def _example_class() -> Any:
    """tf.train.Example from TensorFlow's published example.proto and feature.proto, built while running."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="wm_gym/example.proto", package="wm_gym.tf", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str | None], parent: Any = file.message_type) -> Any:
        made = parent.add(name=name)
        for number, (key, kind, label, type_name) in enumerate(fields, 1):
            made.field.add(name=key, number=number, type=kind, label=label, type_name=type_name)
        return made

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", ("value", field.TYPE_BYTES, many, None))
    message("FloatList", ("value", field.TYPE_FLOAT, many, None))
    message("Int64List", ("value", field.TYPE_INT64, many, None))
    feature = message(
        "Feature",
        *(
            (key, field.TYPE_MESSAGE, one, f".wm_gym.tf.{kind}")
            for key, kind in (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
        ),
    )
    feature.oneof_decl.add(name="kind")
    for part in feature.field:
        part.oneof_index = 0
    features = message("Features", ("feature", field.TYPE_MESSAGE, many, ".wm_gym.tf.Features.FeatureEntry"))
    entry = message(
        "FeatureEntry",
        ("key", field.TYPE_STRING, one, None),
        ("value", field.TYPE_MESSAGE, one, ".wm_gym.tf.Feature"),
        parent=features.nested_type,
    )
    entry.options.map_entry = True
    message("Example", ("features", field.TYPE_MESSAGE, one, ".wm_gym.tf.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("wm_gym.tf.Example"))
