"""The trained thing as shipped: one ONNX file, loaded and asked without torch."""

from fmnist.classifier.classifier import Classifier, load_classifier

__all__ = ["Classifier", "load_classifier"]
