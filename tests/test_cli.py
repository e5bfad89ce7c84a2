"""The verbs as a user meets them: exit status, stdout, stderr and files."""

import contextlib
import csv
import io
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from PIL import Image

import garments as synthetic
from fmnist.cli import main
from fmnist.data import CLASS_NAMES
from fmnist.data.official import OFFICIAL
from fmnist.recipes import RECIPES, find_recipe

TESTS = Path(__file__).parent
STEPS = 28  # two epochs of 440 garments in batches of 32
OWN = "recipe_of_my_own:RECIPE"
MODULE = """
import os

from fmnist.recipes import Adam, Recipe
from tiny import Tiny


class Stoppable(Tiny):
    '''Sends its own process the signal STOP_BY in the third batch it learns from.'''

    batches = 0

    def forward(self, x):
        self.batches += self.training
        if self.training and self.batches == 3 and "STOP_BY" in os.environ:
            os.kill(os.getpid(), int(os.environ["STOP_BY"]))
        return super().forward(x)


RECIPE = Recipe("mine", Stoppable, 2, 32, Adam(), source="tests")
"""


@dataclass(frozen=True)
class Done:
    """What a command left on the terminal, and its exit status."""

    status: Any
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The one JSON object on the one line of stdout of a command that succeeded."""
        assert self.status == 0, self.err
        assert self.out.count("\n") == 1
        assert self.out.endswith("}\n")
        content: dict[str, Any] = json.loads(self.out)
        return content

    def error(self) -> str:
        """The one line on stderr of a command that failed."""
        assert self.status == 1
        assert self.out == ""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("fmnist: ")
        return self.err.removeprefix("fmnist: ").rstrip()


def run(data: Path | None, cwd: Path, *arguments: str, **environment: str) -> Done:
    """Run `fmnist *arguments` in this process, in the folder `cwd`."""
    out, err, log = io.StringIO(), io.StringIO(), logging.getLogger("fmnist")
    level = log.level
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        if data is not None:
            synthetic.accept(data, lambda name, file: patch.setitem(OFFICIAL, name, file))
            patch.setenv("FMNIST_DATA", str(data))
        for name, value in {"FMNIST_DEBUG": "", **environment}.items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["fmnist", *arguments])
        patch.setattr(log, "handlers", [])
        with pytest.raises(SystemExit) as ended:
            main()
    log.setLevel(level)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


class Fmnist(Protocol):
    def __call__(self, *arguments: str, **environment: str) -> Done: ...


@pytest.fixture
def fmnist(garments_dir: Path, tmp_path: Path) -> Fmnist:
    """`fmnist` on the synthetic data, in a folder that holds a recipe of one's own."""
    (tmp_path / "recipe_of_my_own.py").write_text(MODULE)

    def here(*arguments: str, **environment: str) -> Done:
        return run(garments_dir, tmp_path, *arguments, **environment)

    return here


