"""Any picture to the 28x28 image that Fashion-MNIST's makers would have made of it."""

from fmnist.photos.decode import Limits, Source
from fmnist.photos.prepared import Prepared, prepare

__all__ = ["Limits", "Prepared", "Source", "prepare"]
