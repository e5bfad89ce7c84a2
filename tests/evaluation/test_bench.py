import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist.classifier.pixels import Wishes
from fmnist.data import Dataset
from fmnist.errors import DataError, ModelError, RunError
from fmnist.evaluation.bench.making import bench
from fmnist.evaluation.bench.targets import open_target
from fmnist.evaluation.calibration import fit_temperature
from fmnist.evaluation.suite import measure_splits
from fmnist.runs import Bench, open_judged
from foreign import answers, linear, softmax, write_onnx

MINE = """
import numpy as np

weights = np.load("weights.npy")

def scores(images):
    assert images.shape[1:] == (28, 28) and images.dtype == np.uint8
    images[:] = 255 - images  # a function may do as it likes with its own copy
    return (255 - images.reshape(len(images), 784)) / 255.0 @ weights[:784] + weights[784]

def nine(images):
    return scores(images)[:, :9]

def fewer(images):
    return scores(images)[1:]

def broken(images):
    raise KeyError("of theirs")

class Model:
    def predict(self, images):
        return scores(images).argmax(axis=1)

model, number = Model(), 7
"""


@pytest.fixture
def weights(data: Dataset) -> NDArray[np.float32]:
    return linear(data)


@pytest.fixture
def logits(data: Dataset, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return answers(weights, data.test_images)


@pytest.fixture
def here(tmp_path: Path, weights: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module of somebody's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys", raising=False)
    np.save("weights.npy", weights)
    Path("somebodys.py").write_text(MINE)
    return tmp_path


def test_a_foreign_file_is_judged_as_its_logits_say(
    here: Path, data: Dataset, weights: NDArray[np.float32], logits: NDArray[np.float32]
) -> None:
    write_onnx(Path("theirs.onnx"), weights)
    told = bench("theirs.onnx", data, out="judged", validation_held_out=True)
    judged = open_judged("judged")
    assert isinstance(judged, Bench)
    saved = {split: judged.read_logits(split) for split in ("validation", "test")}
    np.testing.assert_allclose(saved["test"].logits, logits, atol=1e-5)
    temperature = fit_temperature(saved["validation"].logits, saved["validation"].labels)
    expected = measure_splits(saved, told["temperature"], told["temperature_source"])
    assert {key: told[key] for key in expected} == expected == judged.read_metrics()
    assert told["temperature"] == temperature != 1
    facts = judged.read()
    assert facts["kind"] == "onnx"
    command = "fmnist bench theirs.onnx --name theirs --out judged --validation-held-out"
    assert facts["command"] == command
    assert (facts["recipe"], facts["all_data"]) == (None, None)
    assert facts["parameters"] == 7850
    assert facts["file_bytes"] == Path("theirs.onnx").stat().st_size
    assert {note["what"]: note["value"] for note in facts["assumed"]} == {
        **{"layout": "nchw", "scale": "255", "mean": "0", "std": "1"},
        "scores": "logits",
    }
    assert "theirs" in Path(told["report"]).read_text("utf-8")
    assert json.loads(json.dumps(told)) == told


def test_every_kind_of_target_gives_the_same_accuracy(
    here: Path, data: Dataset, weights: NDArray[np.float32], logits: NDArray[np.float32]
) -> None:
    np.savez("shares.npz", probabilities=softmax(logits))
    np.savez("plain.npz", logits=logits)
    np.savez("classes.npz", predictions=logits.argmax(axis=1))
    Path("classes.csv").write_text("\n".join(map(str, logits.argmax(axis=1))))
    write_onnx(Path("m.onnx"), weights, ("n", 784))
    right = float((logits.argmax(axis=1) == data.test_labels).mean())
    assert right > 0.8
    kinds = {}
    for target in (
        *("shares.npz", "plain.npz", "classes.npz", "classes.csv", "m.onnx"),
        *("somebodys:scores", "somebodys:model.predict"),
    ):
        told = bench(target, data, out=f"judged-{target.replace(':', '-')}")
        assert told["splits"]["test"]["accuracy"] == right, target
        kinds[target] = told["scores"]
        assert list(told["splits"]) == ["test"]
        assert told["temperature"] == 1
        assert (told["splits"]["test"]["loss"] is None) == (told["scores"] == "classes")
    assert kinds["shares.npz"] == "probabilities"
    assert kinds["somebodys:model.predict"] == kinds["classes.csv"] == "classes"
    one, other = (
        Bench(Path(f"judged-{name}.npz")).read_metrics()["splits"]["test"]
        for name in ("shares", "plain")
    )
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


def test_without_a_target_the_shipped_classifier_is_judged(here: Path, data: Dataset) -> None:
    told = bench(None, data, out="judged")
    assert (told["kind"], told["name"]) == ("fmnist", "fmnist")
    assert told["temperature_source"] == "the file's own"
    assert list(told["splits"]) == ["test"]  # it has learned from all 60,000
    facts = Bench(Path("judged")).read()
    assert facts["recipe"]["name"] == "photo"
    assert facts["all_data"] is True
    with pytest.raises(RunError, match="says itself what it has learned from"):
        bench(None, data, out="judged", validation_held_out=True)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("somebodys:nine", r"somebodys:nine: the answers have the shape \(40, 9\)"),
        ("somebodys:fewer", "asked about 40 images it gives 39 answers"),
        ("somebodys:broken", "it fails on images .* KeyError: 'of theirs'"),
        ("somebodys:number", "is int, not a function"),
        ("somebodys:Model", "is type, not a function"),
        ("somebodys:missing", "cannot be imported .* no attribute 'missing'"),
        ("nobodys:scores", "cannot be imported .* No module named 'nobodys'"),
        ("missing.onnx", "missing.onnx cannot be read: No such file"),
        ("net.pt", "may run code when it is loaded; export it as .onnx, or write a function"),
        ("net.h5", "old format; save it as .keras"),
        ("net", "is not known; bench takes"),
        (".", "is a folder"),
    ],
)
def test_what_cannot_be_judged_is_said_in_a_line(
    target: str, message: str, here: Path, data: Dataset
) -> None:
    with pytest.raises(ModelError, match=message) as error:
        bench(target, data, out="judged")
    assert "\n" not in str(error.value)
    assert not Path("judged").exists()


