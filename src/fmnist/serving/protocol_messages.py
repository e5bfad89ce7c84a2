"""The messages of the Open Inference Protocol, version 2: as JSON, or with tensors in binary.

Binary tensors follow the JSON, in its order, little-endian; the header Inference-Header-Content-
Length says where they begin. What they hold is read by `protocol_tensors`.
"""

import json
import struct
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmnist.serving.refusal import Refusal

T = TypeVar("T", bound=Sized)
Buffer: TypeAlias = "bytes | memoryview"
Values: TypeAlias = "NDArray[Any] | Sequence[str]"  # of a tensor; strings are BYTES

BYTES_OF_LENGTH = struct.Struct("<I")
DIGITS = 18  # of a length; no body is longer
ID = 1024  # characters of a request's name, which is echoed
SHOWN = 60  # characters of what a message quotes
REMEMBERED = 1024  # bytes of JSON that is kept for the next request
SPARE = 1000  # values of a message's JSON besides those of its tensor
COLONS = 2000  # of a message's JSON, in texts or behind names, which take longest to read


class Tensor(NamedTuple):
    """What a model takes or gives."""

    name: str
    datatype: str  # as the protocol names it
    shape: tuple[int, ...]  # -1: of any length


@dataclass(frozen=True, eq=False)
class Model(Generic[T]):
    """A model as the protocol sees it: one input, which becomes a T, and its outputs.

    `from_json` and `from_binary` take an input's data and its number of elements, `from_raw` a body
    that is nothing but data; all raise Refusal. In JSON an element has at most `values` numbers,
    strings and lists.
    """

    name: str
    takes: Tensor
    gives: tuple[Tensor, ...]
    values: int
    from_json: Callable[[Any, int], T]
    from_binary: Callable[[Buffer, int], T]
    from_raw: Callable[[bytes], T]


class Wanted(NamedTuple):
    """An output that a request asks for."""

    tensor: Tensor
    binary: bool


class Asked(NamedTuple, Generic[T]):
    """An inference request that was understood."""

    elements: T
    wanted: Sequence[Wanted]  # in the order asked for
    id: str | None = None
    microseconds: int = 0  # the client's own deadline; 0: none


class _Message(NamedTuple):
    """What the JSON of a request says."""

    number: int  # of elements
    size: int | None  # bytes of the input behind the JSON; None: `data` holds it
    data: Any
    wanted: Sequence[Wanted]
    id: str | None
    microseconds: int


def malformed(message: str) -> Refusal:
    """Return the refusal of a message that is not as the protocol has it."""
    return Refusal(400, message)


# Requests


def decode_request(body: bytes, header_length: str | None, model: Model[T], most: int) -> Asked[T]:
    """Return what a request asks a model; at most `most` elements. Raises Refusal (400).

    `header_length` is the header Inference-Header-Content-Length: the bytes of JSON at the start of
    a body that ends with binary tensors; 0: there is nothing but the input's data.
    """
    if header_length is None:
        return _asked(_understood(body, model, most), b"", model)
    length = _length(header_length, len(body))
    if length == 0:
        return _raw(body, model, most)
    understand = _remembered if length <= REMEMBERED else _understood
    return _asked(understand(body[:length], model, most), memoryview(body)[length:], model)


def _understood(text: bytes, model: Model[Any], most: int) -> _Message:
    """Return what a request's JSON says."""
    message = _object(_parsed(text, most * model.values + SPARE), "the request")
    parameters = _parameters(message, "the request")
    name = message.get("id")
    if name is not None and not (isinstance(name, str) and len(name) <= ID):
        raise malformed(f"id must be a string of at most {ID:,} characters")
    _natural(parameters, "priority")  # all are answered in the order they came
    wanted = _wanted(message.get("outputs"), model, _flag(parameters, "binary_data_output", False))
    tensor = _only_input(message, model)
    number, size = _described(tensor, model, most)
    timeout = _natural(parameters, "timeout")
    return _Message(number, size, tensor.get("data"), wanted, name, timeout)


# A client that sends tensors in binary sends the same JSON before each.
_remembered = lru_cache(maxsize=256)(_understood)


