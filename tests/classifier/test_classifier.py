"""A classifier's file: what it answers, and what is refused before it can do harm."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exported import TOLD, forged
from fmnist.classifier import classifier as module
from fmnist.classifier import load_classifier
from fmnist.classifier.classifier import open_classifier, open_session
from fmnist.data import CLASS_NAMES
from fmnist.errors import ModelError

Images = NDArray[np.uint8]

# What it answers


def test_it_knows_its_classes_and_where_it_is_from(file: Path) -> None:
    classifier = load_classifier(file)
    assert classifier.class_names == CLASS_NAMES
    assert classifier.temperature == 1.5
    assert classifier.facts["recipe"] == {"name": "tiny"}


def test_predictions_are_the_largest_logits(
    file: Path, images: Images, labels: NDArray[np.uint8]
) -> None:
    classifier = load_classifier(file)
    logits, predicted = classifier.logits(images), classifier.classes(images)
    assert logits.shape == (120, 10)
    assert logits.dtype == np.float32
    assert predicted.shape == (120,)
    assert predicted.dtype == np.uint8
    assert (predicted == logits.argmax(axis=1)).all()
    assert (predicted == labels).mean() > 0.8


def test_probabilities_are_tempered(file: Path, images: Images) -> None:
    classifier = load_classifier(file)
    probabilities = classifier.probabilities(images)
    expected = np.exp(classifier.logits(images).astype(np.float64) / 1.5)
    np.testing.assert_allclose(probabilities, expected / expected.sum(1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_one_image_is_a_batch_of_one(file: Path, images: Images) -> None:
    classifier = load_classifier(file)
    np.testing.assert_array_equal(classifier.logits(images[3]), classifier.logits(images[3:4]))
    assert classifier.classes(images[3]).shape == (1,)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_answers_do_not_depend_on_the_batch(
    precision: str, file: Path, int8: bytes, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = file.read_bytes() if precision == "float32" else forged(onnx.load_from_string(int8))
    classifier = open_classifier(content)
    whole = classifier.logits(images)
    alone = np.concatenate([classifier.logits(image) for image in images])
    monkeypatch.setattr(module, "CHUNK", 7)
    chunked = classifier.logits(images)
    np.testing.assert_allclose(alone, whole, atol=1e-4)
    np.testing.assert_allclose(chunked, whole, atol=1e-4)


def test_no_image_has_no_answer(file: Path, images: Images) -> None:
    classifier = load_classifier(file)
    assert classifier.logits(images[:0]).shape == (0, 10)
    assert classifier.probabilities(images[:0]).shape == (0, 10)
    assert classifier.classes(images[:0]).shape == (0,)


def test_images_may_lie_in_memory_as_they_like(file: Path, images: Images) -> None:
    classifier, odd = load_classifier(file, threads=1), images[::-3, ::-1, :]
    odd.flags.writeable = False
    np.testing.assert_array_equal(classifier.logits(odd), classifier.logits(odd.copy()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((28, 28), np.float32), r"\(28, 28\) float32"),
        (np.zeros((2, 28, 28), np.int64), "int64"),
        (np.zeros((2, 28, 28, 1), np.uint8), r"\(2, 28, 28, 1\) uint8"),
        (np.zeros((2, 784), np.uint8), r"\(2, 784\) uint8"),
        (np.zeros((28, 27), np.uint8), r"\(28, 27\) uint8"),
        (np.zeros(784, np.uint8), r"\(784,\) uint8"),
        (np.uint8(3), "a numpy array, not uint8"),
        ([[0] * 28] * 28, "not list"),
    ],
)
def test_other_arrays_are_refused(file: Path, wrong: Any, said: str) -> None:
    classifier = load_classifier(file)
    for ask in (classifier.logits, classifier.probabilities, classifier.classes):
        with pytest.raises(
            ModelError, match=f"^images must be .*{said}(; for the pixels of a photo, .*)?$"
        ):
            ask(wrong)


def test_it_works_without_torch_and_onnx(file: Path, tmp_path: Path, images: Images) -> None:
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy, fmnist\n"
        "classifier = fmnist.load_classifier(sys.argv[1])\n"
        "print(classifier.classes(numpy.load(sys.argv[2])).tolist())\n"
        "print([m for m in ('torch', 'onnx', 'safetensors', 'PIL', 'cv2') if m in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(file), str(tmp_path / "images.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    predicted, imported = done.stdout.splitlines()
    assert json.loads(predicted) == load_classifier(file).classes(images).tolist()
    assert imported == "[]"


# What is refused


def refused(content: bytes, folder: Path) -> str:
    """The reason why a file of this content is not loaded; a line that names the file."""
    path = folder / "refused.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        load_classifier(path)
    said = str(error.value)
    assert said.count(str(path)) == 1
    assert "\n" not in said
    return said


def test_a_thousand_flipped_bits_are_seen(file: Path) -> None:
    content, draw = file.read_bytes(), random.Random(1)
    for _ in range(1000):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        with pytest.raises(ModelError):
            open_classifier(bytes(flipped))


def test_a_cut_file_is_seen(file: Path) -> None:
    content, draw = file.read_bytes(), random.Random(2)
    for length in [0, 1, len(content) - 1, *(draw.randrange(len(content)) for _ in range(100))]:
        with pytest.raises(ModelError):
            open_classifier(content[:length])


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(99), b"<html>", random.Random(3).randbytes(9999)]
)
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    reason = refused(content, tmp_path)
    assert "not an ONNX model" in reason or "not made by `fmnist export`" in reason


def test_forged_files_fail_in_python_and_nowhere_else(model: bytes) -> None:
    """Whoever damages a file and seals it again gets an error or an answer, never a crash."""
    code = (
        "import sys, random, onnx; from exported import forged\n"
        "from fmnist.classifier.classifier import open_classifier\n"
        "from fmnist.errors import ModelError\n"
        "model, draw, refused = sys.stdin.buffer.read(), random.Random(4), 0\n"
        "for _ in range(300):\n"
        "    flipped = bytearray(model)\n"
        "    flipped[draw.randrange(3000)] ^= 1 << draw.randrange(8)\n"  # the graph lies first
        "    try: content = forged(onnx.load_from_string(bytes(flipped)))\n"
        "    except Exception: continue\n"
        "    try: open_classifier(content)\n"
        "    except ModelError: refused += 1\n"
        "print(refused)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=model,
        capture_output=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) > 50


@pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "/etc/passwd"])
def test_weights_in_another_file_are_refused(
    where: str, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime itself would open the first two: they lie where it looks."""
    proto = onnx.load_from_string(model)
    weights = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=where)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below" if where.startswith("..") else tmp_path)
    assert "weights lie in another file" in refused(forged(proto), tmp_path)


