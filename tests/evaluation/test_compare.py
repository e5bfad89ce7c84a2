"""Comparisons: what is said is what the numbers bear."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fmnist.data import CLASS_NAMES
from fmnist.errors import DataError, RunError
from fmnist.evaluation.comparison.compare import compare, write_page
from fmnist.recipes import CLASSIC, SPRINT
from fmnist.runs import Run, SeedRuns
from judged import IMAGES, answers, judge, judged_bench, judged_run, some_wrong


def seeds_of(folder: Path, wrongs: list[int], **facts: Any) -> Path:
    """Runs of one training, each wrong on so many images."""
    for seed, wrong in enumerate(wrongs):
        judged_run(folder / f"seed-{seed}", some_wrong(wrong, 100 * seed + wrong), seed, **facts)
    return folder


def test_two_runs_are_compared_image_by_image(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", list(range(10, 40)))  # wrong on 10 .. 39
    judged_run(tmp_path / "b", list(range(30, 100)), recipe=CLASSIC)  # wrong on 30 .. 99
    said = compare([tmp_path / "a", tmp_path / "b"])
    (pair,) = said["pairs"]
    assert (pair["only_first_right"], pair["only_second_right"]) == (60, 20)
    assert pair["difference"] == pytest.approx(0.04, abs=1e-12)
    assert pair["p"] == pytest.approx(stats.binomtest(60, 80).pvalue, abs=1e-12)
    assert pair["better"] == "sprint"
    low, high = pair["interval"]
    assert pair["bootstrap_interval"] == pytest.approx([low, high], abs=2e-3)
    assert said["sentence"] == (
        "sprint is better than classic on the test images: 97.00 % against 93.00 %, a difference "
        f"of 4.00 points (95 % interval {100 * low:.2f} to {100 * high:.2f}; McNemar's exact "
        "test, p < 0.001)."
    )
    assert said["warnings"] == [
        "sprint and classic are single trainings: other seeds may turn it around"
    ]
    # The other way round it is the same, with the signs turned.
    (turned,) = compare([tmp_path / "b", tmp_path / "a"])["pairs"]
    assert turned["sentence"] == pair["sentence"]
    assert turned["interval"] == pytest.approx([-high, -low], abs=1e-12)


def test_the_images_where_they_differ(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", [3, 14])
    other = answers([14, 25])
    other.logits[14] = np.eye(10)[8]  # a is wrong there too, but says 5
    judge(judged_run(tmp_path / "b", [], recipe=CLASSIC), other, ("test",))
    differing = compare([tmp_path / "a", tmp_path / "b"])["differing"]
    counts = [differing[k] for k in ("count", "only_first_right", "only_second_right")]
    assert counts == [3, 1, 1]
    shown = {image["index"]: (image["first"], image["second"]) for image in differing["images"]}
    assert shown == {
        3: (CLASS_NAMES[4], CLASS_NAMES[3]),
        25: (CLASS_NAMES[5], CLASS_NAMES[6]),
        14: (CLASS_NAMES[5], CLASS_NAMES[8]),
    }
    assert [image["true"] for image in differing["images"]] == [
        CLASS_NAMES[image["index"] % 10] for image in differing["images"]
    ]


def test_by_class(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", [])
    judged_run(tmp_path / "b", list(range(6, 1000, 10))[:30], recipe=CLASSIC)
    rows = compare([tmp_path / "a", tmp_path / "b"])["classes"]
    assert [row["images"] for row in rows] == [100] * 10
    shirt = rows[6]
    assert (shirt["name"], shirt["difference"]) == ("Shirt", pytest.approx(0.3))
    assert shirt["p_adjusted"] == pytest.approx(10 * 2 * 0.5**30)
    assert all(row["difference"] == 0 and row["p"] == 1 for row in rows if row is not shirt)


@pytest.mark.parametrize("wrong", [50, 58])
def test_what_chance_explains_is_no_difference(wrong: int, tmp_path: Path) -> None:
    judged_run(tmp_path / "a", some_wrong(50, 1))
    judged_run(tmp_path / "b", some_wrong(wrong, 2), recipe=CLASSIC)
    said = compare([tmp_path / "a", tmp_path / "b"])
    (pair,) = said["pairs"]
    assert pair["interval"][0] <= 0 <= pair["interval"][1]
    assert pair["better"] is None
    assert said["sentence"].startswith("No difference shown between sprint and classic on the test")


def test_the_same_answers_differ_nowhere(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", [1, 2])
    judged_run(tmp_path / "b", [1, 2], seed=1)
    said = compare([tmp_path / "a", tmp_path / "b"])
    assert said["sentence"].startswith(
        "No difference shown between sprint (seed 0) and sprint (seed 1) on the test images: "
        "99.80 % against 99.80 %, a difference of 0.00 points"
    )
    assert said["differing"]["images"] == []
    assert said["pairs"][0]["p"] == 1


def test_seeds_of_two_trainings_are_compared_by_welch(tmp_path: Path) -> None:
    few, many = [50, 54, 49, 52, 51], [80, 71, 85, 79, 77]
    paths = [seeds_of(tmp_path / "a", few), seeds_of(tmp_path / "b", many, recipe=CLASSIC)]
    said = compare(paths)
    (pair,) = said["pairs"]
    first, second = ([1 - wrong / IMAGES for wrong in wrongs] for wrongs in (few, many))
    theirs = stats.ttest_ind(first, second, equal_var=False)
    assert pair["p"] == pytest.approx(theirs.pvalue, abs=1e-9)
    assert pair["interval"] == pytest.approx(list(theirs.confidence_interval()), abs=1e-9)
    assert said["sentence"] == (
        "sprint is better than classic on the test images: 94.88 % (mean of 5 seeds) against "
        "92.16 % (mean of 5 seeds), a difference of 2.72 points (95 % interval "
        f"{100 * pair['interval'][0]:.2f} to {100 * pair['interval'][1]:.2f}; Welch's test, "
        "p < 0.001)."
    )
    assert said["warnings"] == []
    wide = pair["other_images_interval"]
    assert wide[0] < pair["interval"][0] < pair["interval"][1] < wide[1]
    assert [group["seeds"] for group in said["groups"]] == [list(range(5))] * 2
    assert said["groups"][0]["accuracy"]["sd"] == pytest.approx(np.std(first, ddof=1), abs=1e-12)


def test_few_seeds_are_warned_about(tmp_path: Path) -> None:
    paths = [
        seeds_of(tmp_path / "a", [50, 54]),
        seeds_of(tmp_path / "b", [60, 61, 62], all_data=True),
    ]
    said = compare(paths)
    assert said["warnings"] == [
        "sprint (on 55,000) has 2 seeds and sprint (on 60,000) has 3 seeds: few to know a spread "
        "from; take 5 or more",
        "some learned from 60,000 images and some from 55,000",
    ]


@pytest.mark.parametrize(
    ("wrongs", "why"),
    [
        ([50], "classic has a single run, which shows no spread over seeds"),
        ([50, 50], "no seed of either differs from another, which shows no spread"),
    ],
)
def test_without_a_spread_nothing_is_said(wrongs: list[int], why: str, tmp_path: Path) -> None:
    first = seeds_of(tmp_path / "a", [70, 70])
    said = compare([first, seeds_of(tmp_path / "b", wrongs, recipe=CLASSIC)])
    assert said["sentence"].startswith("Nothing can be said of classic and sprint: 95.00 %")
    assert said["sentence"].endswith(f"but {why}.")
    assert said["pairs"][0]["better"] is said["pairs"][0]["interval"] is None


def test_of_three_the_best_and_whom_it_beats(tmp_path: Path) -> None:
    third = dataclasses.replace(SPRINT, name="third")
    paths = [
        seeds_of(tmp_path / "a", [80, 82, 81, 79, 83]),
        seeds_of(tmp_path / "b", [50, 53, 51, 49, 52], recipe=CLASSIC),
        seeds_of(tmp_path / "c", [51, 50, 53, 50, 52], recipe=third),
    ]
    said = compare(paths)
    assert said["sentence"] == (
        "classic has the highest accuracy, 94.90 %: better than sprint; no difference shown to "
        "third."
    )
    assert said["warnings"] == [
        "p-values are corrected for 3 comparisons (Holm), intervals are not"
    ]
    assert [(p["first"], p["second"], p["better"]) for p in said["pairs"]] == [
        ("sprint", "classic", "classic"),
        ("sprint", "third", "third"),
        ("classic", "third", None),
    ]
    assert all(pair["p_adjusted"] >= pair["p"] for pair in said["pairs"])
    assert said["classes"] is said["differing"] is None


def test_a_correction_can_take_back_what_one_test_shows(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", list(range(0, 12)))
    judged_run(tmp_path / "b", list(range(100, 126)), recipe=CLASSIC)
    alone = compare([tmp_path / "a", tmp_path / "b"])["pairs"][0]
    assert alone["p"] == pytest.approx(0.0336, abs=1e-4)
    assert alone["better"] == "sprint"
    judged_bench(tmp_path / "c", list(range(200, 219)), "theirs")
    among = compare([tmp_path / "a", tmp_path / "b", tmp_path / "c"])["pairs"][0]
    assert (among["p"], among["better"]) == (alone["p"], None)
    assert among["p_adjusted"] == pytest.approx(3 * alone["p"])


def test_a_model_made_elsewhere(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", some_wrong(100, 1))
    judged_bench(tmp_path / "b", some_wrong(40, 2), "theirs")
    said = compare([tmp_path / "a", tmp_path / "b"])
    assert said["pairs"][0]["better"] == "theirs"
    assert said["warnings"] == ["sprint is a single training: other seeds may turn it around"]


def test_what_bench_doubted_is_said(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", some_wrong(100, 1))
    bench = judged_bench(tmp_path / "b", [], "theirs")
    bench.write({**bench.read(), "warnings": ["100.00 % is above what anybody has shown"]})
    said = compare([tmp_path / "a", tmp_path / "b"])
    assert "theirs: 100.00 % is above what anybody has shown" in said["warnings"]


def test_seeds_on_other_data_files_are_another_training(tmp_path: Path) -> None:
    folder = seeds_of(tmp_path / "a", [50, 51, 52])
    other = seeds_of(tmp_path / "b", [60, 62], recipe=CLASSIC)
    judged_run(folder / "seed-3", [1], 3, data={"sha256": {"other": "files"}})
    with pytest.raises(RunError, match="were judged on other images; judge both on the same"):
        compare([folder, other])


def test_labels_of_every_seed_are_looked_at(tmp_path: Path) -> None:
    folder = seeds_of(tmp_path / "a", [50, 51, 52])
    said = answers([])
    judge(
        Run(folder / "seed-1"),
        dataclasses.replace(said, labels=np.roll(said.labels, 1)),
        ("test",),
    )
    with pytest.raises(RunError, match="seed-1 was judged on other images than the rest"):
        compare([folder, seeds_of(tmp_path / "b", [60, 62], recipe=CLASSIC)])


@pytest.mark.parametrize(
    "odd", [{"recipe": {}}, {"seed": "x"}, {"recipe": None}, {"data": {}}, {"photos": {"a": 1}}]
)
def test_odd_facts_are_named_in_a_line(odd: dict[str, Any], tmp_path: Path) -> None:
    run = judged_run(tmp_path / "a", [1])
    run.write({**run.read(), **odd})
    judged_run(tmp_path / "b", [2], recipe=CLASSIC)
    with pytest.raises(RunError, match=r"/a is damaged, or was not written by fmnist \(\w+Error"):
        compare([tmp_path / "a", tmp_path / "b"])


def test_who_was_not_judged_on_validation_is_told_how_to_leave_test_unread(
    tmp_path: Path,
) -> None:
    judged_run(tmp_path / "a", [1])
    judged_run(tmp_path / "b", [1], recipe=CLASSIC, splits=())
    with pytest.raises(RunError, match=r"run: fmnist evaluate \S+/a --split validation$"):
        compare([tmp_path / "a", tmp_path / "b"], "validation")
    (tmp_path / "b" / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"run: fmnist evaluate \S+/b --split validation$"):
        compare([tmp_path / "b", tmp_path / "a"], "validation")


def test_a_model_made_elsewhere_has_validation_where_somebody_vouches(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", [1], splits=("validation",))
    judged_bench(tmp_path / "b", [2], "theirs")
    with pytest.raises(
        RunError, match=r"theirs\.onnx --validation-held-out, if it is a model that"
    ):
        compare([tmp_path / "a", tmp_path / "b"], "validation")


def test_validation_is_for_choosing(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", [1], splits=("validation",))
    judged_run(tmp_path / "b", [2], recipe=CLASSIC, splits=("validation",))
    said = compare([tmp_path / "a", tmp_path / "b"], "validation")
    assert said["warnings"][-1] == (
        "recipes are chosen on the validation images; quote the test split"
    )
    with pytest.raises(RunError, match="a was not judged on the test split; run: fmnist evaluate"):
        compare([tmp_path / "a", tmp_path / "b"])
    judged_run(tmp_path / "c", [3], all_data=True, splits=("validation",))
    with pytest.raises(RunError, match="c was trained on the validation images too"):
        compare([tmp_path / "a", tmp_path / "c"], "validation")


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    judged_run(a, [1])
    with pytest.raises(
        RunError, match=r"1 run of sprint; name two runs, or seeds of two trainings"
    ):
        compare([a, a])
    with pytest.raises(RunError, match="is not a directory"):
        compare([a, b])
    judged_run(b, [2], recipe=CLASSIC, data={"sha256": {"other": "files"}})
    with pytest.raises(RunError, match="were judged on other images"):
        compare([a, b])
    judged_run(b, [2], recipe=CLASSIC, state="training")
    with pytest.raises(RunError, match="b has not finished training; go on with: fmnist train"):
        compare([a, b])
    run = judged_run(b, [2], recipe=CLASSIC)
    judge(run, answers([2], 990), ("test",))
    with pytest.raises(RunError, match="were judged on other images"):
        compare([a, b])
    seeds_of(tmp_path / "c", [5, 6], recipe=CLASSIC)
    judged_run(tmp_path / "d", [1])
    with pytest.raises(RunError, match="are both seed 0 of sprint; leave one out"):
        compare([a, tmp_path / "d", tmp_path / "c"])


def test_seeds_that_are_not_all_done(tmp_path: Path) -> None:
    seeds = SeedRuns(seeds_of(tmp_path / "a", [5, 6]))
    plan = {**dict.fromkeys(SeedRuns.PLAN), "named": "sprint", "seeds": [0, 1, 2]}
    seeds.write({**plan, "runs": [{}, {}]})
    with pytest.raises(RunError) as error:
        compare([seeds.folder, seeds_of(tmp_path / "b", [7, 8], recipe=CLASSIC)])
    assert str(error.value) == (
        f"{seeds.folder} has 2 of 3 seeds; go on with: fmnist train --resume {seeds.folder}"
    )


def test_runs_from_before_a_field_was_there_are_the_same_training(tmp_path: Path) -> None:
    folder = seeds_of(tmp_path / "a", [50, 51, 52])
    run = Run(folder / "seed-1")
    recipe = {k: v for k, v in run.read()["recipe"].items() if k not in ("strangers", "source")}
    run.write({**run.read(), "recipe": {**recipe, "augmentation": {"flip": True, "shift": 0}}})
    said = compare([folder, seeds_of(tmp_path / "b", [60, 62], recipe=CLASSIC)])
    assert [len(group["runs"]) for group in said["groups"]] == [3, 2]


class FakeData:
    """The images of `judged`, (1000, 28, 28), each of one grey."""

    folder = Path("data")
    test_labels = answers([]).labels
    test_images = np.repeat(np.arange(1000, dtype=np.uint8), 784).reshape(1000, 28, 28)


def test_the_page_shows_the_images_and_loads_nothing(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", list(range(100)))
    name = "<b>theirs</b> & co"
    judged_bench(tmp_path / "b", list(range(20, 110)), name)
    said = compare([tmp_path / "a", tmp_path / "b"])
    write_page(tmp_path / "page.html", said, FakeData())  # type: ignore[arg-type]
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count('<li class="first">') == 10  # only the first is right on 100 .. 109
    assert page.count('<li class="second">') == 20
    assert page.count("data:image/png;base64,") == 30
    assert "<b>theirs" not in page
    assert "&lt;b&gt;theirs&lt;/b&gt; &amp; co" in page
    assert not re.search(r"<script|https?://|<link|url\(", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert len(json.dumps(said)) < 20_000


def test_a_page_of_other_images_is_refused(tmp_path: Path) -> None:
    judged_run(tmp_path / "a", [1])
    judged_run(tmp_path / "b", [2], recipe=CLASSIC)
    said = compare([tmp_path / "a", tmp_path / "b"])
    data = FakeData()
    data.test_labels = np.roll(FakeData.test_labels, 1)
    with pytest.raises(DataError, match="judged on other images than data holds"):
        write_page(tmp_path / "page.html", said, data)  # type: ignore[arg-type]


def test_the_wider_interval_holds_other_seeds_and_other_images(tmp_path: Path) -> None:
    """Simulated: images are as hard as they are, seeds as lucky as they are."""
    from fmnist.evaluation.comparison.compare import Answers, _over_seeds
    from fmnist.evaluation.comparison.groups import Group

    rng, held, rounds, n = np.random.default_rng(5), 0, 400, 1000
    labels, indices = np.zeros(n, np.uint8), np.arange(n)
    for _ in range(rounds):
        hard = rng.beta(0.2, 2, size=n)  # chance of a mistake
        both = []
        for factor in (1.0, 0.8):
            luck = rng.normal(1, 0.04, size=(5, 1))
            wrong = rng.random((5, n)) < np.clip(hard * factor * luck, 0, 1)
            both.append(Answers(Group((), ""), wrong.astype(np.int64), labels, indices))
        low, high = _over_seeds(*both)["other_images_interval"]
        held += low <= -0.2 * (0.2 / 2.2) <= high
    assert 0.94 <= held / rounds <= 1
