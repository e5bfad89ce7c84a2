"""Images that come twice, and those that resemble nothing: each is held against its nearest."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 10
# Below it the best hundred pairs of Fashion-MNIST are one picture twice; from about 0.06 on they
# are one garment with two prints, or two garments of one cut (docs/audit.md).
SAME_PICTURE = 0.05
CHUNK = 5_000  # pairs; larger ones are slower, their memory is new each time


class Neighbourhood(NamedTuple):
    """For each of n images its nearest others by embedding, and how far they are on average."""

    indices: NDArray[np.int64]  # (n, NEIGHBOURS), the nearest first
    strangeness: NDArray[np.float64]  # (n,), 0..1: mean cosine distance to them


class Pair(NamedTuple):
    """Two images, first < second, and their distance: 0 if the pixels are the same."""

    first: int
    second: int
    distance: float
    mirrored: bool
    shift: tuple[int, int]  # pixels down and right that bring the first onto the second


def find_neighbours(embeddings: NDArray[np.float32]) -> Neighbourhood:
    """Search the neighbours of embeddings (n, d), each of length 1.

    Images far from all others are outliers: J. Kuan & J. Mueller, "Back to the basics: revisiting
    out-of-distribution detection baselines", 2022, arXiv 2207.03061.
    """
    count = min(NEIGHBOURS, len(embeddings) - 1)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(embeddings)
    distances, indices = search.kneighbors()  # of each, but not itself
    # Of vectors of length 1, half the squared distance is one less their cosine.
    return Neighbourhood(indices, (distances.astype(np.float64) ** 2 / 2).mean(axis=1))


def find_pairs(
    images: NDArray[np.uint8], neighbours: NDArray[np.int64], limit: float = SAME_PICTURE
) -> list[Pair]:
    """Return the near-duplicates among images (n, 28, 28) and their neighbours, nearest first.

    The distance of two images is the norm of their difference over the geometric mean of their
    norms, the least over mirroring and shifts by up to a pixel each way.
    """
    pairs = _unordered(neighbours)
    pixels = images.reshape(len(images), -1).astype(np.float32)
    norms = np.linalg.norm(pixels, axis=1)
    least = np.full(len(pairs), np.inf, np.float32)
    how = np.zeros(len(pairs), np.int64)
    ways = [(mirrored, shift) for mirrored in (False, True) for shift in _shifts()]
    for way, (mirrored, shift) in enumerate(ways):
        moved = _moved(images[:, :, ::-1] if mirrored else images, shift)
        moved = moved.reshape(len(images), -1).astype(np.float32)
        for part in _chunks(len(pairs)):
            first, second = pairs[part].T
            gap = np.linalg.norm(moved[first] - pixels[second], axis=1)
            gap /= np.maximum(np.sqrt(norms[first] * norms[second]), 1)  # two may be all black
            nearer = gap < least[part]
            least[part][nearer], how[part][nearer] = gap[nearer], way
    near = np.flatnonzero(least < limit)
    near = near[np.argsort(least[near], kind="stable")]
    return [Pair(int(pairs[i, 0]), int(pairs[i, 1]), float(least[i]), *ways[how[i]]) for i in near]


def _unordered(neighbours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each pair of neighbours once: (p, 2), the lower index first."""
    first = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    both = np.sort(np.stack([first, neighbours.ravel()], axis=1), axis=1)
    return np.unique(both, axis=0)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def _shifts() -> list[tuple[int, int]]:
    """Return the shifts to try, none first, so that it wins a tie."""
    steps = (0, -1, 1)
    return [(down, right) for down in steps for right in steps]


def _moved(images: NDArray[np.uint8], shift: tuple[int, int]) -> NDArray[np.uint8]:
    """Return images (n, 28, 28) moved by pixels down and right, zeros coming in."""
    down, right = shift
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return padded[:, 1 - down : 29 - down, 1 - right : 29 - right]