def test_weights_in_another_file_are_found_in_attributes_and_second_graphs(
    model: bytes, tmp_path: Path
) -> None:
    away = helper.make_tensor("away", TensorProto.FLOAT, [1], [1.0])
    away.external_data.add(key="location", value="weights.bin")
    constant = helper.make_node("Constant", [], ["constant"], value=away)
    proto = onnx.load_from_string(model)
    proto.graph.node.append(constant)
    assert "weights lie in another file" in refused(forged(proto), tmp_path)
    branch = helper.make_graph([constant], "branch", [], [])
    proto.graph.node[-1].CopyFrom(helper.make_node("If", ["x"], ["y"], then_branch=branch))
    assert "weights lie in another file" in refused(forged(proto), tmp_path)
    proto = onnx.load_from_string(model)
    hidden = onnx.ModelProto(graph=helper.make_graph([], "hidden", [], [], [away]))
    twice = onnx.load_from_string(proto.SerializeToString() + hidden.SerializeToString())
    assert "weights lie in another file" in refused(forged(twice), tmp_path)


def operator_of_our_own(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def operator_of_onnx_runtime(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("EPContext", [], ["out"], domain="com.microsoft"))


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="")


def training_graph(model: onnx.ModelProto) -> None:
    model.training_info.add()


def other_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "pixels"
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "images" else name for name in node.input]


def wide_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 32


def float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def one_image_only(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def second_output(model: onnx.ModelProto) -> None:
    name = model.graph.node[0].output[0]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, None))


def not_a_number(model: onnx.ModelProto) -> None:
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = np.full_like(numpy_helper.to_array(weights), np.nan)
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Teleport"


def no_opset(model: onnx.ModelProto) -> None:
    model.ClearField("opset_import")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (operator_of_our_own, "it needs operators of 'com.example'"),
        (operator_of_onnx_runtime, "it needs operators of 'com.microsoft'"),
        (function, "it holds functions"),
        (training_graph, "it holds functions, training"),
        (other_input, r"its input must be images \(n, 28, 28\) uint8 and is .*pixels"),
        (wide_input, "its input must be images|refuses it"),
        (float_input, "its input must be images|refuses it"),
        (one_image_only, "it fails on black images|its input must be"),
        (second_output, "its output must be logits"),
        (not_a_number, "finite"),
        (unknown_operator, "ONNX Runtime refuses it: .*Teleport"),
        (no_opset, "ONNX Runtime refuses it"),
    ],
)
def test_another_model_is_refused(
    change: Callable[[onnx.ModelProto], None],
    reason: str,
    model: bytes,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    proto = onnx.load_from_string(model)
    change(proto)
    said = refused(forged(proto), tmp_path)
    assert re.search(reason, said), said
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        {**TOLD, "class_names": ["bag"]},
        {**TOLD, "class_names": list(range(10))},
        {**TOLD, "temperature": 0},
        {**TOLD, "temperature": float("nan")},
        {**TOLD, "temperature": "warm"},
        {**TOLD, "least_probability": 1.01},
        {**TOLD, "least_probability": "high"},
        {"class_names": TOLD["class_names"]},
    ],
)
def test_a_file_that_says_nonsense_of_itself_is_refused(
    told: Any, model: bytes, tmp_path: Path
) -> None:
    reason = refused(forged(onnx.load_from_string(model), told), tmp_path)
    assert "what it says of itself cannot be used" in reason


def test_a_foreign_onnx_file_is_refused(model: bytes, tmp_path: Path) -> None:
    assert "it was not made by `fmnist export`" in refused(model, tmp_path)


def test_a_large_file_is_not_read(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_BYTES", file.stat().st_size - 1)
    assert "is over" in refused(file.read_bytes(), tmp_path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(ModelError, match=f"^{path} cannot be read: "):
            load_classifier(path)


def test_onnx_runtimes_own_format_is_refused(model: bytes, tmp_path: Path) -> None:
    options, path = onnxruntime.SessionOptions(), tmp_path / "model.ort"
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert path.read_bytes()[4:8] == b"ORTM"
    with pytest.raises(ModelError, match="ONNX Runtime refuses it"):
        open_session(path.read_bytes(), 1)
