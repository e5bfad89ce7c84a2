"""Other people's ONNX files: checked as data, then asked about images in the form they take.

What is not said is found out from names, shapes and the first steps of the graph, and by asking
about a drawn image; labels are never looked at.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fmnist.classifier.classifier import one_line, open_session
from fmnist.classifier.onnx_file import (
    FACTS,
    SEAL,
    STANDARD_OPERATORS,
    check_parts,
    function_names,
    parse_model,
    parts,
    read_metadata,
)
from fmnist.classifier.pixels import (
    SIDE,
    Assumption,
    Layout,
    Pixels,
    Wishes,
    choose_scale,
    layouts_of,
)
from fmnist.environment import physical_cores
from fmnist.errors import ModelError

OPERATORS = (*STANDARD_OPERATORS, b"ai.onnx.ml")  # the two sets that the ONNX standard defines
CHUNK = 250  # images at once where the file leaves the number open
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
SCORES = ("tensor(float)", "tensor(double)", "tensor(float16)")
CLASSES = ("tensor(int64)", "tensor(int32)")
# Of onnx.proto's TensorProto.DataType: float, uint8, int8, float16, double, bfloat16, uint4, int4.
WEIGHTS = (1, 2, 3, 10, 11, 16, 21, 22)
# By operator, which inputs are no parameters: what was counted of images, and how numbers are kept.
NOT_LEARNED = {
    b"BatchNormalization": (3, 4),
    b"QuantizeLinear": (1, 2),
    b"DequantizeLinear": (1, 2),
    b"ConvInteger": (2, 3),
    b"MatMulInteger": (2, 3),
    b"QLinearConv": (1, 2, 4, 5, 6, 7),
    b"QLinearMatMul": (1, 2, 4, 5, 6, 7),
}
# They move or retype values without changing them.
MOVES = (b"Cast", b"Reshape", b"Transpose", b"Unsqueeze", b"Squeeze", b"Identity", b"Flatten")


@dataclass(frozen=True)
class Foreign:
    """Somebody's network, and what had to be known to ask it.

    `answer` takes images (n, 28, 28) uint8, n > 0, and their treatment to scores (n, 10) as the
    network gives them, or to classes (n,); it raises ModelError where the network fails.
    """

    answer: Callable[[NDArray[np.uint8], Pixels], NDArray[Any]]
    pixels: Pixels
    assumed: tuple[Assumption, ...]
    parameters: int | None


def is_ours(content: bytes) -> bool:
    """Tell whether an ONNX file says that `fmnist export` made it; ModelError if it is none."""
    return {FACTS, SEAL} <= read_metadata(parse_model(content)).keys()


def count_parameters(content: bytes) -> int:
    """Return how many numbers the weights of an ONNX file hold."""
    return _count_weights(parse_model(content))


def open_foreign(content: bytes, wishes: Wishes, *, threads: int | None = None) -> Foreign:
    """Return the network in an ONNX file's bytes.

    Raises ModelError, without naming the file, where it refers to other files or to operators that
    are not the standard's, where its input is no 28 x 28 image, and where it does not run.
    """
    model = parse_model(content)
    check_parts(model, OPERATORS, function_names(model))
    session = open_session(content, threads or physical_cores())
    wanted = _only_input(session)
    metadata = {key: value.decode(errors="replace") for key, value in read_metadata(model).items()}
    scores = _scores_of(session)
    form, because = _choose_form(session, wanted, scores, wishes, metadata)
    pixels = Pixels(form.layout, np.dtype(TYPES[wanted.type]), form.channels)
    pixels, of_scale = choose_scale(pixels, wishes, metadata, _scaling_inside(model, wanted.name))
    assumed = [Assumption("layout", form.layout, because), *of_scale]
    if form.channels == 3:
        assumed.append(
            Assumption("channels", "3", "its input; the grey image is given three times")
        )
    if form.batch == 1:
        assumed.append(Assumption("batch", "1", "it takes one image at a time"))
    if len(session.get_outputs()) > 1:
        assumed.append(Assumption("output", scores, f"one of {len(session.get_outputs())}"))

    def answer(images: NDArray[np.uint8], treatment: Pixels) -> NDArray[Any]:
        return _answers(session, wanted.name, scores, treatment.treat(images), form)

    return Foreign(answer, pixels, tuple(assumed), _count_weights(model))


@dataclass(frozen=True)
class _Form:
    """A shape in which images can be handed over."""

    layout: Layout
    channels: int
    batch: int | None  # None: as many as one likes
    alone: bool = False  # a single image, without an axis for several


def _only_input(session: onnxruntime.InferenceSession) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(end.name for end in inputs) or "none"
        raise ModelError(f"it has {len(inputs)} inputs ({names}); images are one")
    if inputs[0].type not in TYPES:
        raise ModelError(f"its input is {inputs[0].type}; images can be {', '.join(TYPES)}")
    return inputs[0]


def _scores_of(session: onnxruntime.InferenceSession) -> str:
    """Return the name of the output that is, or may be, scores (n, 10); else that of classes."""
    ends = session.get_outputs()
    scores = [end for end in ends if end.type in SCORES and _may_be_ten(end.shape)]
    by_name = [end for end in scores if "logit" in end.name.lower()]
    for found in (by_name, scores, [end for end in ends if end.type in CLASSES]):
        if found:
            return str(found[0].name)
    if any("map(" in end.type for end in ends):
        raise ModelError(
            "its probabilities are a list of dictionaries (ZipMap); "
            "convert it again with options={'zipmap': False}"
        )
    said = ", ".join(f"{end.name} {end.type} {end.shape}" for end in ends)
    raise ModelError(f"no output of it is scores (n, 10): {said}; Fashion-MNIST has ten classes")


def _may_be_ten(shape: Sequence[Any]) -> bool:
    sizes = [size for size in shape[1:] if isinstance(size, int) and size != 1]
    return sizes in ([], [10]) or list(shape) == [10]


def _choose_form(
    session: onnxruntime.InferenceSession,
    wanted: Any,
    scores: str,
    wishes: Wishes,
    metadata: dict[str, str],
) -> tuple[_Form, str]:
    """Return the form in which the network takes images, and how that is known."""
    shape = [size if isinstance(size, int) and size > 0 else None for size in wanted.shape]
    said, because = wishes.layout, "as you say"
    if said is None and "layout" in metadata:
        said, because = Wishes(metadata["layout"].lower()).layout, "its metadata"  # type: ignore[arg-type]
    forms = list(_forms(shape))
    if not forms:
        raise ModelError(
            f"its input is {wanted.shape}, not of 28 x 28 images; write a function that makes it "
            "of images (n, 28, 28) uint8 and name that as module:function"
        )
    if said is not None:
        forms = [form for form in forms if form.layout == said]
        if not forms:
            raise ModelError(f"its input {wanted.shape} is not {said}")
    working, problem = [], ""
    for form in forms:
        try:
            working.append(_trying(session, wanted, scores, form))
        except ModelError as error:
            problem = problem or str(error)
    if not working:
        raise ModelError(problem)
    if len({form.layout for form in working}) > 1:
        names = " and ".join(form.layout for form in working)
        raise ModelError(f"its input {wanted.shape} may be {names}; say which with --layout")
    return working[0], f"its input {wanted.shape}" if said is None else because


def _forms(shape: Sequence[int | None]) -> Iterator[_Form]:
    if not shape:  # of no known rank
        for layout, rank in (("nchw", 3), ("nhwc", 3), ("nhw", 2), ("flat", 1)):
            for found, channels in layouts_of([None] * rank):
                if found == layout and channels == 1:
                    yield _Form(found, 1, None)
        return
    several = [_Form(*found, shape[0]) for found in layouts_of(shape[1:])]
    yield from several or [_Form(*found, 1, alone=True) for found in layouts_of(shape)]


def _trying(session: onnxruntime.InferenceSession, wanted: Any, scores: str, form: _Form) -> _Form:
    """Return `form`, or that of one image at a time, if the network takes it; else ModelError."""
    drawn = np.tile(np.arange(SIDE, dtype=np.uint8) * 9, (2, SIDE, 1))
    pixels = Pixels(form.layout, np.dtype(TYPES[wanted.type]), form.channels)
    single = _Form(form.layout, form.channels, 1)
    if form.batch is None:  # a file may say so and yet have been traced for one image
        try:
            _answers(session, wanted.name, scores, pixels.treat(drawn), form)
            return form
        except ModelError as error:
            try:
                _answers(session, wanted.name, scores, pixels.treat(drawn), single)
            except ModelError:
                raise error from None
            return single
    _answers(session, wanted.name, scores, pixels.treat(drawn), form)
    return form


def _answers(
    session: onnxruntime.InferenceSession,
    name: str,
    scores: str,
    values: NDArray[Any],
    form: _Form,
) -> NDArray[Any]:
    """Return scores (n, 10) or classes (n,) of treated images (n, …), in groups as it takes."""
    n, size = len(values), form.batch or min(CHUNK, len(values))
    parts = []
    for at in range(0, n, size):
        group = values[at : at + size]
        lacking = size - len(group) if form.batch else 0
        if lacking:
            group = np.concatenate([group, np.repeat(group[-1:], lacking, axis=0)])
        told = _run(session, name, scores, group[0] if form.alone else group)
        parts.append(_rows(told, len(group))[: len(group) - lacking])
    return np.concatenate(parts)


def _run(
    session: onnxruntime.InferenceSession, name: str, scores: str, values: NDArray[Any]
) -> NDArray[Any]:
    try:
        answer: NDArray[Any] = session.run((scores,), {name: np.ascontiguousarray(values)})[0]
    except Exception as error:  # ONNX Runtime raises a dozen kinds without a common base
        raise ModelError(f"it fails on images {values.shape}: {one_line(error)}") from error
    return answer


def _rows(answer: NDArray[Any], n: int) -> NDArray[Any]:
    """Return an answer to n images as (n, 10), or as classes (n,): its first axis is of images."""
    if n > 1 and answer.shape[:1] != (n,):
        raise ModelError(
            f"its output for {n} images is {answer.shape}; the first axis must be that of images"
        )
    if np.issubdtype(answer.dtype, np.integer) and answer.size == n:
        return answer.reshape(n)
    if answer.size != 10 * n:
        each = f"{answer.size // n} scores an image" if answer.size % n == 0 else "too few answers"
        raise ModelError(
            f"it gives {each} (its output for {n} is {answer.shape}); Fashion-MNIST has ten classes"
        )
    return answer.reshape(n, 10)


def _count_weights(model: Any) -> int:
    """Return how many numbers the file's tensors of weights hold; a bare number is no weight."""
    every = list(parts(model))
    tensors = (part for part in every if part.DESCRIPTOR.name == "Tensor")
    nodes = [part for part in every if part.DESCRIPTOR.name == "Node"]
    apart = {name for node in nodes for name in _not_learned(node)}
    return sum(
        math.prod(tensor.dims)
        for tensor in tensors
        if set(tensor.type) <= set(WEIGHTS) and tensor.dims and b"".join(tensor.name) not in apart
    )


