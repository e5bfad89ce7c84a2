import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn

from fmnist.classifier.export import _quiet_exporter
from fmnist.classifier.foreign import Foreign, _rows, count_parameters, open_foreign
from fmnist.classifier.pixels import Layout, Pixels, Wishes
from fmnist.data import Dataset
from fmnist.errors import ModelError
from foreign import FLOAT, answers, linear, write_onnx


@pytest.fixture
def weights(garments: Dataset) -> NDArray[np.float32]:
    return linear(garments)


@pytest.fixture
def images(garments: Dataset) -> NDArray[np.uint8]:
    return garments.test_images


def told(network: Foreign, images: NDArray[np.uint8]) -> NDArray[Any]:
    return network.answer(images, network.pixels)


def because(network: Foreign, what: str) -> str:
    (note,) = (note for note in network.assumed if note.what == what)
    return note.because


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("n", 1, 28, 28), "nchw"),
        (("n", 28, 28, 1), "nhwc"),
        (("n", 28, 28), "nhw"),
        (("n", 784), "flat"),
        ((1, 1, 28, 28), "nchw"),
        ((50, 28, 28, 1), "nhwc"),
    ],
)
def test_every_layout_and_batch_gives_the_same_scores(
    shape: tuple[int | str, ...],
    layout: str,
    weights: NDArray[np.float32],
    images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    network = open_foreign(write_onnx(tmp_path / "m.onnx", weights, shape).read_bytes(), Wishes())
    assert network.pixels == Pixels(layout, np.dtype(np.float32))  # type: ignore[arg-type]
    np.testing.assert_allclose(told(network, images), answers(weights, images), atol=1e-5)
    assert network.parameters == 7850
    assert because(network, "layout") == f"its input {list(shape)}"
    assert "assumed" in because(network, "scale")
    assert ("batch" in [note.what for note in network.assumed]) == (shape[0] == 1)


def test_a_network_without_a_batch_is_asked_image_by_image(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    before = [("Reshape", ["input", "row"], ["ready"])]
    constants = {"row": np.array([1, 784])}
    ends = [("scores", FLOAT, [1, 10])]
    path = write_onnx(
        tmp_path / "m.onnx", weights, (28, 28), before=before, constants=constants, ends=ends
    )
    network = open_foreign(path.read_bytes(), Wishes())
    np.testing.assert_allclose(told(network, images[:5]), answers(weights, images[:5]), atol=1e-5)


def test_a_file_traced_for_one_image_that_says_otherwise_is_asked_one_by_one(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    before = [("Reshape", ["input", "row"], ["ready"])]
    constants = {"row": np.array([1, 784])}
    path = write_onnx(tmp_path / "m.onnx", weights, before=before, constants=constants)
    network = open_foreign(path.read_bytes(), Wishes())
    assert because(network, "batch") == "it takes one image at a time"
    np.testing.assert_allclose(told(network, images[:5]), answers(weights, images[:5]), atol=1e-5)


@pytest.mark.parametrize("step", ["Div", "Mul"])
def test_scaling_inside_the_graph_is_seen(
    step: str, weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    by = np.array(255 if step == "Div" else 1 / 255, np.float32)
    before = [("Identity", ["input"], ["same"]), (step, ["same", "by"], ["ready"])]
    path = write_onnx(tmp_path / "m.onnx", weights, before=before, constants={"by": by})
    network = open_foreign(path.read_bytes(), Wishes())
    assert network.pixels.scale == 1
    assert because(network, "scale").startswith("its graph ")
    np.testing.assert_allclose(told(network, images), answers(weights, images), atol=1e-5)


def test_bytes_are_handed_over_as_they_are(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    before = [
        ("Cast", ["input"], ["floats"], {"to": FLOAT}),
        ("Div", ["floats", "by"], ["ready"]),
    ]
    path = write_onnx(
        tmp_path / "m.onnx",
        weights,
        ("n", 28, 28),
        kind=TensorProto.UINT8,
        before=before,
        constants={"by": np.array([255], np.float32)},
    )
    network = open_foreign(path.read_bytes(), Wishes())
    assert because(network, "scale") == "its input is uint8"
    np.testing.assert_allclose(told(network, images), answers(weights, images), atol=1e-5)
    with pytest.raises(ModelError, match=r"whole numbers.*leave out the scale"):
        open_foreign(path.read_bytes(), Wishes(scale=255))


def test_what_a_person_says_comes_before_the_metadata(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    metadata = {"scale": "1", "mean": "12.5", "std": "100"}
    content = write_onnx(tmp_path / "m.onnx", weights, metadata=metadata).read_bytes()
    network = open_foreign(content, Wishes())
    assert (network.pixels.scale, network.pixels.mean, network.pixels.std) == (1, 12.5, 100)
    assert because(network, "mean") == "its metadata"
    treated = network.pixels.treat(images)
    np.testing.assert_allclose(treated[:, 0], (images.astype(float) - 12.5) / 100, atol=1e-6)
    network = open_foreign(content, Wishes(scale=255, mean=0.5))
    assert (network.pixels.scale, network.pixels.mean, network.pixels.std) == (255, 0.5, 100)
    assert because(network, "mean") == "as you say"


def test_three_channels_are_the_grey_image_three_times(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    mean = [("ReduceMean", ["input", "axis"], ["ready"])]
    path = write_onnx(
        tmp_path / "m.onnx",
        weights,
        ("n", 3, 28, 28),
        before=mean,
        constants={"axis": np.array([1])},
    )
    network = open_foreign(path.read_bytes(), Wishes())
    assert network.pixels.channels == 3
    np.testing.assert_allclose(told(network, images), answers(weights, images), atol=1e-5)


def test_an_open_shape_needs_the_layout(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = write_onnx(tmp_path / "m.onnx", weights, ("a", "b", "c", "d"))
    with pytest.raises(ModelError, match="may be nchw and nhwc; say which with --layout"):
        open_foreign(path.read_bytes(), Wishes())
    network = open_foreign(path.read_bytes(), Wishes(layout="nhwc"))
    np.testing.assert_allclose(told(network, images), answers(weights, images), atol=1e-5)


def test_logits_are_preferred_to_probabilities_and_either_to_classes(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    after = [
        ("Softmax", ["scores"], ["shares"], {"axis": 1}),
        ("Identity", ["scores"], ["the_logits"]),
        ("ArgMax", ["scores"], ["label"], {"axis": 1, "keepdims": 0}),
    ]
    label: Any = ("label", TensorProto.INT64, ["n"])
    ends: Any = [label, ("shares", FLOAT, ["n", 10]), ("the_logits", FLOAT, ["n", 10])]
    path = write_onnx(tmp_path / "m.onnx", weights, after=after, ends=ends)
    network = open_foreign(path.read_bytes(), Wishes())
    assert because(network, "output") == "one of 3"
    np.testing.assert_allclose(told(network, images), answers(weights, images), atol=1e-5)
    path = write_onnx(tmp_path / "c.onnx", weights, after=after, ends=[label])
    classes = told(open_foreign(path.read_bytes(), Wishes()), images)
    np.testing.assert_array_equal(classes, answers(weights, images).argmax(axis=1))


class Network(nn.Module):
    """A plain torch network of float images (n, 1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(4 * 13 * 13, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.body(x))
        return scores


@pytest.mark.parametrize("open_batch", [True, False])
def test_a_network_as_torch_exports_it(
    open_batch: bool, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network, path = Network().eval(), tmp_path / "theirs.onnx"
    with _quiet_exporter():
        torch.onnx.export(
            network,
            (torch.zeros(2 if open_batch else 1, 1, 28, 28),),
            path,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},) if open_batch else None,
            external_data=False,
            verbose=False,
        )
    ready = torch.from_numpy((images[:, None].astype(np.float32) / 255 - 0.286) / 0.353)
    with torch.no_grad():
        expected = network(ready.float()).numpy()
    found = open_foreign(path.read_bytes(), Wishes(mean=0.286, std=0.353))
    np.testing.assert_allclose(told(found, images), expected, atol=1e-4)


def refused(path: Path, wishes: Wishes | None = None) -> str:
    with pytest.raises(ModelError) as error:
        open_foreign(path.read_bytes(), wishes or Wishes())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_asked_is_said(weights: NDArray[np.float32], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    two = [("Add", ["input", "mask"], ["ready"])]
    assert "2 inputs (input, mask)" in refused(
        write_onnx(path, weights, before=two, more_inputs=["mask"])
    )
    eleven = np.c_[weights, weights[:, :1]]
    assert "Fashion-MNIST has ten classes" in refused(write_onnx(path, eleven))
    cut = [("Slice", ["input", "from", "to", "axes"], ["ready"])]
    ends = {"from": np.array([2, 2]), "to": np.array([30, 30]), "axes": np.array([2, 3])}
    assert "not of 28 x 28 images" in refused(
        write_onnx(path, weights, ("n", 1, 32, 32), before=cut, constants=ends)
    )
    assert "is not nhwc" in refused(write_onnx(path, weights), Wishes(layout="nhwc"))
    assert "its metadata say scale = 'a lot'" in refused(
        write_onnx(path, weights, metadata={"scale": "a lot"})
    )
    assert "tensor(string)" in refused(
        write_onnx(path, weights, kind=TensorProto.STRING, before=[
            ("Cast", ["input"], ["ready"], {"to": FLOAT}),
        ])
    )  # fmt: skip


def test_what_reaches_outside_is_refused_unopened(
    weights: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmnist.classifier.foreign.open_session", lambda *_: pytest.fail("opened"))
    path = write_onnx(tmp_path / "m.onnx", weights)
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0)
    assert refused(path).startswith("its weights lie in another file")
    odd = [("Foo", ["scores"], ["odd"])]
    foo = write_onnx(path, weights, after=odd, ends=[("odd", FLOAT, ["n", 10])])
    model = onnx.load(foo)
    model.graph.node[-1].domain = "their.ops"
    foo.write_bytes(model.SerializeToString())
    assert refused(foo) == "it needs operators of 'their.ops'; only standard ONNX is loaded"
    path.write_bytes(b"no model")
    assert refused(path) == "it is not an ONNX model, or cut short"


@pytest.mark.parametrize(
    "wrong", [{"scale": 0}, {"scale": float("nan")}, {"std": -1}, {"mean": float("inf")}]
)
def test_scales_that_no_image_bears_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="must be"):
        Wishes(**wrong)  # type: ignore[arg-type]


def test_other_ways_to_treat_an_image_are_answered_too(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    network = open_foreign(write_onnx(tmp_path / "m.onnx", weights).read_bytes(), Wishes())
    raw = dataclasses.replace(network.pixels, scale=1.0)
    expected = 255 * (answers(weights, images) - weights[784]) + weights[784]
    np.testing.assert_allclose(network.answer(images, raw), expected, rtol=1e-3, atol=1e-2)


def with_function(path: Path, domain: str, name: str, called: str) -> bytes:
    """The model at `path`, with a function in `domain` and a last node that calls `called`."""
    model = onnx.load(path)
    body = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    opsets = [onnx.helper.make_opsetid("", 18)]
    model.functions.append(
        onnx.helper.make_function(domain, name, ["x"], ["y"], body, opset_imports=opsets)
    )
    model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    model.graph.node[-1].op_type, model.graph.node[-1].domain = called, domain
    content: bytes = model.SerializeToString()
    return content


def test_a_function_of_the_file_is_all_that_its_domain_gives(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    after, path = [("Identity", ["scores"], ["same"])], tmp_path / "m.onnx"
    write_onnx(path, weights, after=after, ends=[("same", FLOAT, ["n", 10])])
    network = open_foreign(with_function(path, "their.own", "Same", "Same"), Wishes())
    np.testing.assert_allclose(told(network, images), answers(weights, images), atol=1e-5)
    for domain, name, called, message in (
        ("com.microsoft", "Same", "Gelu", "defines a function in 'com.microsoft'"),
        ("com.ms.internal.nhwc", "Same", "Same", "defines a function in 'com.ms.internal.nhwc'"),
        ("", "Same", "Same", "defines a function in ''"),
        ("their.own", "Same", "Gelu", "needs operators of 'their.own'"),
    ):
        with pytest.raises(ModelError, match=message):
            open_foreign(with_function(path, domain, name, called), Wishes())


def test_scores_are_not_turned_by_their_number_alone(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    after: Any = [("Transpose", ["scores"], ["turned"], {"perm": [1, 0]})]
    ends: Any = [("turned", FLOAT, ["a", "b"])]
    with pytest.raises(ModelError, match=r"5 images is \(10, 5\); the first axis"):
        _rows(np.zeros((10, 5)), 5)
    path = write_onnx(tmp_path / "m.onnx", weights, after=after, ends=ends)
    network = open_foreign(path.read_bytes(), Wishes())  # of one image there is no other order
    np.testing.assert_allclose(told(network, images), answers(weights, images), atol=1e-5)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_three_channels_may_have_a_mean_each(layout: Layout, images: NDArray[np.uint8]) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = Pixels(layout, np.dtype(np.float32), 3, mean=mean, std=std)
    expected = (images[..., None] / 255 - np.array(mean)) / np.array(std)  # (n, 28, 28, 3)
    expected = expected.transpose(0, 3, 1, 2) if layout == "nchw" else expected
    np.testing.assert_allclose(pixels.treat(images), expected, atol=1e-5)
    assert pixels.in_words() == "--scale 255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"


def test_three_means_are_of_three_channels(
    weights: NDArray[np.float32], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    three, path = Wishes(mean=(0.5, 0.4, 0.3)), tmp_path / "m.onnx"
    assert "mean has 3 numbers; its images have one channel" in refused(
        write_onnx(path, weights), three
    )
    before = [("ReduceMean", ["input", "axis"], ["ready"])]
    constants = {"axis": np.array([1])}
    write_onnx(path, weights, ("n", 3, 28, 28), before=before, constants=constants)
    one, each = (open_foreign(path.read_bytes(), w) for w in (Wishes(mean=0.4), three))
    np.testing.assert_allclose(told(each, images), told(one, images), atol=1e-5)
    assert ("mean", "0.5,0.4,0.3") in [note[:2] for note in each.assumed]
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"mean": "0.5,0.4,0.3"})
    said = open_foreign(model.SerializeToString(), Wishes())
    assert said.pixels == each.pixels
    with pytest.raises(ModelError, match="one number, or three"):
        Wishes(std=(1.0, 2.0))


def test_parameters_are_what_training_changes(weights: NDArray[np.float32], tmp_path: Path) -> None:
    ten = np.ones(10, np.float32)
    norm = dict.fromkeys(("gain", "shift", "average", "spread"), ten)
    names = ["gain", "shift", "average", "spread"]
    path = write_onnx(
        tmp_path / "m.onnx",
        weights,
        after=[
            ("BatchNormalization", ["scores", *names], ["normed"]),
            ("DequantizeLinear", ["packed", "step", "zero"], ["more"]),
            ("Add", ["normed", "more"], ["last"]),
        ],
        ends=[("last", FLOAT, ["n", 10])],
        constants={
            **norm,
            "packed": np.zeros(10, np.uint8),
            "step": np.ones(1, np.float32),
            "zero": np.zeros(1, np.uint8),
        },
    )
    assert count_parameters(path.read_bytes()) == 7850 + 10 + 10 + 10
