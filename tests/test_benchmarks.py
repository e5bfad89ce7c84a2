"""What the benchmarks compute from what they measured."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import full_suite
import inference
import memory
import predict_many
import start_up
import time_to_accuracy
from fmnist.models import Classic, sprinter
from fmnist.runs import Bench
from rounds import ask_process, ratios, say, spread


def test_a_spread_has_quartiles() -> None:
    figures = spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert figures == {"n": 5, "median": 3, "q1": 2, "q3": 4, "min": 1, "max": 5}
    assert spread([1 / 3])["median"] == spread([1 / 3])["q1"] == 0.3333
    assert say(figures, " ms") == "3 ms (1 to 5)"


def test_ratios_are_taken_within_a_round() -> None:
    # The second round was three times as slow for both.
    assert ratios([10.0, 30.0, 12.0], [1.0, 3.0, 1.0])["median"] == 10
    assert ratios([10.0, 30.0], [1.0, 3.0])["max"] == 10
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_our_classifier_is_compared_with_keras() -> None:
    keras = {n: [1000.0 * n, 2000.0 * n] for n in inference.IMAGES}
    classic = {"Keras model(x)": keras, "Keras predict": keras}
    ours = {
        "classifier int8": {n: [10.0 * n, 20.0 * n] for n in inference.IMAGES},
        "ONNX Runtime int8": {n: [1.0, 1.0] for n in inference.IMAGES},
    }
    compared = inference.compare(classic, ours)
    assert len(compared) == 4
    for figures in compared.values():
        assert figures.keys() == {"classifier int8"}
        assert figures["classifier int8"]["median"] == 100
    cells = inference.table(ours)["classifier int8"]
    assert cells["1000"]["ms"]["median"] == 15_000
    assert cells["1000"]["images_per_second"] == round(1000 * 1000 / 15_000)


def test_photos_are_repeated_until_there_are_as_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []

    def pretend(command: list[str]) -> tuple[float, str]:
        given.append(command[3:])
        return 100.0 + len(given), "{}\n" * (len(command) - 3)

    monkeypatch.setattr(predict_many, "measure_process", pretend)
    found = predict_many.measure([Path("a.jpg"), Path("b.jpg")], [1, 3], rounds=2)
    assert given == [["a.jpg"], ["a.jpg", "b.jpg", "a.jpg"]] * 2
    assert found["photos"]["3"]["peak_mib"]["median"] == 103  # of 102 and 104
    assert found["photos"]["1"]["seconds"]["n"] == 2


def test_the_full_suite_is_timed_in_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    corruptions = {"mean_accuracy": 0.5, "mean_corruption_error": 1.0, "relative_to": "it"}
    score = {"auroc": 0.9, "aupr": 0.9, "fpr_at_95_tpr": 0.1}
    told = {"max_probability": score, "energy": None}
    found = {
        "name": "ours",
        "splits": {"test": {"accuracy": 0.9}},
        "corruptions": {**corruptions, "kinds": [{"images": 10}, {"images": 2}]},
        "outliers": {"sets": [{"name": "noise", "images": 5, "scores": told}]},
        "speed": {"threads": 2},
    }

    def pretend(command: list[str]) -> tuple[float, str]:
        commands.append(command[1:])
        place = Bench(Path(command[command.index("--out") + 1]))
        place.folder.mkdir()
        place.write({"sha256": "abc", "threads": 2})
        place.report.write_bytes(bytes(100 * len(commands)))
        return 50.0 + len(commands), json.dumps(found)

    monkeypatch.setattr(full_suite, "measure_process", pretend)
    monkeypatch.setattr("sys.argv", ["full_suite.py"])
    measured = full_suite.measure(["--suite", "full"], rounds=2)
    assert [command[:3] for command in commands] == [["bench", "--suite", "full"]] * 2
    assert measured["what"] == "fmnist bench --suite full"
    assert (measured["peak_mib"]["max"], measured["page_bytes"]) == (52, 200)
    assert measured["found"]["corruptions"] == {**corruptions, "images_asked": 12}
    (noise,) = measured["found"]["outliers"]
    assert noise["auroc"] == {"max_probability": 0.9, "energy": None}
    assert measured["command"] == "python full_suite.py"


def test_every_verb_is_timed() -> None:
    names = start_up.commands()
    assert {"fmnist --help", "fmnist train --help", "fmnist export --help"} <= names.keys()
    assert start_up.FLOOR in names
    assert start_up.CALLS.keys() <= set(start_up.verbs())


def test_imports_are_read_from_pythons_own_table() -> None:
    rows = start_up.slowest_imports([sys.executable, "-c", "import json"], count=500)
    assert "json.decoder" in [name for _, _, name in rows]
    assert rows == sorted(rows, reverse=True)
    assert all(0 <= alone <= whole for alone, whole, _ in rows)


PEAKS = """
import sys
import memory

small, said = memory.measure_process([sys.executable, "-c", "print('done')"])
large, _ = memory.measure_process([sys.executable, "-c", "x = b'x' * (300 * 2**20)"])
assert said == "done\\n"
assert large > 300 > small, (small, large)
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
assert 1 < memory.measure_process(sleep, seconds=1)[0] < large
memory.measure_process([sys.executable, "-c", "raise SystemExit(3)"], seconds=60)
"""


def test_the_peak_of_a_process_is_seen() -> None:
    """In a small process, since a child's peak begins at its parent's."""
    folder = Path(memory.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PEAKS], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "failed" in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_answers_in_json(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os; print('noise'); print([1, int(os.environ['TWO'])])")
    assert ask_process(str(script), TWO="2") == [1, 2]
    script.write_text("raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError):
        ask_process(str(script))


def test_the_few_run_evenly_among_the_many() -> None:
    turns = list(time_to_accuracy.in_turn(20, 3))
    assert [seed for name, seed in turns if name == "sprint"] == list(range(20))
    places = [place for place, (name, _) in enumerate(turns) if name == "notebook"]
    assert places == [3, 11, 19]


def test_the_race_is_summed_up() -> None:
    def ours(accuracy: float, seconds: float) -> dict[str, Any]:
        times = {"to_predictions": seconds, "starting": 2.0}
        return {"accuracy": accuracy, "loss": 0.25, "seconds": times}

    theirs = {"test_accuracy": 0.91, "test_loss": 0.3, "seconds": {"train": 210.0, "imports": 3.0}}
    runs = {"sprint": [ours(0.92, 6.0), ours(0.94, 8.0)], "notebook": [theirs]}
    found = time_to_accuracy.summarise(runs)
    assert found["ratio"] == pytest.approx({"of_medians": 30, "least": 26.25, "most": 35})
    accuracy = found["sprint"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(0.93)
    assert accuracy["mean_less_two_standard_errors"] == pytest.approx(0.93 - 2 * 0.01)
    assert found["sprint"]["to_predictions_seconds"]["median"] == 7


def test_operations_are_counted_layer_by_layer() -> None:
    classic = [784 * 9 * 32, 784 * 9 * 32 * 32, 196 * 9 * 32 * 64, 196 * 9 * 64 * 64]
    classic += [3136 * 128, 1280]
    expected = 6 * sum(classic) - 2 * classic[0]
    assert time_to_accuracy.trained_operations(Classic()) == expected
    sprint = [144 * 9 * 16 * 32, 36 * 9 * 32 * 64, 9 * 64 * 256, 2560]
    # A product of matrices in the place of a convolution is counted too.
    assert time_to_accuracy.trained_operations(sprinter()) == 6 * sum(sprint) - 2 * sprint[0]