def test_code_is_imported_only_where_it_is_named(here: Path, data: Dataset) -> None:
    with pytest.raises(ModelError):
        open_target("somebodys.py", Wishes(), threads=1)
    assert "somebodys" not in sys.modules


def test_predictions_of_other_images_are_refused(
    here: Path, data: Dataset, weights: NDArray[np.float32]
) -> None:
    np.savez("train.npz", logits=answers(weights, data.train_images))
    with pytest.raises(DataError, match=r"train.npz: there are 480 rows: .* the training images"):
        bench("train.npz", data)
    labels = data.test_labels.astype(int)
    np.savez("shifted.npz", predictions=labels + 1)
    with pytest.raises(ModelError, match="run from 1 to 10"):
        bench("shifted.npz", data)
    np.savez("labels.npz", predictions=labels)
    (doubt, bare) = bench("labels.npz", data, out="judged")["warnings"]
    assert "are these the labels themselves" in doubt
    assert "loss and calibration need scores" in bare


def test_a_wrong_scale_is_hinted_at_and_never_put_right(
    here: Path, data: Dataset, weights: NDArray[np.float32]
) -> None:
    # Trained on pixels 0..255, and nothing in the file that says so.
    raw = np.concatenate([weights[:784] / 255, weights[784:]])
    write_onnx(Path("raw.onnx"), raw)
    with pytest.raises(ModelError, match="with --scale 1 it gets"):
        bench("raw.onnx", data, out="judged")
    right = bench("raw.onnx", data, out="right", wishes=Wishes(scale=1))
    assert right["splits"]["test"]["accuracy"] > 0.8
    assert not any("--scale" in each for each in right["warnings"])


@pytest.mark.parametrize("target", ["shares.npz", "somebodys:scores"])
def test_options_of_files_are_refused_elsewhere(target: str, here: Path, data: Dataset) -> None:
    with pytest.raises(ModelError, match=r"are of .onnx and .keras files"):
        bench(target, data, wishes=Wishes(scale=1))


def test_a_directory_of_something_else_is_left_alone(here: Path, data: Dataset) -> None:
    Path("full").mkdir()
    Path("full/mine.txt").write_text("keep")
    with pytest.raises(RunError, match="full is not empty"):
        bench("somebodys:scores", data, out="full")
    with pytest.raises(RunError, match=r"mine.txt is a file"):
        bench("somebodys:scores", data, out="full/mine.txt")
    assert [path.name for path in Path("full").iterdir()] == ["mine.txt"]
    bench("somebodys:scores", data, out="other")
    with pytest.raises(RunError, match="other is the bench of somebodys:scores; name a new"):
        bench("somebodys:model.predict", data, out="other")
    with pytest.raises(RunError, match="add --suite full"):
        bench("somebodys:scores", data, outliers=["x.npz"])


# What the base install does not have.
HIDDEN = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "safetensors", "matplotlib", "onnx", "onnxscript",
                                      "sklearn", "scipy", "keras", "tensorflow", "h5py"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from pathlib import Path
