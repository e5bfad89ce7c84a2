"""The 70,000 images of Fashion-MNIST: found or fetched, verified, and cut into fixed splits."""

from fmnist.data.dataset import Dataset, Split, SplitName, facts
from fmnist.data.official import CLASS_NAMES, STRANGER
from fmnist.data.sources import load_dataset

__all__ = ["CLASS_NAMES", "STRANGER", "Dataset", "Split", "SplitName", "facts", "load_dataset"]
