"""FashionClassifier: scikit-learn's own checks, and what they cannot know."""

import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fmnist import CLASS_NAMES, Dataset, FashionClassifier, train
from fmnist.errors import RunError
from fmnist.recipes import RECIPES, Adam, Augmentation, Pruning
from fmnist.training.batches import Batches
from fmnist.training.device import Device
from fmnist.training.estimator import _without_single
from fmnist.training.inference import infer
from tiny import TINY, TINY_ADAM

CPU = Device("cpu", "float32")

# How many columns the checks feed that expect an image of another size to be taken.
WIDTHS = {
    "check_array_api_input": 10,
    "check_classifier_data_not_an_array": 2,
    "check_classifiers_classes": 2,
    "check_classifiers_one_label": 3,
    "check_classifiers_train": 2,
    "check_dict_unchanged": 3,
    "check_dont_overwrite_parameters": 3,
    "check_dtype_object": 10,
    "check_estimators_dtypes": 5,
    "check_estimators_fit_returns_self": 2,
    "check_estimators_nan_inf": 3,
    "check_estimators_overwrite_params": 2,
    "check_estimators_pickle": 3,
    "check_f_contiguous_array_estimator": 3,
    "check_fit2d_predict1d": 3,
    "check_fit_check_is_fitted": 2,
    "check_fit_idempotent": 2,
    "check_fit_score_takes_y": 3,
    "check_methods_sample_order_invariance": 3,
    "check_methods_subset_invariance": 3,
    "check_n_features_in": 2,
    "check_n_features_in_after_fitting": 4,
    "check_pipeline_consistency": 3,
    "check_readonly_memmap_input": 2,
    "check_supervised_y_2d": 3,
}
OTHER_WIDTHS = {name: f"feeds {width} columns, not 784" for name, width in WIDTHS.items()}
# scikit-learn's own list for its Pipeline, in sklearn.utils._test_common.
OF_PIPELINE = dict.fromkeys(
    ("check_dont_overwrite_parameters", "check_estimators_overwrite_params"),
    "Pipeline changes its steps while it is fitted",
)