def _asked(message: _Message, binary: Buffer, model: Model[T]) -> Asked[T]:
    """Return a request with its data, from its JSON or from the bytes behind that."""
    name, size = model.takes.name, message.size
    if size is None:
        if binary:
            raise malformed("bytes follow the JSON, but no input has a binary_data_size")
        elements = model.from_json(message.data, message.number)
    elif size != len(binary):
        raise malformed(
            f"binary_data_size of {name!r} is {_shown(size)}, and {len(binary)} bytes follow the "
            "JSON; Inference-Header-Content-Length says where it ends"
        )
    else:
        elements = model.from_binary(binary, message.number)
    return Asked(elements, message.wanted, message.id, message.microseconds)


def _length(header: str, most: int) -> int:
    if not (header.isascii() and header.isdigit()) or len(header) > DIGITS or int(header) > most:
        raise malformed(
            f"Inference-Header-Content-Length must be 0..{most}, the bytes of the body, "
            f"not {header[:20]!r}"
        )
    return int(header)


def _raw(body: bytes, model: Model[T], most: int) -> Asked[T]:
    """Return the request of a body without JSON; all outputs are wanted in binary, as Triton's."""
    elements = model.from_raw(body)
    _check_number(len(elements), model, most)
    return Asked(elements, [Wanted(tensor, True) for tensor in model.gives])


def _refuse_constant(name: str) -> None:
    raise malformed(f"{name} is no JSON")


# Fractions stay text: none is of use here, and to read one may take a microsecond.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=str)


def _parsed(text: bytes, most: int) -> Any:
    """Return what JSON says; of more than `most` values nothing is read, not to fill the memory."""
    if text.count(b",") + text.count(b"[") + text.count(b"{") > most:
        raise malformed(f"the JSON has more than {most:,} values; ask about fewer at a time")
    if text.count(b":") > COLONS:
        raise malformed(f"the JSON has more than {COLONS:,} names; leave out what is not of use")
    try:
        return _DECODER.decode(text.decode())
    except RecursionError as error:
        raise malformed("the JSON is nested too deeply") from error
    except ValueError as error:  # no UTF-8, no JSON, or a number of too many digits
        raise malformed(f"the request is not JSON: {error}") from error


def _only_input(message: dict[str, Any], model: Model[T]) -> dict[str, Any]:
    inputs = message.get("inputs")
    if not isinstance(inputs, list):
        raise malformed(f"inputs must be a list of one tensor, {model.takes.name!r}")
    for each in inputs:
        name = _object(each, "an input").get("name")
        if name != model.takes.name:
            raise malformed(
                f"unknown input {_shown(name)}; {model.name} takes {model.takes.name!r}"
            )
    if len(inputs) != 1:
        raise malformed(f"inputs must name {model.takes.name!r} once, not {len(inputs)} times")
    only: dict[str, Any] = inputs[0]
    return only


def _described(tensor: dict[str, Any], model: Model[Any], most: int) -> tuple[int, int | None]:
    """Return how many elements an input has, and how many bytes if it is in binary."""
    name, datatype, _ = model.takes
    if tensor.get("datatype") != datatype:
        raise malformed(f"{name!r} must be {datatype}, not {_shown(tensor.get('datatype'))}")
    number = _number(tensor.get("shape"), model, most)
    parameters = _parameters(tensor, repr(name))
    _refuse_shared_memory(parameters)
    size = parameters.get("binary_data_size")
    if size is not None:
        if "data" in tensor:
            raise malformed(f"{name!r} has both data and a binary_data_size")
        if type(size) is not int:
            raise malformed(f"binary_data_size of {name!r} is {_shown(size)}, which is no number")
    return number, size


def _number(shape: Any, model: Model[T], most: int) -> int:
    """Return how many elements a shape has; the rest of it must be the model's.

    A column [n, 1] is as good as [n]: MLServer's codecs, and Triton's batches, have strings so.
    """
    wanted = list(model.takes.shape)
    rests = (wanted[1:], wanted[1:] or [1])
    if not isinstance(shape, list) or set(map(type, shape)) != {int} or shape[1:] not in rests:
        raise malformed(f"the shape of {model.takes.name!r} must be {wanted}")
    _check_number(shape[0], model, most)
    number: int = shape[0]
    return number