def _not_learned(node: Any) -> list[bytes]:
    """Return the names of a node's inputs that no training step changes."""
    places = NOT_LEARNED.get(b"".join(node.operator), ())
    return [name for place, name in enumerate(node.inputs) if place in places and name]


def _scaling_inside(model: Any, name: str) -> str | None:
    """Return in words what tells that the graph takes pixels 0..255, if its first steps do."""
    constants = dict(_constants(model))
    nodes = [node for graph in model.graph for node in graph.nodes]
    at = name.encode()
    for _ in range(8):
        takers = [node for node in nodes if at in node.inputs]
        if len(takers) != 1 or not takers[0].outputs:
            return None
        step = b"".join(takers[0].operator)
        if step not in MOVES:
            return _in_words(step, [constants.get(each) for each in takers[0].inputs])
        at = takers[0].outputs[0]
    return None


def _in_words(step: bytes, values: Sequence[float | None]) -> str | None:
    by = next((value for value in values if value is not None), None)
    if by is None:
        return None
    if step == b"Div" and by > 2:
        return f"its graph divides by {by:g} itself"
    if step == b"Mul" and 0 < by < 0.5:
        return f"its graph multiplies by {by:.4g} itself"
    if step in (b"Sub", b"Add") and abs(by) > 2:
        return f"its graph takes away {abs(by):.4g} first"
    return None


def _constants(model: Any) -> Iterator[tuple[bytes, float]]:
    """Yield the graph's constants of a single value by name."""
    for graph in model.graph:
        for tensor in graph.tensors:
            if (value := _single(tensor)) is not None:
                yield b"".join(tensor.name), value
        for node in graph.nodes:
            for attribute in node.attributes if b"Constant" in node.operator else ():
                for tensor in attribute.tensor:
                    if (value := _single(tensor)) is not None and node.outputs:
                        yield node.outputs[0], value


def _single(tensor: Any) -> float | None:
    """Return the value of a tensor of one number in float32 or float64."""
    kind = {(1,): "<f4", (11,): "<f8"}.get(tuple(tensor.type))
    if kind is None or math.prod(tensor.dims) != 1:
        return None
    if len(tensor.floats) == 1:
        return float(tensor.floats[0])
    raw = b"".join(tensor.raw)
    return float(np.frombuffer(raw, kind)[0]) if len(raw) == int(kind[2]) else None
