"""All doors together: what is found, what is not, what is counted, and what describes them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist.classifier import Classifier
from fmnist.serving.settings import MetricsChoice, Settings
from servers import FACTS, Client, client
from uploads import encoded, shirt


@pytest.fixture(scope="module")
def asking() -> Iterator[Client]:
    with client() as asking:
        yield asking


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/api", "/api/predict/", "/docs/", "/redoc", "/docs/oauth2-redirect"),
        *("/v2/repository/index", "/models?url=http://example.org/a", "/workflows", "/static/a"),
        *("/page/../../settings.py", "/page/%2e%2e/%2e%2e/settings.py", "/etc/passwd", "//"),
    ],
)
def test_what_is_not_there_is_404_in_json(asking: Client, path: str) -> None:
    answer = asking.get(path, allow_redirects=False)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {
        "error": "nothing is at this address; / is the page, /docs says what else is"
    }


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/v2/health/live", "GET, HEAD"),
        ("/v2/models/fmnist/infer", "POST"),
        ("/api/about", "GET"),
        ("/api/predict", "POST"),
    ],
)
def test_another_method_is_405_and_says_which_to_use(
    asking: Client, path: str, allowed: str
) -> None:
    answer = asking.delete(path)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == set(allowed.split(", "))
    assert answer.json()["error"].startswith("DELETE is not for this address; use ")


def test_the_document_describes_every_door_of_programs(asking: Client) -> None:
    document = asking.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {
        *("/api/predict", "/api/about", "/v2/health/ready", "/v2/models/{model}/infer")
    }
    assert "HTTPValidationError" not in str(document)
    assert asking.get("/openapi.json").json() == document


def test_requests_are_counted_by_route_and_never_by_path() -> None:
    paths = ("/", "/v2/models/fmnist", "/v2/models/my-secret", "/my-secret.jpg", "/api/about")
    with client() as asking:
        for path in paths:
            asking.get(path)
        asking.delete("/api/predict")
        text = asking.get("/metrics").text
    counted = {
        line.partition('route="')[2].partition('"')[0]: line
        for line in text.splitlines()
        if line.startswith("fmnist_requests_total{")
    }
    routes = {"/", "/v2/models/{model}", "unmatched", "/api/about", "/api/predict"}
    assert set(counted) == routes
    assert "my-secret" not in text


def test_what_happens_inside_is_counted() -> None:
    image: Any = {"name": "images", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}
    with client() as asking:
        assert asking.post("/v2/models/fmnist/infer", json={"inputs": [image]}).status_code == 200
        assert asking.post("/api/predict", data=encoded(shirt())).status_code == 200
        lines = asking.get("/metrics").text.splitlines()
    assert "fmnist_network_seconds_count 2.0" in lines
    assert "fmnist_photo_seconds_count 1.0" in lines
    assert "fmnist_requests_in_flight 1.0" in lines  # the one that asks
    assert "fmnist_connections 1.0" in lines


def test_metrics_can_be_switched_off() -> None:
    with client(Settings(metrics=MetricsChoice.off)) as asking:
        answer = asking.get("/metrics")
        assert (answer.status_code, list(answer.json())) == (404, ["error"])


def test_a_failure_is_500_with_the_requests_id_and_no_traceback() -> None:
    def broken(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise ArithmeticError("the secret of /home/somebody")

    image: Any = {"name": "images", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}
    with client(classifier=Classifier(broken, FACTS)) as asking:
        answer = asking.post("/v2/models/fmnist/infer", json={"inputs": [image]})
        assert answer.status_code == 500
        assert answer.headers["X-Request-Id"] in answer.json()["error"]
        assert "secret" not in answer.text
        assert asking.get("/v2/health/live").status_code == 200
