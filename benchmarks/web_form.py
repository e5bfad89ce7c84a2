"""The web form that this project starts from, corrected: what `serving.py` is measured beside.

    python benchmarks/web_form.py classic.keras 8001

The way of a request is the form's: Flask takes an upload, Pillow squashes it to 28x28 grey, Keras's
`model.predict` is asked, a page comes back. Corrected are what would make it unfair or wrong: debug
mode is off, requests may overlap, every class is named (class 0 was shown as nothing) and the file
comes from our own training. `fmnist export RUN --format keras` makes such a file.
"""

import sys

import keras
import numpy as np
from flask import Flask, render_template_string, request
from PIL import Image

from fmnist.data import CLASS_NAMES

PAGE = """<!doctype html><title>Fashion-MNIST</title>
<form method="post" enctype="multipart/form-data"><input type="file" name="image">
<button>Classify</button></form>{% if result is not none %}<p>{{ result }}</p>{% endif %}"""


def make_form(model: keras.Model) -> Flask:
    """Return the form around a model of images (n, 28, 28, 1) in 0..1."""
    form = Flask("web_form")

    @form.route("/", methods=["GET", "POST"])
    def index() -> str:
        result = None
        if request.method == "POST":
            picture = Image.open(request.files["image"].stream).resize((28, 28)).convert("L")
            image = np.asarray(picture, np.float32).reshape(1, 28, 28, 1) / 255
            result = CLASS_NAMES[int(np.argmax(model.predict(image, verbose=0)[0]))]
        return render_template_string(PAGE, result=result)

    return form


if __name__ == "__main__":
    loaded = keras.saving.load_model(sys.argv[1], safe_mode=True)
    make_form(loaded).run("127.0.0.1", int(sys.argv[2]), debug=False, threaded=True)
