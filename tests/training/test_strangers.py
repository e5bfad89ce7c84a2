"""Images of no class: many kinds, never empty, the same for the same seed."""

import numpy as np
import pytest

from fmnist.training.strangers import FAINT, KINDS, draw_strangers

GARMENTS = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)


def test_they_are_as_many_as_asked_for_and_show_something() -> None:
    drawn = draw_strangers(200, GARMENTS, seed=1)
    assert drawn.shape == (200, 28, 28)
    assert drawn.dtype == np.uint8
    assert (drawn.max((1, 2)) > FAINT).all()
    assert len(np.unique(drawn.reshape(200, -1), axis=0)) == 200


def test_a_seed_gives_the_same_images_and_another_gives_others() -> None:
    one, again, other = (draw_strangers(30, GARMENTS, seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any((1, 2)).all()


def test_none_is_an_empty_array() -> None:
    assert draw_strangers(0, GARMENTS, 0).shape == (0, 28, 28)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_draws_something_nearly_always(kind) -> None:  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(3)
    drawn = [kind(generator, GARMENTS) for _ in range(50)]
    assert all(image.dtype == np.uint8 and image.ndim == 2 for image in drawn)
    assert sum(int(image.max()) > FAINT for image in drawn) > 40
