"""Read ``tf.train.Example``, the protobuf message in TFRecord files of images, without TensorFlow."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

Values = tuple[bytes, ...] | tuple[float, ...] | tuple[int, ...]

MOST_LIST_BYTES = 1 << 22  # as Python numbers it takes up to 36 times as much memory
# Messages of tensorflow/core/example, with the names and types of their fields, numbered from 1. The two lists of
# numbers are first read as bytes, which have the same encoding, to check their length before they are parsed.
MESSAGES = {
    "BytesList": {"value": "repeated bytes"},
    "FloatList": {"value": "repeated float"},
    "Int64List": {"value": "repeated int64"},
    "Feature": {"bytes_list": "BytesList", "float_list": "bytes", "int64_list": "bytes"},
    "Entry": {"key": "string", "value": "Feature"},
    "Features": {"feature": "repeated Entry"},
    "Example": {"features": "Features"},
}


def _message_classes() -> dict[str, Any]:
    """Return the classes of :data:`MESSAGES` by name."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="harmonizer", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, described) in enumerate(fields.items(), 1):
            kind = described.removeprefix("repeated ")
            added = message.field.add(name=field, number=number, label=1 if kind == described else 3)
            if kind in MESSAGES:
                added.type, added.type_name = added.TYPE_MESSAGE, f".harmonizer.{kind}"
            else:
                added.type = added.Type.Value(f"TYPE_{kind.upper()}")
            if name == "Feature":
                added.oneof_index = 0
        if name == "Feature":
            message.oneof_decl.add(name="kind")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"harmonizer.{name}")) for name in MESSAGES
    }


CLASSES = _message_classes()
LISTS = {"float_list": CLASSES["FloatList"], "int64_list": CLASSES["Int64List"]}


def parse_example(payload: bytes) -> dict[str, Values]:
    r"""Parse a serialised ``tf.train.Example``.

    Returns:
        The features by name; a feature without a value is an empty tuple.

    Raises:
        ValueError: The bytes are not such a message.

    >>> parse_example(b"\x0a\x10\x0a\x0e\x0a\x05label\x12\x05\x1a\x03\x0a\x01\x07")
    {'label': (7,)}
    """
    try:
        message = CLASSES["Example"].FromString(payload)
        _check_wire_types(message, message.features, *message.features.feature)
        return {entry.key: _values(entry.value) for entry in message.features.feature}
    except DecodeError as error:
        raise ValueError(f"damaged message ({error})") from None


def _values(feature: Any) -> Values:  # noqa: ANN401 - a class made at run time
    """Return the values of a ``tf.train.Feature``."""
    _check_wire_types(feature)
    kind = feature.WhichOneof("kind")
    if kind not in LISTS:
        _check_wire_types(feature.bytes_list)
        return tuple(feature.bytes_list.value)
    content = getattr(feature, kind)
    if len(content) > MOST_LIST_BYTES:
        raise ValueError(f"a list of numbers has {len(content)} bytes, expected at most {MOST_LIST_BYTES}")
    numbers = LISTS[kind].FromString(content)
    _check_wire_types(numbers)
    return tuple(numbers.value)


def _check_wire_types(*messages: Any) -> None:  # noqa: ANN401 - classes made at run time
    """Check that no known field is of another wire type, which protobuf treats as an unknown field."""
    for message in messages:
        for field in UnknownFieldSet(message):
            if field.field_number in message.DESCRIPTOR.fields_by_number:
                raise ValueError(f"damaged message (field {field.field_number} has wire type {field.wire_type})")