def stripes(X: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A few columns (n, k) as images (n, 784): each column a band."""
    return np.repeat(X, -(-784 // X.shape[1]), axis=1)[:, :784]


def to_bytes_scale(X: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return X * 255


# The checks feed a few columns of any numbers; behind these two steps they get through to a fit.
OF_BANDS = make_pipeline(
    MinMaxScaler((0, 255), clip=True),
    FunctionTransformer(stripes),
    FashionClassifier(
        dataclasses.replace(
            TINY, epochs=4, augmentation=Augmentation(), pruning=None, label_smoothing=0.0
        )
    ),
)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Bits depend on the number of threads, and joblib gives its workers fewer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [FashionClassifier(TINY)], expected_failed_checks=lambda estimator: OTHER_WIDTHS
)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [OF_BANDS], expected_failed_checks=lambda estimator: OF_PIPELINE
)
def test_scikit_learn_checks_that_reach_a_fit(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_checks_expected_to_fail_do_so_for_the_width_alone() -> None:
    failed = {}
    for estimator, check in estimator_checks_generator(FashionClassifier(TINY)):
        name = getattr(check, "func", check).__name__
        if name in WIDTHS and name != "check_array_api_input":  # skipped where it is not wanted
            with pytest.raises((ValueError, AssertionError)) as raised:
                check(estimator)
            failed[name] = str(raised.value.__context__ or raised.value)
    assert len(failed) >= 20
    sentences = {name: f"X has {WIDTHS[name]} feature(s), but 28x28 pixels" for name in failed}
    assert [name for name in failed if sentences[name] not in failed[name]] == []


def test_it_learns_labels_that_are_names(garments: Dataset) -> None:
    names = np.array(CLASS_NAMES)
    train, test = garments.split("all"), garments.split("test")
    classifier = FashionClassifier(TINY, epochs=12).fit(train.images, names[train.labels])
    assert classifier.classes_.tolist() == sorted(CLASS_NAMES)
    assert classifier.score(test.images, names[test.labels]) >= 0.9
    probabilities = classifier.predict_proba(test.images)
    assert probabilities.shape == (120, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (classifier.classes_[probabilities.argmax(1)] == classifier.predict(test.images)).all()


def test_it_is_trained_as_train_does(
    garments: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("estimator", "provenance"):
        monkeypatch.setattr(f"fmnist.training.{module}.physical_cores", lambda: 1)
    run = train(TINY, garments, seed=3, all_data=True, out=tmp_path / "run", device="cpu")
    split = garments.split("all")
    classifier = FashionClassifier(TINY, random_state=3, device="cpu")
    classifier.fit(split.images, split.labels)
    trained, expected = classifier.network_.state_dict(), load_file(run.weights)
    assert trained.keys() == expected.keys()
    assert all(torch.equal(trained[name], expected[name]) for name in trained)


def test_a_probability_is_of_the_image_and_its_mirror_image(garments: Dataset) -> None:
    split = garments.split("all")
    classifier = FashionClassifier(TINY, epochs=1, device="cpu").fit(split.images, split.labels)
    logits = infer(classifier.network_, garments.test_images, CPU, flip=True)
    expected = torch.tensor(logits).softmax(1).numpy()
    np.testing.assert_allclose(
        classifier.predict_proba(garments.test_images), expected, rtol=1e-4, atol=1e-6
    )


def test_images_may_be_flat_or_square_bytes_or_floats(garments: Dataset) -> None:
    images, labels = garments.train_images[:60], garments.train_labels[:60]
    fitted = FashionClassifier(TINY, epochs=1).fit(images, labels)
    expected = fitted.predict_proba(images)
    almost = images.reshape(60, 784) + np.random.default_rng(0).uniform(-0.4, 0.4, (60, 784))
    for same in (images.reshape(60, 784), images.tolist(), images.astype(np.int64), almost):
        classifier = FashionClassifier(TINY, epochs=1).fit(same, labels)
        assert classifier.n_features_in_ == 784
        assert (classifier.predict_proba(same) == expected).all()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.full((4, 784), -1), "Negative values in data"),
        (np.full((4, 784), 256), r"X goes up to 256; pixels are wanted in 0\.\.255"),
        (np.full((4, 28, 28), 300.5), r"X goes up to 300\.5"),
        (np.full((4, 784), 0.5), r"on a scale of 0\.\.1; .* multiply X by 255"),
        (np.ones((4, 784), bool), r"on a scale of 0\.\.1"),
        (np.full((4, 784), np.nan), "contains NaN"),
        (np.full((4, 785), 9), r"X has 785 feature\(s\), but 28x28 pixels are 784"),
        (np.full((4, 28, 27), 9), "dim 3"),
        (np.full((4, 28, 28, 1), 9), "dim 4"),
    ],
)
def test_what_is_no_image_is_a_value_error(X: Any, message: str, garments: Dataset) -> None:
    with pytest.raises(ValueError, match=message):
        FashionClassifier(TINY).fit(X, [0, 1, 0, 1])


def test_dark_images_are_taken_as_they_are() -> None:
    black = np.zeros((4, 784))
    FashionClassifier(TINY, epochs=1).fit(black, [0, 1, 0, 1]).predict(black)
    FashionClassifier(TINY, epochs=1).fit(np.eye(4, 784, dtype=np.uint8), [0, 1, 0, 1])


def test_fewer_classes_have_as_many_columns(garments: Dataset) -> None:
    some = np.isin(garments.train_labels, (3, 7, 9))
    images, labels = garments.train_images[some], -10 * garments.train_labels[some].astype(int)
    classifier = FashionClassifier(TINY, epochs=8).fit(images, labels)
    assert classifier.classes_.tolist() == [-90, -70, -30]
    probabilities = classifier.predict_proba(images)
    assert probabilities.shape == (len(images), 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert classifier.score(images, labels) >= 0.9


def test_more_than_ten_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="y has 11 classes; the networks have 10"):
        FashionClassifier(TINY).fit(np.zeros((11, 784), np.uint8), np.arange(11))


@pytest.mark.parametrize("images", [2, 3, 17, 25, 26, 33])
def test_no_batch_is_of_one_image(images: int, garments: Dataset) -> None:
    few, labels = garments.train_images[:images], garments.train_labels[:images]
    for pruning in (None, Pruning(easy=0.7, kept=0.4)):
        recipe = dataclasses.replace(RECIPES["sprint"], batch_size=8, pruning=pruning)
        batches = Batches(few, labels, _without_single(recipe, images), CPU.torch)
        losses = torch.arange(float(images))
        sizes = [len(b.y) for epoch in range(3) for b in batches.epoch(0, epoch, losses)]
        assert min(sizes) >= 2
        assert max(sizes) <= 8


def test_the_recipe_keeps_its_batches_where_no_image_is_alone() -> None:
    for name, recipe in RECIPES.items():
        assert _without_single(recipe, 55_000) == _without_single(recipe, 60_000) == RECIPES[name]


def test_the_shipped_recipe_learns_from_seventeen_images(garments: Dataset) -> None:
    images, labels = garments.train_images[:17], garments.train_labels[:17]
    classifier = FashionClassifier(epochs=8, batch_size=8).fit(images, labels)
    assert classifier.recipe_.batch_size == 7
    assert classifier.score(images, labels) >= 0.8


def test_the_seed_decides_and_nobody_elses_changes(
    garments: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = garments.train_images[:100], garments.train_labels[:100]

    def weights(random_state: Any) -> float:
        classifier = FashionClassifier(TINY, epochs=1, random_state=random_state)
        classifier.fit(images, labels).predict(images)
        return sum(
            float(value.double().sum()) for value in classifier.network_.state_dict().values()
        )

    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert weights(0) == weights(0) == weights(np.int64(0))
    assert weights(np.random.RandomState(1)) == weights(np.random.RandomState(1))
    assert len({weights(0), weights(1), weights(None), weights(None)}) == 4
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (FashionClassifier("sprnt"), "there is no recipe 'sprnt'"),
        (FashionClassifier("photo"), "photo is made for photos; train it with fmnist.train"),
        (
            FashionClassifier(dataclasses.replace(TINY, pruning=None, strangers=5)),
            "tiny is made for photos",
        ),
        (FashionClassifier(epochs=0), "epochs must be a whole number from 1"),
        (FashionClassifier(batch_size=-1), "batch_size must be a whole number from 1"),
        (FashionClassifier(device="gpu"), "there is no device 'gpu'"),
        (
            FashionClassifier(dataclasses.replace(TINY_ADAM, optimizer=Adam(learning_rate=1e38))),
            "a weight is not finite after 12 steps of recipe tiny-adam",
        ),
    ],
)
def test_a_training_that_cannot_be_had_is_a_run_error(
    classifier: FashionClassifier, message: str, garments: Dataset
) -> None:
    with pytest.raises(RunError, match=message):
        classifier.fit(garments.train_images[:128], garments.train_labels[:128])


def test_a_pickled_classifier_answers_the_same(garments: Dataset, tmp_path: Path) -> None:
    images, labels = garments.train_images[:100], garments.train_labels[:100]
    classifier = FashionClassifier(TINY, epochs=2).fit(images, labels)
    expected = classifier.predict_proba(images)
    joblib.dump(classifier, tmp_path / "classifier.joblib")
    for again in (
        pickle.loads(pickle.dumps(classifier)),
        joblib.load(tmp_path / "classifier.joblib"),
    ):
        assert (again.predict_proba(images) == expected).all()


def test_a_clone_is_not_fitted_and_has_its_parameters() -> None:
    first = FashionClassifier(TINY, epochs=2, batch_size=9, random_state=4, device="cpu")
    again = clone(first)
    assert again is not first
    assert again.get_params() == first.get_params()
    assert not hasattr(again, "classes_")


def test_a_grid_is_searched_through_a_pipeline(garments: Dataset) -> None:
    X, y = garments.train_images.reshape(-1, 784) / 255, garments.train_labels
    pipeline = make_pipeline(FunctionTransformer(to_bytes_scale), FashionClassifier(TINY))
    grid = {
        "fashionclassifier__epochs": np.arange(1, 6, 4),
        "fashionclassifier__recipe": [TINY, TINY_ADAM],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["fashionclassifier__epochs"] == 5
    assert search.best_score_ >= 0.8
    assert search.predict(X[:5]).dtype == y.dtype


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_two_jobs_score_as_one_does(backend: str, garments: Dataset, one_thread: None) -> None:
    X, y = garments.train_images, garments.train_labels
    folds = StratifiedKFold(2)
    classifier = FashionClassifier(TINY, epochs=2)
    alone = cross_val_score(classifier, X, y, cv=folds)
    with joblib.parallel_config(backend, n_jobs=2):
        together = cross_val_score(classifier, X, y, cv=folds)
    assert together.tolist() == alone.tolist()
    assert alone.min() > 0.5


def test_its_tags_say_what_it_takes() -> None:
    tags = get_tags(FashionClassifier())
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.two_d_array
    assert tags.input_tags.three_d_array
    assert tags.input_tags.positive_only
    assert not tags.input_tags.sparse
    assert tags.target_tags.required
    assert not tags.non_deterministic


@pytest.mark.real_data
def test_three_thousand_real_images_are_enough_for_75_percent(real_data: Dataset) -> None:
    X, y = real_data.train_images[:3000], real_data.train_labels[:3000]
    scores = cross_val_score(FashionClassifier(), X, y, cv=3)
    assert scores.mean() > 0.75
