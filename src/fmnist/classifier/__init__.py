"""The trained thing as shipped: one ONNX file, loaded and asked without torch."""

from fmnist.classifier.classifier import Classifier, load_classifier
from fmnist.classifier.prediction import Guess, Prediction

__all__ = ["Classifier", "Guess", "Prediction", "load_classifier"]
