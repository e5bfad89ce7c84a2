"""What a classifier's ONNX file says of itself, checked before ONNX Runtime sees it.

ONNX Runtime opens files that a model names, relative to the current directory even where the model
came from memory; so whatever refers outside is refused here. Only the fields of onnx.proto that
decide this are named; protobuf skips the others.

A file seals itself: its metadata holds the SHA-256 of the file, taken while zeros stood for the
hash. That finds damage, not forgery.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from fmnist.errors import ModelError

FACTS, SEAL = "fmnist", "sha256"  # keys of the file's metadata
UNSEALED = "0" * 64
STANDARD_OPERATORS = (b"", b"ai.onnx")

# Messages and fields with their numbers in onnx.proto (onnx 1.18, IR version 11). Each is read as
# repeated: a second graph in the same file must not hide behind the first.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {
        "graph": (7, "Graph"),
        "metadata": (14, "Entry"),
        "training": (20, "Outside"),
        "functions": (25, "Function"),
    },
    "Graph": {"nodes": (1, "Node"), "tensors": (5, "Tensor"), "sparse": (15, "Outside")},
    "Node": {
        "inputs": (1, "bytes"),
        "outputs": (2, "bytes"),
        "operator": (4, "bytes"),
        "attributes": (5, "Attribute"),
        "domain": (7, "bytes"),
    },
    "Function": {
        "name": (1, "bytes"),
        "nodes": (7, "Node"),
        "domain": (10, "bytes"),
        "attributes": (11, "Attribute"),
    },
    "Attribute": {
        "tensor": (5, "Tensor"),
        "graph": (6, "Graph"),
        "tensors": (10, "Tensor"),
        "graphs": (11, "Graph"),
        "sparse": (22, "Outside"),
        "sparses": (23, "Outside"),
    },
    "Tensor": {
        "dims": (1, "int64"),
        "type": (2, "int32"),
        "floats": (4, "float"),
        "name": (8, "bytes"),
        "raw": (9, "bytes"),
        "external_data": (13, "Entry"),
        "data_location": (14, "int32"),
    },
    "Entry": {"key": (1, "bytes"), "value": (2, "bytes")},
    "Outside": {},  # of what a classifier has no need
}
_PLAIN = {
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "float": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
}
# Domains, with those below them, that are the standard's or ONNX Runtime's own.
_TAKEN = (
    *(b"ai.onnx", b"com.microsoft", b"com.ms", b"com.intel", b"com.amd", b"com.xilinx"),
    b"org.pytorch.aten",
)
_MORE = "it holds functions, training graphs or sparse tensors"


def read_facts(content: bytes) -> dict[str, Any]:
    """Return what the exporter wrote into the file: class names, temperature and where it is from.

    Raises ModelError, without naming a file, where `content` is no ONNX model, needs anything
    outside itself, is damaged, or was not exported by fmnist.
    """
    model = parse_model(content)
    metadata = read_metadata(model)
    if FACTS not in metadata or SEAL not in metadata:
        raise ModelError("it was not made by `fmnist export`")
    _check_seal(content, metadata[SEAL])
    if model.functions:
        raise ModelError(_MORE)
    check_parts(model, STANDARD_OPERATORS)
    return _parse_facts(metadata[FACTS])


def sealed(content: bytes) -> bytes:
    """Return a model whose metadata holds UNSEALED as SEAL with its hash in that place."""
    assert content.count(UNSEALED.encode()) == 1
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(UNSEALED.encode(), digest.encode())


def _check_seal(content: bytes, seal: bytes) -> None:
    if len(seal) == len(UNSEALED) and content.count(seal) == 1:
        found = hashlib.sha256(content.replace(seal, UNSEALED.encode())).hexdigest()
        if found.encode() == seal:
            return
    raise ModelError("it is damaged: its SHA-256 is not the one that it was exported with")


def parse_model(content: bytes) -> Any:
    """Return the message Model, by _MESSAGES; ModelError where `content` is no ONNX model."""
    try:
        return _MODEL.FromString(content)
    except DecodeError as error:
        raise ModelError("it is not an ONNX model, or cut short") from error


def read_metadata(model: Any) -> dict[str, bytes]:
    """Return the entries that a model's maker wrote beside the graph."""
    return {
        b"".join(entry.key).decode(errors="replace"): b"".join(entry.value)
        for entry in model.metadata
    }


def parts(message: Message) -> Iterator[Any]:
    """Yield a message and, down to the last, those inside it."""
    yield message
    for field, values in message.ListFields():
        if field.message_type is not None:
            for value in values:
                yield from parts(value)


def function_names(model: Any) -> set[tuple[bytes, bytes]]:
    """Return the functions that a model defines, as domain and name.

    Raises ModelError where one stands in a domain that is somebody else's: ONNX Runtime would take
    the domain for known, and find its own operators there.
    """
    names = set()
    for function in model.functions:
        if len(function.domain) > 1 or len(function.name) != 1:
            raise ModelError("a function of it has no name, or several")
        domain = b"".join(function.domain)
        if not domain or (domain + b".").startswith(tuple(family + b"." for family in _TAKEN)):
            raise ModelError(
                f"it defines a function in {domain.decode(errors='replace')!r}, whose operators "
                "are others'; only standard ONNX is loaded"
            )
        names.add((domain, function.name[0]))
    return names


def check_parts(
    model: Message, domains: Collection[bytes], functions: Collection[tuple[bytes, bytes]] = ()
) -> None:
    """Raise ModelError where a model refers outside itself.

    Operators must be of `domains`, or be `functions`, each a domain and a name.
    """
    for part in parts(model):
        kind = part.DESCRIPTOR.name
        if kind == "Tensor" and (part.external_data or any(part.data_location)):
            raise ModelError(
                "its weights lie in another file; it must be one file (onnx.save writes one of "
                "what onnx.load reads, torch.onnx.export with external_data=False)"
            )
        if kind == "Node":
            _check_operator(part, domains, functions)
        if kind == "Outside":
            raise ModelError(_MORE)


def _check_operator(
    node: Any, domains: Collection[bytes], functions: Collection[tuple[bytes, bytes]]
) -> None:
    for domain in node.domain:
        called = [(domain, operator) for operator in node.operator]
        if domain not in domains and not (called and set(called) <= set(functions)):
            raise ModelError(
                f"it needs operators of {domain.decode(errors='replace')!r}; only standard ONNX "
                "is loaded"
            )


def _parse_facts(text: bytes) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(text)
        names, temperature = facts["class_names"], facts["temperature"]
        if len(names) != 10 or not all(isinstance(name, str) for name in names):
            raise ValueError("class_names")
        if not 0 < temperature < math.inf:
            raise ValueError("temperature")
        if not 0 <= facts.get("least_probability", 0.0) <= 1:
            raise ValueError("least_probability")
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"what it says of itself cannot be used ({error})") from error
    return facts


def _schema() -> Any:
    """Return protobuf's class for Model; it lives apart from the onnx package's own."""
    file = descriptor_pb2.FileDescriptorProto(name="fmnist/onnx.proto", package="fmnist")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            message.field.add(
                name=field,
                number=number,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
                type=_PLAIN.get(kind, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE),
                type_name=None if kind in _PLAIN else f".fmnist.{kind}",
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fmnist.Model"))


_MODEL = _schema()