def _check_number(number: int, model: Model[Any], most: int) -> None:
    if not 1 <= number <= most:
        raise malformed(f"{model.takes.name!r} must be 1..{most} at a time; split the request")


def _wanted(outputs: Any, model: Model[Any], binary: bool) -> Sequence[Wanted]:
    """Return the outputs asked for, or all of them; `binary` is for those that do not say."""
    if not outputs and isinstance(outputs, list | None):
        return [Wanted(tensor, binary) for tensor in model.gives]
    if not isinstance(outputs, list):
        raise malformed("outputs must be a list")
    known = {tensor.name: tensor for tensor in model.gives}
    wanted = {}
    for each in outputs:
        name = _object(each, "an output").get("name")
        if not isinstance(name, str) or name not in known:
            raise malformed(f"unknown output {_shown(name)}; {model.name} gives {', '.join(known)}")
        if name in wanted:
            raise malformed(f"output {name!r} is asked for twice")
        parameters = _parameters(each, repr(name))
        _refuse_shared_memory(parameters)
        if parameters.get("classification"):
            raise malformed("the classification extension is not offered; ask for 'probabilities'")
        wanted[name] = Wanted(known[name], _flag(parameters, "binary_data", binary))
    return list(wanted.values())


def _refuse_shared_memory(parameters: Mapping[str, Any]) -> None:
    if "shared_memory_region" in parameters:
        raise malformed("shared memory is not offered; send and take the data in the message")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise malformed(f"{what} must be a JSON object")
    return value


def _parameters(holder: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the parameters of a message or tensor; each is a string, a number or a boolean."""
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    for value in _object(parameters, f"the parameters of {what}").values():
        if isinstance(value, list | dict):
            raise malformed(f"the parameters of {what} must be strings, numbers or booleans")
    result: dict[str, Any] = parameters
    return result


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise malformed(f"{name} must be true or false")
    return value


def _natural(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value < 2**64:
        raise malformed(f"{name} must be a whole number from 0")
    return value


def _shown(value: Any) -> str:
    """Return what a client sent, fit for one line of a message; lists may be too deep to print."""
    if isinstance(value, str):
        return repr(value[:SHOWN])[:SHOWN]
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else repr(value)[:SHOWN]


# Responses

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode_response(
    model: Model[Any], version: str, asked: Asked[Any], outputs: Mapping[str, Values]
) -> tuple[bytes, int | None]:
    """Return a response's body, and how long its JSON is where binary tensors follow it."""
    told, binary = [], []
    for tensor, as_binary in asked.wanted:
        values = outputs[tensor.name]
        if as_binary:
            content = _as_bytes(values)
            binary.append(content)
            told.append(_told_of_binary(tensor, len(values), len(content)))
        else:
            told.append(_told(tensor, len(values), data=_as_json(values)))
    name = "" if asked.id is None else f'"id":{_encode(asked.id)},'
    head = (
        f'{{"model_name":"{model.name}","model_version":"{version}",{name}'
        f'"outputs":[{",".join(told)}]}}'
    ).encode()
    return (b"".join((head, *binary)), len(head)) if binary else (head, None)


def _told(tensor: Tensor, number: int, **more: Any) -> str:
    """Return an output as JSON."""
    name, datatype, shape = tensor
    shape = (number, *shape[1:])
    return _encode({"name": name, "datatype": datatype, "shape": shape, **more})


@lru_cache(maxsize=256)
def _told_of_binary(tensor: Tensor, number: int, size: int) -> str:
    return _told(tensor, number, parameters={"binary_data_size": size})


def _as_bytes(values: Values) -> bytes:
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [text.encode() for text in values]
    return b"".join(part for text in texts for part in (BYTES_OF_LENGTH.pack(len(text)), text))


def _as_json(values: Values) -> list[Any]:
    """Return values in one list; float32 as the shortest numbers that are read as the same ones."""
    if not isinstance(values, np.ndarray):
        return list(values)
    if values.dtype == np.float32:
        return [float(text) for text in values.ravel().astype(str).tolist()]
    result: list[Any] = values.ravel().tolist()
    return result