@pytest.fixture(scope="module")
def trained(garments_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """`fmnist train` with all it does by default, and the folder it was called in."""
    cwd = tmp_path_factory.mktemp("trained")
    (cwd / "recipe_of_my_own.py").write_text(MODULE)
    return run(garments_dir, cwd, "train", OWN, "--seed", "5", "--out", "run", "--json"), cwd


@pytest.fixture
def judged(trained: tuple[Done, Path], tmp_path: Path) -> Path:
    """The test's own copy of the run, as ./run."""
    return shutil.copytree(trained[1] / "run", tmp_path / "run")


# data


def test_data_says_where_the_data_is_and_what_is_in_it(fmnist: Fmnist, garments_dir: Path) -> None:
    done = fmnist("data")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{garments_dir}  (")
    rows = [line.split() for line in done.out.splitlines()]
    for name, file in synthetic.table(garments_dir).items():
        assert [name, file.sha256] in rows
    assert ["Ankle", "boot", "44", "4", "12", "48"] in rows
    assert ["all", "ten", "440", "40", "120", "480"] in rows


def test_data_as_json(fmnist: Fmnist, garments_dir: Path) -> None:
    told = fmnist("data", "--json").json()
    assert set(told) == {"folder", "source", "sha256", "validation_sha256", "splits"}
    assert told["folder"] == str(garments_dir)
    expected = {name: file.sha256 for name, file in synthetic.table(garments_dir).items()}
    assert told["sha256"] == expected
    assert list(told["splits"]["test"]["classes"]) == list(CLASS_NAMES)


def test_data_writes_a_sheet_of_samples(fmnist: Fmnist, tmp_path: Path) -> None:
    done = fmnist("data", "--samples", "sheet.png")
    assert done.out.endswith("samples: sheet.png\n")
    assert fmnist("data", "--samples", "again.png", "--json").json()["samples"] == "again.png"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 500


def test_data_dir_goes_before_the_variable(fmnist: Fmnist, garments_dir: Path) -> None:
    done = fmnist("data", "--data-dir", str(garments_dir), FMNIST_DATA="/nowhere")
    assert done.out.startswith(f"{garments_dir}  (")
    assert done.status == 0


# recipes


def test_recipes_lists_them_all(fmnist: Fmnist) -> None:
    done = fmnist("recipes")
    assert (done.status, done.err) == (0, "")
    for name in RECIPES:
        assert f"\n {name} " in done.out


def test_recipes_as_json(fmnist: Fmnist) -> None:
    told = fmnist("recipes", "--json").json()
    assert [recipe["name"] for recipe in told["recipes"]] == list(RECIPES)
    for recipe in told["recipes"]:
        score = recipe.pop("score")
        assert recipe == find_recipe(recipe["name"]).to_json()
        assert score is None or 0.5 < score["accuracy"] < 1


# train


def test_train_ends_with_one_json_object(trained: tuple[Done, Path]) -> None:
    done, cwd = trained
    told = done.json()
    assert (told["run"], told["recipe"], told["seed"]) == ("run", "mine", 5)
    assert 0.2 < told["test"]["accuracy"] <= 1
    assert told["test"]["loss"] > 0
    assert 0 < told["seconds"]["train"] < told["seconds"]["total"]
    assert told["seconds"].keys() >= {"data", "train", "validation", "evaluate", "report", "total"}
    assert told["report"] == "run/report.html"
    assert sorted(os.listdir(cwd / "run")) == [
        "history.jsonl",
        "logits-test.npz",
        "logits-validation.npz",
        "metrics.json",
        "report.html",
        "run.json",
        "weights.safetensors",
    ]
    metrics = json.loads((cwd / "run" / "metrics.json").read_bytes())
    assert told["test"]["accuracy"] == metrics["splits"]["test"]["accuracy"]


def test_train_shows_its_progress_on_stderr(trained: tuple[Done, Path]) -> None:
    lines = [line for line in trained[0].err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[:4] for line in lines] == [
        ["epoch", "1/2", "step", f"{STEPS // 2}/{STEPS}"],
        ["epoch", "2/2", "step", f"{STEPS}/{STEPS}"],
    ]


def test_train_records_how_it_was_called(trained: tuple[Done, Path]) -> None:
    facts = json.loads((trained[1] / "run" / "run.json").read_bytes())
    assert facts["argv"] == ["fmnist", "train", OWN, "--seed", "5", "--out", "run", "--json"]
    assert (facts["state"], facts["seed"], facts["all_data"]) == ("finished", 5, False)
    assert facts["recipe"]["network"] == "recipe_of_my_own:Stoppable"


def test_train_prints_a_table_for_people(fmnist: Fmnist, tmp_path: Path) -> None:
    done = fmnist("train", OWN, "--quiet")
    assert (done.status, done.err) == (0, "")
    (folder,) = (tmp_path / "runs").iterdir()
    told = json.loads((folder / "metrics.json").read_bytes())["splits"]["test"]
    low, high = (f"{100 * bound:.2f}" for bound in told["accuracy_interval"])
    assert f"{100 * told['accuracy']:.2f} %  (95 % interval {low} to {high})" in done.out
    assert f"{told['loss']:.4f}" in done.out
    assert f"runs/{folder.name}/report.html" in done.out
    assert folder.name.startswith("mine-s0-")


def test_train_without_evaluation_on_all_data(fmnist: Fmnist, tmp_path: Path) -> None:
    done = fmnist("train", OWN, "--all-data", "--no-evaluate", "--json", "--quiet", "--out", "all")
    told = done.json()
    assert done.err == ""
    assert told["test"] is told["validation"] is told["report"] is None
    assert told["all_data"] is True
    written = {"history.jsonl", "run.json", "weights.safetensors"}
    assert set(os.listdir(tmp_path / "all")) == written
    judged = fmnist("evaluate", "all", "--recipe", OWN)
    assert "temperature 1.000 (none: trained on all images" in judged.out
    assert "validation:" not in judged.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(
    fmnist: Fmnist, tmp_path: Path, number: signal.Signals
) -> None:
    done = fmnist("train", OWN, "--quiet", "--out", "run", STOP_BY=str(int(number)))
    assert done.status == 128 + number
    assert done.out == ""
    assert done.err == (
        f"fmnist: stopped at step 3 of {STEPS}, which is saved in run; "
        f"go on with: fmnist train {OWN} --resume run\n"
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    told = fmnist("train", OWN, "--resume", "run", "--quiet", "--json").json()
    assert told["run"] == "run"
    assert json.loads((tmp_path / "run" / "run.json").read_bytes())["resumed"] == 1


def test_ctrl_c_in_a_process_of_its_own_and_the_command_it_names(
    garments_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe_of_my_own.py").write_text(MODULE)
    script = (
        "import sys; from pathlib import Path; import garments, recipe_of_my_own\n"
        "from fmnist.cli import main; from fmnist.recipes import RECIPES\n"
        "garments.accept(Path(sys.argv.pop(1))); RECIPES['mine'] = recipe_of_my_own.RECIPE\n"
        "main()"
    )
    environment = {
        **os.environ,
        "FMNIST_DATA": str(garments_dir),
        "PYTHONPATH": str(TESTS),
        "STOP_BY": str(int(signal.SIGINT)),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(garments_dir), "train", "mine", "--out", "run"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 130, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    named = done.stderr.strip().partition("go on with: ")[2]
    assert not (tmp_path / "run" / "weights.safetensors").exists()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "mine", find_recipe(OWN))
    command = shlex.split(named)
    assert command[:2] == ["fmnist", "train"]
    told = run(garments_dir, tmp_path, *command[1:], "--no-evaluate", "--json").json()
    assert told["run"] == "run"
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_the_command_to_go_on_is_fit_for_a_shell(fmnist: Fmnist) -> None:
    done = fmnist("train", OWN, "--quiet", "--out", "my run", STOP_BY=str(int(signal.SIGINT)))
    command = done.err.partition("go on with: ")[2]
    assert shlex.split(command) == ["fmnist", "train", OWN, "--resume", "my run"]


def test_ctrl_c_before_the_first_step_exits_130(
    fmnist: Fmnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fmnist.data.load_dataset", interrupted)
    done = fmnist("train", OWN, "--quiet")
    assert (done.status, done.out, done.err.strip()) == (130, "", "fmnist: interrupted")


# evaluate and report


def test_evaluate_one_split_as_json(fmnist: Fmnist, judged: Path) -> None:
    metrics = json.loads((judged / "metrics.json").read_bytes())
    (judged / "metrics.json").unlink()
    (judged / "logits-validation.npz").unlink()
    told = fmnist("evaluate", "run", "--split", "test", "--recipe", OWN, "--json").json()
    assert set(told) == {"run", "temperature", "temperature_source", "splits", "report"}
    assert (told["run"], told["report"]) == ("run", None)
    assert list(told["splits"]) == ["test"]
    assert told["splits"]["test"]["confusion"] == metrics["splits"]["test"]["confusion"]


def test_evaluate_prints_tables_for_people(fmnist: Fmnist, judged: Path) -> None:
    done = fmnist("evaluate", "run", "--recipe", OWN)
    assert (done.status, done.err) == (0, "")
    told = json.loads((judged / "metrics.json").read_bytes())
    for name in ("validation", "test"):
        assert f"{name}: accuracy {100 * told['splits'][name]['accuracy']:.2f} %" in done.out
    for name in CLASS_NAMES:
        assert done.out.count(f"\n {name} ") == 2
    worst = told["splits"]["test"]["most_confused"][0]
    assert f"most confused: {worst['true']} as {worst['predicted']} {worst['images']}" in done.out
    assert f"temperature {told['temperature']:.3f} (validation logits of this run)" in done.out


def test_report_prints_its_path(fmnist: Fmnist, judged: Path) -> None:
    (judged / "report.html").unlink()
    done = fmnist("report", "run")
    assert (done.status, done.out, done.err) == (0, "run/report.html\n", "")
    assert (judged / "report.html").stat().st_size > 10_000
    told = fmnist("report", "run", "--json").json()
    assert told == {"run": "run", "report": "run/report.html"}


# export


def test_export_says_where_and_how_near(fmnist: Fmnist, judged: Path) -> None:
    command = ["export", "run", "--recipe", OWN, "--format", "safetensors"]
    done = fmnist(*command, "--out", "a.safetensors")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("a.safetensors\nas run on 40 validation images: 0 labels differ, ")
    assert (judged.parent / "a.safetensors").stat().st_size > 10_000
    told = fmnist(*command, "--out", "b.safetensors", "--json").json()
    assert (told["run"], told["out"], told["differing_labels"]) == ("run", "b.safetensors", 0)
    assert "a.safetensors exists" in fmnist(*command, "--out", "a.safetensors").error()


# predict

KEYS = ["path", "label", "class_index", "probability", "accepted", "top", "warnings"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """./photos with three garments as PNG and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(synthetic.make(1, seed=2)[0][:3]):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def lines(done: Done) -> list[dict[str, Any]]:
    """The JSON objects on stdout, each on a line of its own."""
    assert done.out.endswith("}\n")
    return [json.loads(line) for line in done.out.split("\n")[:-1]]


def test_predict_is_a_json_object_a_line_in_input_order(fmnist: Fmnist, pictures: Path) -> None:
    given = ["photos/2.png", "photos/*.png", "nothing*", "photos/0.png", "none.jpg"]
    done = fmnist("predict", *given, "--json")
    assert (done.status, done.err) == (1, "")
    told = lines(done)
    in_folder = [f"photos/{name}.png" for name in ("0", "1", "2", "broken")]
    expected = ["photos/2.png", *in_folder, "nothing*", "photos/0.png", "none.jpg"]
    assert [line["path"] for line in told] == expected
    for line in told:
        if line["path"] in ("photos/broken.png", "nothing*", "none.jpg"):
            assert list(line) == ["path", "error"]
            assert line["error"]
        else:
            assert list(line) == KEYS
            assert CLASS_NAMES[line["class_index"]] == line["label"] == line["top"][0]["label"]
            assert 0 < line["probability"] <= 1
            assert len(line["top"]) == 3
            assert set(line["top"][0]) == {"label", "class_index", "probability"}
    assert told[0] == told[3]


def test_predict_exits_0_where_all_could_be_read(fmnist: Fmnist, pictures: Path) -> None:
    (pictures / "broken.png").unlink()
    done = fmnist("predict", "photos", "--json", "--top", "10")
    assert (done.status, done.err) == (0, "")
    assert [len(line["top"]) for line in lines(done)] == [10] * 3


def test_predict_as_csv(fmnist: Fmnist, pictures: Path) -> None:
    (pictures / 'a,"b".png').write_bytes((pictures / "0.png").read_bytes())
    done = fmnist("predict", "photos", "--csv")
    assert (done.status, done.err) == (1, "")
    rows = list(csv.DictReader(io.StringIO(done.out, newline=""), strict=True))
    assert list(rows[0]) == [*KEYS[:5], "warnings", "error"]
    names = ["0.png", "1.png", "2.png", 'a,"b".png', "broken.png"]
    assert [row["path"] for row in rows] == [f"photos/{name}" for name in names]
    same = [{key: row[key] for key in row if key != "path"} for row in rows]
    assert same[0] == same[3]
    for row in rows[:4]:
        assert CLASS_NAMES[int(row["class_index"])] == row["label"]
        assert 0 < float(row["probability"]) <= 1
        assert row["accepted"] in ("true", "false")
        assert row["error"] == ""
    assert (rows[4]["label"], rows[4]["accepted"]) == ("", "")
    assert rows[4]["error"]


def test_predict_off_a_terminal_is_a_line_a_picture(fmnist: Fmnist, pictures: Path) -> None:
    done = fmnist("predict", "photos")
    assert done.status == 1
    assert done.err.startswith("fmnist: photos/broken.png: ")
    assert done.err.count("\n") == 1
    told = lines(fmnist("predict", "photos/[0-2].png", "--json"))
    for line, answer in zip(done.out.splitlines(), told, strict=True):
        assert answer["path"] in line
        assert f"{100 * answer['probability']:.0f} %" in line
        assert ("not sure" in line) is not answer["accepted"]
        assert line.startswith(answer["label"] if answer["accepted"] else "not sure")
        assert "\x1b" not in line
    more = fmnist("predict", "photos/0.png", "--top", "4").out
    assert all(guess["label"] in more for guess in told[0]["top"])
    assert more.count(" %") == 1 + 4


def test_predict_reads_a_picture_from_stdin(
    fmnist: Fmnist, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = io.TextIOWrapper(io.BytesIO((pictures / "1.png").read_bytes()))
    monkeypatch.setattr(sys, "stdin", piped)
    (told,) = lines(fmnist("predict", "-", "--json"))
    (read,) = lines(fmnist("predict", "photos/1.png", "--json"))
    assert told == {**read, "path": "-"}


def test_predict_asks_another_model(fmnist: Fmnist, judged: Path, pictures: Path) -> None:
    export = ["export", "run", "--recipe", OWN, "--format", "onnx", "--out", "mine.onnx"]
    assert fmnist(*export).status == 0
    shipped = fmnist("predict", "photos/0.png", "--json")
    mine = fmnist("predict", "photos/0.png", "--model", "mine.onnx", "--json")
    assert (mine.status, mine.err) == (0, "")
    assert lines(mine)[0]["probability"] != lines(shipped)[0]["probability"]
    said = fmnist("predict", "photos/0.png", "--model", "run").error()
    assert f"export run --recipe {OWN} --format onnx --out mine.onnx" in said


def test_predict_writes_a_gallery_and_steps(fmnist: Fmnist, pictures: Path) -> None:
    options = ["--gallery", "out/page.html", "--save-steps", "steps", "--explain"]
    done = fmnist("predict", "photos", *options, "--json")
    assert done.status == 1
    assert len(lines(done)) == 4
    page = (pictures.parent / "out" / "page.html").read_text("utf-8")
    for name in ("0", "1", "2", "broken"):
        assert f"photos/{name}.png" in page
    assert page.count("<figcaption>What counted<") == 3
    written = {path.name for path in (pictures.parent / "steps").iterdir()}
    steps = ("original", "mask", "cutout", "image", "enlarged", "explained")
    assert written == {f"{number}-{step}.png" for number in range(3) for step in steps}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="no such names there")
@pytest.mark.parametrize(
    "name",
    [
        *("[red]a.png", "[b]a[0].png", ":smile:.png", "a\nb.png", "a\x1b[31m\tb.png"),
        *("\udcff.png", "a\u2028b.png", "a\x85b.png", "a\u202eb.png", "=1+1.png", "ä 服.png"),
    ],
)
def test_predict_is_not_broken_by_a_name(fmnist: Fmnist, pictures: Path, name: str) -> None:
    folder = pictures.parent / "odd"
    folder.mkdir()
    (folder / name).write_bytes((pictures / "0.png").read_bytes())
    done = fmnist("predict", "odd", "--json")
    (told,) = [json.loads(line) for line in done.out.splitlines()]
    assert told["path"] == f"odd/{name}"
    (row,) = csv.DictReader(io.StringIO(fmnist("predict", "odd", "--csv").out, newline=""))
    assert row["path"] == f"odd/{name}".replace("\udcff", "\\udcff")
    plain = fmnist("predict", "odd")
    assert len(plain.out.splitlines()) == 1
    assert plain.out.rstrip("\n").isprintable()
    if name.isprintable():
        assert f"odd/{name}" in plain.out
    (folder / name).write_bytes(b"no picture")
    broken = fmnist("predict", "odd")
    assert (broken.status, broken.out) == (1, "")
    assert len(broken.err.splitlines()) == 1
    assert broken.err.rstrip("\n").isprintable()
    html = fmnist("predict", "odd", "--gallery", "a.html", "--json")
    assert (html.status, html.err) == (1, "")


def in_a_process(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """`fmnist predict *arguments`, started; as without the extra `train`."""
    code = (
        "import sys\n"
        "for name in ('torch', 'safetensors', 'onnx', 'sklearn', 'matplotlib', 'keras'):\n"
        "    sys.modules[name] = None\n"
        "from fmnist.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, "predict", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def test_predict_needs_nothing_of_the_extra_train(pictures: Path) -> None:
    options = ["--gallery", "a.html", "--save-steps", "steps", "--explain", "--json"]
    out, err = in_a_process(pictures.parent, "photos", *options).communicate(timeout=60)
    assert err == ""
    assert len(out.splitlines()) == 4
    refused = in_a_process(pictures.parent, "photos", "--model", "photos")
    assert "holds no run.json" in refused.communicate(timeout=60)[1]


def test_a_reader_may_leave_before_the_end(pictures: Path) -> None:
    process = in_a_process(pictures.parent, *["photos"] * 500, "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["path"] == "photos/0.png"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT")
def test_ctrl_c_ends_predict_after_whole_lines(pictures: Path) -> None:
    process = in_a_process(pictures.parent, *["photos"] * 5000, "--json")
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "fmnist: interrupted"
    told = [json.loads(line) for line in (first + rest).splitlines()]
    assert told[0]["path"] == "photos/0.png"
    assert 0 < len(told) < 20_000


# doctor


def test_doctor_finds_all_well(fmnist: Fmnist, garments_dir: Path) -> None:
    done = fmnist("doctor")
    assert (done.status, done.err) == (0, "")
    assert f"verified, {garments_dir}" in done.out
    assert torch.__version__ in done.out
    assert "!!" not in done.out


def test_doctor_as_json(fmnist: Fmnist) -> None:
    told = fmnist("doctor", "--json").json()
    assert told["healthy"] is True
    assert {"fmnist", "machine", "data set", "cache", "extra train", "PyTorch", "threads"} <= {
        check["what"] for check in told["checks"]
    }
    assert all(check.keys() == {"what", "found", "ok", "advice"} for check in told["checks"])


def test_doctor_names_each_problem_and_what_to_do(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmnist.data.folders.other_tools", list)
    done = run(None, tmp_path, "doctor", "--json")
    assert (done.status, done.err) == (1, "")
    told = json.loads(done.out)
    assert told["healthy"] is False
    (problem,) = [check for check in told["checks"] if not check["ok"]]
    assert problem["what"] == "data set"
    assert "fmnist data" in problem["advice"]
    assert not list(own_home.rglob("*"))  # nothing was fetched or written


def test_doctor_sees_what_is_missing(fmnist: Fmnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    done = fmnist("doctor", "--json")
    assert done.status == 1
    problems = {c["what"]: c for c in json.loads(done.out)["checks"] if not c["ok"]}
    assert problems.keys() == {"cache", "extra train"}
    assert problems["extra train"]["found"] == "lacks matplotlib"
    assert problems["extra train"]["advice"] == "pip install 'fmnist[train]'"
    assert "FMNIST_CACHE" in problems["cache"]["advice"]


# what goes wrong

NO_GPU = "mps" if torch.cuda.is_available() else "cuda"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train clasic", "there is no recipe 'clasic'; there are "),
        ("train nothing:RECIPE", "no recipe can be read from nothing:RECIPE"),
        (f"train {OWN} --out run", "run holds a finished run; name a new directory with --out"),
        ("train classic --out recipe_of_my_own.py", "is a file, not a directory"),
        (f"train {OWN} --device {NO_GPU} --out new", f"offers PyTorch no {NO_GPU}"),
        ("train --resume nowhere", "nowhere is not a directory"),
        ("train --resume .", "holds no run.json"),
        ("train --resume run", "name it: fmnist train recipe_of_my_own:RECIPE --resume run"),
        (
            "train classic --resume run",
            "run was started with another recipe than classic is now (name, network",
        ),
        (f"train {OWN} --resume run --engine keras", "was started with the engine torch"),
        ("export nowhere --format keras --out a.keras", "nowhere is not a directory"),
        ("export run --format keras --out a.onnx", "a.onnx does not end in .keras"),
        ("export run --format safetensors --out a.safetensors", "name its recipe to allow it"),
        ("evaluate nowhere", "nowhere is not a directory"),
        ("evaluate run", "name its recipe to allow it: fmnist evaluate run --recipe"),
        ("report nowhere", "nowhere is not a directory"),
        ("predict a.jpg --model nowhere", "nowhere cannot be read: No such file"),
        ("predict a.jpg --model recipe_of_my_own.py", "is not an ONNX model"),
        ("predict a.jpg --gallery recipe_of_my_own.py/a.html", "recipe_of_my_own.py"),
        ("data --data-dir nowhere", "nowhere"),
        ("data --samples recipe_of_my_own.py/sheet.png", "py/sheet.png cannot be written"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    fmnist: Fmnist, judged: Path, command: str, message: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in judged.iterdir()}
    assert message in fmnist(*command.split()).error()
    assert {path: path.stat().st_mtime_ns for path in judged.iterdir()} == before
    assert not (judged.parent / "new").exists()


@pytest.mark.parametrize(
    ("file", "command", "message"),
    [
        ("weights.safetensors", f"evaluate run --recipe {OWN}", "is damaged"),
        ("run.json", f"evaluate run --recipe {OWN}", "run.json is damaged"),
        ("metrics.json", "report run", "metrics.json is damaged"),
        ("logits-test.npz", "report run", "is damaged; run: fmnist evaluate run"),
        ("history.jsonl", "report run", "history.jsonl is damaged"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_what_to_do(
    fmnist: Fmnist, judged: Path, file: str, command: str, message: str
) -> None:
    content = (judged / file).read_bytes()
    (judged / file).write_bytes(content[: len(content) - 7])
    assert message in fmnist(*command.split()).error()


def test_an_error_of_the_system_is_one_line(
    fmnist: Fmnist, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    assert "No space left on device" in fmnist("report", "run").error()


@pytest.mark.parametrize(
    "command",
    [
        "trian",
        "--no-such-option",
        "train classic --seed one",
        "train classic --seed -1",
        "train classic --engine abacus",
        "train classic --device tpu",
        "train classic extra",
        "train --resume run --out other",
        "evaluate",
        "evaluate run --split train",
        "report",
        "export run --format keras",
        "export run --format h5 --out a.h5",
        "predict",
        "predict --json",
        "predict a.jpg --top 0",
        "predict a.jpg --top 11",
        "predict a.jpg --csv --json",
        "predict a.jpg --csv --top 5",
        "train photo --senders s.csv --part train",
        "train photo --stranger Hat",
        "train photo --photos p --senders s.csv",
        "train photo --photos p --part train",
        "train --photos p --resume runs/a",
        "export run --format keras --out a.keras --no-mirror",
        "export run --format keras --out a.keras --ensemble-with run",
        "export run --format keras --out a.keras --least-probability 0.5",
        "predict a.jpg --explain",
        "predict a.jpg --explain --json",
        "predict --gallery a.jpg b.jpg",
        "serve --port 70000",
        "serve --workers none",
    ],
)
def test_bad_usage_exits_2(fmnist: Fmnist, command: str) -> None:
    done = fmnist(*command.split())
    assert (done.status, done.out) == (2, "")
    assert "Usage: " in done.err
    assert "Traceback" not in done.err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    def failing(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fmnist", *options, "data", "--data-dir", "nowhere"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    plain, debug = failing(), failing("--debug")
    assert (plain.returncode, debug.returncode) == (1, 1)
    assert "Traceback" not in plain.stderr
    assert "Traceback (most recent call last)" in debug.stderr
    assert "DataError: the folder given" in debug.stderr


def test_version(fmnist: Fmnist) -> None:
    done = fmnist("--version")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("fmnist 0.")


@pytest.mark.parametrize(
    "verb",
    ["data", "recipes", "train", "evaluate", "report", "export", "predict", "serve", "doctor"],
)
def test_the_help_of_every_verb_has_an_example(fmnist: Fmnist, verb: str) -> None:
    done = fmnist(verb, "--help")
    assert (done.status, done.err) == (0, "")
    assert f"fmnist {verb}" in done.out.partition("Example")[2]