import garments
garments.accept(Path(sys.argv.pop(1)))
from fmnist.cli import main
main()
"""


@pytest.mark.parametrize("target", [None, "m.onnx", "somebodys:scores", "p.npz", "p.csv"])
def test_the_base_install_is_enough(
    target: str | None,
    here: Path,
    garments_dir: Path,
    weights: NDArray[np.float32],
    logits: NDArray[np.float32],
) -> None:
    write_onnx(Path("m.onnx"), weights)
    np.savez("p.npz", scores=logits)
    Path("p.csv").write_text("\n".join(map(str, logits.argmax(axis=1))))
    done = hidden(garments_dir, *([target] if target else []), "--quiet", "--json")
    assert done.stderr == ""
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["report"] is None
    assert 0 < told["splits"]["test"]["accuracy"] < 1


def test_keras_files_without_keras_say_how_to_get_it(here: Path, garments_dir: Path) -> None:
    Path("m.keras").write_bytes(b"PK")
    done = hidden(garments_dir, "m.keras")
    message = "fmnist: keras is not installed; run: pip install 'fmnist[keras]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def hidden(garments_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parents[1]
    command = [str(garments_dir), "bench", *arguments, "--data-dir", str(garments_dir)]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", HIDDEN, *command],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tests)},
    )


def test_a_file_of_ours_needs_no_options(here: Path, data: Dataset) -> None:
    from fmnist.classifier.classifier import SHIPPED

    with pytest.raises(ModelError, match="knows its layout and scale"):
        bench(str(SHIPPED), data, wishes=Wishes(mean=0.5))


def test_the_full_suite_asks_the_model(
    here: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def measure(subject: Any, test: Any, **_: Any) -> dict[str, Any]:
        asked.append((subject.name, None if subject.ask is None else subject.ask(test.images)))
        return {"corruptions": None, "outliers": None, "speed": None}

    monkeypatch.setattr("fmnist.evaluation.bench.making.measure_full", measure)
    monkeypatch.setattr("fmnist.evaluation.bench.making.save_embedding", lambda *_: None)
    bench("somebodys:scores", data, out="judged", suite="full", name="mine")
    ((name, logits),) = asked
    assert name == "mine"
    np.testing.assert_array_equal(logits, Bench(Path("judged")).read_logits("test").logits)


def test_an_earlier_bench_is_replaced_as_a_whole(
    here: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench("somebodys:scores", data, out="judged", validation_held_out=True)
    (judged := Path("judged")).joinpath("embedding-test.npz").write_bytes(b"of before")
    assert (judged / "logits-validation.npz").exists()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "write_metrics", killed)
        with pytest.raises(KeyboardInterrupt):
            bench("somebodys:scores", data, out="judged", name="again")
    for stale in ("metrics.json", "report.html", "logits-validation.npz", "embedding-test.npz"):
        assert not (judged / stale).exists(), stale
    told = bench("somebodys:scores", data, out="judged", name="again")
    assert list(Bench(judged).read_metrics()["splits"]) == ["test"] == list(told["splits"])


def test_two_without_a_name_get_two_directories(here: Path, data: Dataset) -> None:
    folders = {bench("somebodys:scores", data)["bench"] for _ in range(2)}
    assert len(folders) == 2


def test_predictions_of_the_test_images_tell_nothing_of_others(
    here: Path, data: Dataset, logits: NDArray[np.float32]
) -> None:
    np.savez("answers.npz", logits=logits)
    with pytest.raises(RunError, match=r"answers.npz holds predictions of the test images alone"):
        bench("answers.npz", data, suite="full", outliers=["x.npz"])
    with pytest.raises(RunError, match=r"answers.npz holds no predictions of the validation"):
        bench("answers.npz", data, validation_held_out=True)


def test_the_full_suite_says_what_predictions_do_not_tell(
    here: Path, data: Dataset, logits: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmnist.evaluation.bench.making.save_embedding", lambda *_: None)
    np.savez("answers.npz", logits=logits)
    told = bench("answers.npz", data, suite="full", out="judged")
    assert told["corruptions"] is told["outliers"] is told["speed"] is None
    assert told["warnings"][-1].startswith("corruptions, outliers and speed need the model itself")


def test_a_function_may_import_when_it_is_asked(here: Path, data: Dataset) -> None:
    Path("lazily_mine.py").write_text("from somebodys import scores")
    Path("lazy_mine.py").write_text(
        "def scores(images):\n    import lazily_mine\n    return lazily_mine.scores(images)\n"
        "def stopping(images):\n    raise SystemExit(3)\n"
    )
    assert bench("lazy_mine:scores", data)["splits"]["test"]["accuracy"] > 0.8
    assert str(here) not in sys.path
    with pytest.raises(ModelError, match=r"it fails on images .* SystemExit: 3"):
        bench("lazy_mine:stopping", data)
    Path("script_of_mine.py").write_text("import sys\nsys.exit(0)")
    with pytest.raises(ModelError, match=r"cannot be imported from .* SystemExit: 0"):
        bench("script_of_mine:scores", data)


def test_of_somebodys_function_it_is_not_known_where_it_computes(
    here: Path, data: Dataset, weights: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def measure(subject: Any, test: Any, **_: Any) -> dict[str, Any]:
        asked[subject.name] = (subject.threads is None, subject.device)
        return {"corruptions": None, "outliers": None, "speed": None}

    monkeypatch.setattr("fmnist.evaluation.bench.making.measure_full", measure)
    monkeypatch.setattr("fmnist.evaluation.bench.making.save_embedding", lambda *_: None)
    write_onnx(Path("theirs.onnx"), weights)
    for target in ("somebodys:scores", "theirs.onnx"):
        bench(target, data, suite="full")
    assert asked == {"somebodys:scores": (True, None), "theirs": (False, "cpu")}
