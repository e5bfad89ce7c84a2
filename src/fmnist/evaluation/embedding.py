"""Where a model puts the test images: what its last layer sees, laid out in the plane."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import MissingExtra
from fmnist.files import write_whole
from fmnist.recipes import Recipe
from fmnist.runs import Judged, Run

AXES = 50  # principal axes kept before t-SNE, as its authors do
PERPLEXITY = 30  # scikit-learn's own; about so many neighbours count for each image
STEPS = 500  # half of them with the pull of neighbours exaggerated, which makes the islands
SEED = 0


@dataclass(frozen=True, eq=False)
class Embedding:
    """The test images in the plane: points (n, 2) float32, and what they are made of."""

    points: NDArray[np.float32]
    made_of: str


def save_embedding(
    judged: Judged, images: NDArray[np.uint8], *, recipe: Recipe | None = None, device: str = "auto"
) -> Embedding:
    """Lay out the test images (n, 28, 28) uint8 by what the model makes of them, and save that.

    Of a run it is what the network's last linear layer sees; of another model, or a network
    without such a layer, the saved logits. What is there already of the same model stays.
    `recipe` is needed for a network that is not part of fmnist. Raises RunError and ModelError as
    `load_network`, MissingExtra without scikit-learn.
    """
    saved = read_embedding(judged)
    if saved is not None and len(saved.points) == len(images):
        return saved
    seen = None
    if isinstance(judged, Run):
        seen = last_layer_of_run(judged, images, recipe=recipe, device=device)
    made_of = "its ten logits"
    if seen is not None:
        made_of = f"the {seen.shape[1]} numbers that its last layer sees"
    features = judged.read_logits("test").logits if seen is None else seen
    embedding = Embedding(lay_out(features), made_of)
    _write(judged, embedding)
    return embedding


def read_embedding(judged: Judged) -> Embedding | None:
    """Return the saved embedding; None if there is none, if it is damaged or of other weights."""
    path = judged.folder / "embedding-test.npz"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            points, made_of, model = file["points"], str(file["made_of"]), str(file["model"])
    except Exception:  # zipfile and numpy raise a dozen kinds at damaged bytes; it is made again
        return None
    sound = points.ndim == 2 and points.shape[1] == 2 and points.dtype == np.float32
    if not sound or not np.isfinite(points).all() or model != _sha256_of_model(judged):
        return None
    return Embedding(points, made_of)


def last_layer_of_run(
    run: Run, images: NDArray[np.uint8], *, recipe: Recipe | None = None, device: str = "auto"
) -> NDArray[np.float32] | None:
    """Return what the last linear layer of a run's network sees, (n, width) float32.

    None where the network has no such layer, or does not give it one vector an image.
    """
    from fmnist.training.device import find_device, on_device
    from fmnist.training.last_layer import last_layer_inputs
    from fmnist.training.trained import load_network

    processor = find_device(device, precision="float32")
    network = on_device(load_network(run, recipe), processor)
    return last_layer_inputs(network, images, processor)


def lay_out(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return points (n, 2) float32 where alike features (n, d) lie close together.

    t-SNE (L. van der Maaten & G. Hinton, JMLR 9 (2008)) on the first principal axes, started from
    the first two: the same features give the same map.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise MissingExtra("scikit-learn", "train") from error
    axes = min(AXES, *features.shape)
    reduced = PCA(axes, random_state=SEED).fit_transform(features.astype(np.float64))
    layout = TSNE(
        perplexity=min(PERPLEXITY, (len(features) - 1) / 3),
        init="pca",
        max_iter=STEPS,
        random_state=SEED,
    )
    return np.asarray(layout.fit_transform(reduced), np.float32)


def _write(judged: Judged, embedding: Embedding) -> None:
    content = io.BytesIO()
    model = _sha256_of_model(judged)
    np.savez(content, points=embedding.points, made_of=embedding.made_of, model=model)
    write_whole(judged.folder / "embedding-test.npz", content.getvalue())


def _sha256_of_model(judged: Judged) -> str:
    """Return the hash of a run's weights, or where there are none of the test logits."""
    if isinstance(judged, Run) and judged.weights.is_file():
        return hashlib.sha256(judged.weights.read_bytes()).hexdigest()
    return hashlib.sha256(judged.read_logits("test").logits.tobytes()).hexdigest()
