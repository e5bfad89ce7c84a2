"""The trained thing as shipped: one ONNX file, loaded and asked without torch."""

import os

# Before ONNX Runtime is imported: from 1.31 on it would tell its makers of each session.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from fmnist.classifier.classifier import Classifier, load_classifier
from fmnist.classifier.prediction import Guess, Prediction

__all__ = ["Classifier", "Guess", "Prediction", "load_classifier"]
