"""The protocol under load: each its own answer, none mixed up, none hurt by another."""

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import requests
from numpy.typing import NDArray

from fmnist.classifier import Classifier, load_classifier
from fmnist.serving.protocol import HEADER_LENGTH
from fmnist.serving.settings import Settings
from servers import FACTS, Client, Held, Server, client, fake_classifier
from v2 import (
    INFER,
    INFER_PHOTOS,
    ONE,
    PICTURES,
    Pixels,
    binary,
    check_refused,
    image_of,
    outputs_of,
    photos,
    told,
)
from waiting import PATIENCE, wait_until


def test_1000_requests_at_once_have_each_their_own_answer(server: Server) -> None:
    """Single images with ids, half in binary and half in JSON; not one bit is another."""
    images = np.random.default_rng(1).integers(0, 256, (1000, 28, 28), np.uint8)
    classifier = load_classifier(threads=1)
    logits = classifier.logits(images)
    probabilities = classifier.probabilities(images).astype(np.float32)
    local = threading.local()

    def ask(number: int) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            sessions.append(local.session)
        image, message = images[number, None], {"id": f"{number}"}
        if number % 2:
            request = binary(image, {**message, "parameters": {"binary_data_output": True}})
        else:
            request = {"json": {"inputs": [told(image)], **message}}
        response = local.session.post(server.url + INFER, timeout=PATIENCE, **request)
        outputs = outputs_of(response)
        length = response.headers.get(HEADER_LENGTH, len(response.content))
        assert json.loads(response.content[: int(length)])["id"] == str(number)
        np.testing.assert_array_equal(outputs["logits"][0], logits[number])
        np.testing.assert_array_equal(outputs["probabilities"][0], probabilities[number])

    sessions: list[requests.Session] = []
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(ask, range(1000)))
    for session in sessions:
        session.close()


def test_a_full_queue_is_refused_at_once_and_exactly_what_is_over() -> None:
    """Triton's L0_model_queue: 8 images are in hand, 8 requests may wait, and 10 come."""
    held = Held()

    def ask(number: int) -> requests.Response:
        return requests.post(busy.url + INFER, timeout=PATIENCE, **binary(image_of(number)))

    with (
        client(Settings(waiting_tensors=8, deadline_seconds=PATIENCE), held.classifier) as busy,
        ThreadPoolExecutor(11) as threads,
    ):
        first = threads.submit(busy.post, INFER, **binary(image_of(1, 8)))
        assert held.asked.wait(PATIENCE)
        asked = [threads.submit(ask, number) for number in range(10)]
        wait_until(lambda: sum(each.done() for each in asked) == 2)
        at_once = [number for number, each in enumerate(asked) if each.done()]
        check_refused(busy.post(INFER, data=b"not even read"), 503)
        held.let_go.set()
        assert first.result().status_code == 200
        answers = [each.result() for each in asked]
    assert sorted(answer.status_code for answer in answers) == [200] * 8 + [503] * 2
    for number, answer in enumerate(answers):
        if number in at_once:
            check_refused(answer, 503)
            assert answer.headers["Retry-After"] == "1"
        else:
            assert outputs_of(answer)["logits"].argmax() == number


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    held = Held()
    with client(Settings(deadline_seconds=0.1), held.classifier) as slow:
        check_refused(slow.post(INFER, **binary(ONE)), 504)
        check_refused(slow.post(INFER_PHOTOS, **photos(*PICTURES)), 504)
        held.let_go.set()


def test_an_answer_that_takes_longer_than_its_client_waits_is_given_up() -> None:
    held = Held()
    hurried = {"parameters": {"timeout": 100_000}}
    with client(classifier=held.classifier) as slow:
        assert "100000 us" in check_refused(slow.post(INFER, **binary(ONE, hurried)), 504)
        check_refused(slow.post(INFER_PHOTOS, **photos(*PICTURES, message=hurried)), 504)
        held.let_go.set()
        assert slow.post(INFER, **binary(ONE)).status_code == 200


def test_a_request_that_makes_the_network_fail_fails_alone() -> None:
    def bear_no_white(images: Pixels) -> NDArray[np.float32]:
        if (images == 255).all(axis=(1, 2)).any():
            raise RuntimeError("the network cannot bear white")
        return fake_classifier().logits(images)

    def ask(images: Pixels) -> requests.Response:
        return requests.post(asking.url + INFER, timeout=PATIENCE, **binary(images))

    held = Held(Classifier(bear_no_white, FACTS))
    white = np.full((1, 28, 28), 255, np.uint8)
    with client(classifier=held.classifier) as asking, ThreadPoolExecutor(5) as threads:
        first = threads.submit(ask, image_of(1))
        assert held.asked.wait(PATIENCE)  # alone: the four that come now are one batch
        together = threads.map(ask, [image_of(2), white, image_of(3), image_of(4)])
        waiting = 'fmnist_waiting{queue="tensors"} 4.0'
        wait_until(lambda: waiting in asking.get("/metrics").text)
        held.let_go.set()
        responses = [first.result(), *together]
    check_refused(responses.pop(2), 500)
    classes = [outputs_of(response)["logits"].argmax() for response in responses]
    assert classes == [1, 2, 3, 4]


def test_clients_that_leave_while_they_wait_do_no_harm() -> None:
    held = Held()

    def ask(number: int) -> requests.Response:
        return requests.post(asking.url + INFER, timeout=PATIENCE, **binary(image_of(number)))

    with client(classifier=held.classifier) as asking, ThreadPoolExecutor(4) as threads:
        sent = [threads.submit(ask, 1)]
        assert held.asked.wait(PATIENCE)
        for number in range(8):
            left = http.client.HTTPConnection("127.0.0.1", asking.port)
            left.request("POST", INFER, image_of(number).tobytes(), {HEADER_LENGTH: "0"})
            if number % 3 == 0:
                sent.append(threads.submit(ask, number))
            wait_until(lambda: in_flight(asking) == len(sent) + 1)
            left.close()
            wait_until(lambda: in_flight(asking) == len(sent))
        held.let_go.set()
        classes = [outputs_of(each.result())["logits"].argmax() for each in sent]
        assert classes == [1, 0, 3, 6]
        assert outputs_of(asking.post(INFER, **binary(image_of(9))))["logits"].argmax() == 9


def in_flight(asking: Client) -> float:
    """How many requests are being answered, the one that asks not among them."""
    (line,) = [
        line
        for line in asking.get("/metrics").text.splitlines()
        if line.startswith("fmnist_requests_in_flight ")
    ]
    return float(line.split()[1]) - 1
