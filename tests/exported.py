"""Classifier files made by hand, so that they can be wrong in one way each."""

import json
from typing import Any

import onnx

from fmnist.classifier.onnx_file import FACTS, SEAL, UNSEALED, sealed
from fmnist.data import CLASS_NAMES

TOLD: dict[str, Any] = {
    "class_names": list(CLASS_NAMES),
    "temperature": 1.5,
    "recipe": {"name": "tiny"},
}


def forged(model: onnx.ModelProto, told: Any = TOLD) -> bytes:
    """A sealed file of any model, checked by nobody."""
    onnx.helper.set_model_props(model, {FACTS: json.dumps(told), SEAL: UNSEALED})
    return sealed(model.SerializeToString())
