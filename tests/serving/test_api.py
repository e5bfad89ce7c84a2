"""The JSON API over HTTP: what it answers, what it refuses, and that nothing is put on a disk."""

import base64
import contextlib
import gzip
import json
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray

from fmnist.answers import draw_heat, load_heat, to_json
from fmnist.data import CLASS_NAMES
from fmnist.photos import prepare
from fmnist.serving.settings import Settings
from processes import processor_seconds, resident_mib
from schemas import conforms
from servers import Client, Held, Server, client, fake_classifier, running
from uploads import BOUNDARY, CONTENT_TYPE, decoded, encoded, form, image, part, shirt
from waiting import PATIENCE, wait_until
from watched import WATCH, written

PNG = encoded(image(3))
PHOTO = encoded(shirt(), "jpeg")
NO_PICTURE = b"shoes, size 42"
CUT_SHORT = encoded(shirt(80, 100))[:500]


@pytest.fixture(scope="module")
def asking() -> Iterator[Client]:
    """A server whose classifier names the class of an image's first pixel."""
    with client() as client_of_fake:
        yield client_of_fake


def told(response: requests.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return list(response.json()["predictions"])


def refusal(response: requests.Response, status: int) -> str:
    """What a refusal says; it is one line of JSON, whatever was wrong."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    (message,) = response.json().values()
    assert message == " ".join(message.split())
    return str(message)


# Pictures and answers


def test_a_body_is_a_picture_and_the_answer_that_of_the_command_line(asking: Client) -> None:
    response = asking.post("/api/predict", data=PHOTO, headers={"Content-Type": "image/jpeg"})
    (answer,) = told(response)
    assert answer == json.loads(json.dumps(to_json("", fake_classifier().predict(PHOTO))))
    assert list(answer) == [
        *("path", "label", "class_index", "probability", "accepted", "top", "warnings"),
    ]
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/x-www-form-urlencoded", "text/plain", "image/png", 'nonsense; ;;="'],
)
def test_only_what_says_so_is_a_form(asking: Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    (answer,) = told(asking.post("/api/predict", data=PNG, headers=headers))
    assert (answer["path"], answer["label"]) == ("", "Dress")


def test_the_files_of_a_form_are_answered_in_their_order(asking: Client) -> None:
    order = [7, 0, 3, 3, 9, 1, 2, 8]
    files = [(f"{at}.png", encoded(image(index))) for at, index in enumerate(order)]
    sent = [(field, file) for field, file in zip("aabcd efg", files, strict=False)]
    answers = told(asking.post("/api/predict", files=sent))
    assert [answer["path"] for answer in answers] == [name for name, _ in files]
    assert [answer["class_index"] for answer in answers] == order


def test_a_slow_first_file_keeps_its_place(asking: Client) -> None:
    large = encoded(shirt(2400, 3000), "jpeg")
    answers = told(asking.post("/api/predict", **form([(b"large", large), (b"small", PNG)])))
    assert [answer["path"] for answer in answers] == ["large", "small"]
    assert answers[1]["class_index"] == 3


def test_a_bad_file_spoils_no_other(asking: Client) -> None:
    files = [(b"a.png", NO_PICTURE), (b"b.png", PNG), (b"c.png", CUT_SHORT), (b"d.png", b"")]
    first, second, third, fourth = told(asking.post("/api/predict", **form(files)))
    assert second["label"] == "Dress"
    assert (first["path"], third["path"], fourth["path"]) == ("a.png", "c.png", "d.png")
    assert first["error"].startswith("the picture is not a picture that can be read; send JPEG")
    assert third["error"] == "the picture is cut short (truncated PNG); send the whole file"
    assert fourth["error"] == "the picture is empty (0 bytes); send the whole file"


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (NO_PICTURE, CUT_SHORT, 415),
        (CUT_SHORT, NO_PICTURE, 422),
        (b"", NO_PICTURE, 422),
        (encoded(np.zeros((101, 100), np.uint8)), CUT_SHORT, 413),
    ],
)
def test_where_nothing_could_be_read_the_first_says_why(
    first: bytes, second: bytes, status: int
) -> None:
    with client(Settings(pixels=10_000)) as asking:
        response = asking.post("/api/predict", **form([(b"1", first), (b"2", second)]))
        assert response.status_code == status
        answer = response.json()
        assert list(answer) == ["error", "predictions"]
        assert [list(each) for each in answer["predictions"]] == [["path", "error"]] * 2
        assert answer["error"] == answer["predictions"][0]["error"]
        raw = asking.post("/api/predict", data=first)
        assert (raw.status_code, raw.json()["error"]) == (status, answer["error"])


@pytest.mark.parametrize(
    "name",
    [
        "größe 42 \N{ATHLETIC SHOE}.png",
        "../../etc/passwd",
        "/etc/shadow",
        "C:/Windows/win.ini",
        "<img src=x onerror=alert(1)>.png",
        "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
        "nul\0byte.png",
        "bell\a and escape\x1b[31m.png",
        "%22%0D%0A.png",
        "; name=x",
        "x" * 4000,
    ],
)
def test_a_name_comes_back_as_sent_and_is_in_no_log(server: Server, name: str) -> None:
    response = server.post("/api/predict", **form([(name.encode(), PNG)]))
    (answer,) = told(response)
    assert answer["path"] == name
    assert response.content.isascii()
    assert not re.search(rb"[\x00-\x1f\x7f]", response.content)
    assert name[:12] not in "\n".join(server.stderr_lines())


def test_bytes_of_a_name_that_are_no_text_are_replaced(asking: Client) -> None:
    (answer,) = told(asking.post("/api/predict", **form([(b"caf\xe9.png", PNG)])))
    assert answer["path"] == "caf\N{REPLACEMENT CHARACTER}.png"


@pytest.mark.parametrize(("asked", "count"), [("", 3), ("?top=1", 1), ("?top=10", 10)])
def test_as_many_classes_are_named_as_asked_for(asking: Client, asked: str, count: int) -> None:
    (answer,) = told(asking.post(f"/api/predict{asked}", data=PNG))
    assert [guess["class_index"] for guess in answer["top"]] == [3, 0, 1, 2, 4, 5, 6, 7, 8, 9][
        :count
    ]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("top=0", "top"),
        ("top=11", "top"),
        ("top=three", "top"),
        ("top=", "top"),
        ("top=1e400", "top"),
        ("steps=maybe", "steps"),
        ("explain=2", "explain"),
        ("steps=%00&explain=%f0%9f%a6", "steps"),
    ],
)
def test_parameters_that_are_not_as_documented_are_refused(
    asking: Client, query: str, named: str
) -> None:
    message = refusal(asking.post(f"/api/predict?{query}", data=PNG), 400)
    assert message.startswith(f"the address cannot be read ({named}: ")


# Steps and explanation


def picture(answer: dict[str, Any], step: str) -> NDArray[np.uint8]:
    return decoded(base64.b64decode(answer["steps"][step], validate=True))


def test_the_steps_are_those_of_the_preparation(asking: Client) -> None:
    (answer,) = told(asking.post("/api/predict?steps=true", data=PHOTO))
    photo = prepare(PHOTO)
    assert list(answer["steps"]) == ["original", "cutout", "image"]
    np.testing.assert_array_equal(picture(answer, "original"), photo.original)
    np.testing.assert_array_equal(picture(answer, "cutout"), photo.cutout)
    np.testing.assert_array_equal(picture(answer, "image"), photo.image)
    (plain,) = told(asking.post("/api/predict", data=PHOTO))
    del answer["steps"]
    assert answer == plain


@pytest.mark.parametrize("content", [PHOTO, PNG], ids=["photo", "image"])
def test_the_explanation_is_that_of_the_command_line(asking: Client, content: bytes) -> None:
    def one_bright_spot_speaks(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = np.zeros((len(images), 10), np.float32)
        logits[:, 6] = images[:, 12:16, 12:16].mean(axis=(1, 2)) / 50
        return logits

    classifier = fake_classifier()
    classifier._ask = one_bright_spot_speaks
    expected = draw_heat(classifier.predict(content), load_heat(classifier))
    with client(classifier=classifier) as asking:
        (answer,) = told(asking.post("/api/predict?explain=true", data=content))
        assert list(answer["steps"]) == ["explained"]
        np.testing.assert_array_equal(picture(answer, "explained"), expected)
        (both,) = told(asking.post("/api/predict?explain=1&steps=1", data=content))
    assert list(both["steps"]) == ["original", "cutout", "image", "explained"]
    assert both["steps"]["explained"] == answer["steps"]["explained"]


def test_steps_are_of_what_could_be_read(asking: Client) -> None:
    files = form([(b"a", NO_PICTURE), (b"b", PNG)])
    first, second = told(asking.post("/api/predict?steps=true", **files))
    assert list(first) == ["path", "error"]
    np.testing.assert_array_equal(picture(second, "image"), image(3))


# Forms that are none


def test_fields_without_a_file_and_empty_file_fields_are_passed_over(asking: Client) -> None:
    empty = (b"", b"")
    comment = b'--%b\r\nContent-Disposition: form-data; name="comment"\r\n\r\nmy shoes\r\n'
    body = form([empty, (b"a.png", PNG), empty])
    body["data"] = comment % BOUNDARY.encode() + body["data"]
    (answer,) = told(asking.post("/api/predict", **body))
    assert answer["path"] == "a.png"
    assert "holds no file" in refusal(asking.post("/api/predict", **form([empty])), 400)


def test_a_file_without_a_name_is_a_file(asking: Client) -> None:
    (answer,) = told(asking.post("/api/predict", **form([(b"", PNG)])))
    assert (answer["path"], answer["class_index"]) == ("", 3)


def test_what_follows_the_last_boundary_means_nothing(asking: Client) -> None:
    body = form([(b"a", PNG)])
    body["data"] += part(b"b", PNG) * 100
    assert len(told(asking.post("/api/predict", **body))) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"", CONTENT_TYPE, "cut short"),
        (part(b"a", PNG), CONTENT_TYPE, "cut short"),
        (part(b"a", PNG)[:70], CONTENT_TYPE, "cut short"),
        (b"--%b--\r\n" % BOUNDARY.encode(), CONTENT_TYPE, "holds no file"),
        (b"no boundary", CONTENT_TYPE, "damaged"),
        (part(b"a", PNG), f"multipart/form-data; boundary={'b' * 300}", "damaged"),
        (part(b"a", PNG), "multipart/form-data", "no boundary"),
        (part(b"a", PNG), "multipart/form-data; boundary=", "no boundary"),
        (b"--%b\r\n\r\n\r\n" % BOUNDARY.encode() * 20, CONTENT_TYPE, "fields that are no files"),
        (part(b"a", PNG).replace(b"form-data", b"x" * 9000), CONTENT_TYPE, "damaged"),
        (part(b"a", PNG).replace(b"\r\n", b"\r\n" + b"X: y\r\n" * 50, 1), CONTENT_TYPE, "damaged"),
    ],
)
def test_what_is_no_form_is_refused(
    asking: Client, body: bytes, content_type: str, said: str
) -> None:
    headers = {"Content-Type": content_type}
    assert said in refusal(asking.post("/api/predict", data=body, headers=headers), 400)


def test_more_files_than_allowed_are_refused(asking: Client) -> None:
    assert len(told(asking.post("/api/predict", **form([(b"a", PNG)] * 16)))) == 16
    response = asking.post("/api/predict", **form([(b"a", PNG)] * 17))
    assert "over 16 files" in refusal(response, 413)


def flood(before: bytes, filling: bytes) -> dict[str, Any]:
    """A form of 10 MiB that begins and ends well, with one thing again and again between."""
    again = filling * (10 * 2**20 // len(filling))
    return {**form([]), "data": before + again + b"\r\n" + form([(b"a", PNG)])["data"]}


LINE = b"\r\n--" + BOUNDARY.encode()  # what parts two parts
FLOODS = {
    "1,001 files": form([(b"a", PNG)] * 1001),
    "1,001 fields": {
        **form([]),
        "data": part(b"a", PNG).replace(b"; filename", b"; other") * 1001 + form([])["data"],
    },
    "64 KiB boundary": {
        "data": b"x",
        "headers": {"Content-Type": f"multipart/form-data; boundary={'b' * 60_000}"},
    },
    "60 KB of quotes": {
        "data": b"x",
        "headers": {"Content-Type": "multipart/form-data; x=" + '";' * 30_000},
    },
    "10 MiB before": {**form([]), "data": b"\r\n" * (5 * 2**20) + form([(b"a", PNG)])["data"]},
    "10 MiB of dashes before": {**form([]), "data": b"\r\n" + b"-\n" * (5 * 2**20)},
    "10 MiB behind": {**form([]), "data": form([(b"a", PNG)])["data"] + b"\r\n-" * 2**22},
    "blanks behind a boundary": flood(part(b"a", PNG)[:-2] + LINE, b" "),
    "nearly boundaries": flood(part(b"a", PNG), LINE + b"x"),
    "nearly last boundaries": flood(part(b"a", PNG), LINE + b"-x"),
    "half boundaries": flood(part(b"a", PNG), LINE[:-1]),
    "line ends": flood(part(b"a", PNG), b"\r\n"),
    "one long header": flood(LINE[2:] + b"\r\nX: ", b"y"),
    "headers": flood(LINE[2:], b"\r\nX: y"),
    "semicolons": {
        "data": b"a=1;" * 2**20,
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
    },
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", FLOODS)
def test_no_form_costs_half_a_second(server: Server, name: str) -> None:
    before = processor_seconds(server.pid)
    response = server.post("/api/predict", **FLOODS[name])
    assert processor_seconds(server.pid) - before <= 0.5
    assert response.status_code in (200, 400, 413, 415), response.text[:200]
    assert server.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1,001 files", "over 16 files"),
        ("1,001 fields", "over 8 fields"),
        ("blanks behind a boundary", "takes very long to read"),
        ("60 KB of quotes", "too long"),
    ],
)
def test_a_flood_is_refused_with_a_reason(asking: Client, name: str, said: str) -> None:
    response = asking.post("/api/predict", **FLOODS[name])
    assert said in refusal(response, 413 if name == "1,001 files" else 400)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_forms_that_unpack_to_much_do_not_fill_the_memory() -> None:
    """80 of 19 KB, 20 MB each when unpacked; their answers are 415 or, at once, 503."""
    body = gzip.compress(form([(b"a", bytes(19_900_000))])["data"])
    head = f"Content-Type: {CONTENT_TYPE}\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}"
    with running("--deadline", "600") as server, contextlib.ExitStack() as stack:
        before, peak = resident_mib(server.pid), 0.0
        sent = [stack.enter_context(connected(server, head, body[:-1])) for _ in range(80)]
        server.wait_for_requests(80)
        for each in sent:
            each.sendall(body[-1:])
        waiting, statuses = list(sent), []
        while waiting:
            ready, _, _ = select.select(waiting, [], [], 0.01)
            peak = max(peak, resident_mib(server.pid))
            for each in ready:
                statuses.append(int(each.recv(65536)[9:12]))
                waiting.remove(each)
        assert set(statuses) == {415, 503}
        assert peak - before < 500
        assert told(server.post("/api/predict", data=PNG))


# Nothing on a disk


def test_the_watch_sees_what_spools() -> None:
    code = "import tempfile; tempfile.SpooledTemporaryFile(10).write(b'more than ten bytes')"
    done = subprocess.run([sys.executable, "-c", WATCH + code], capture_output=True, text=True)
    assert written(done.stderr.splitlines())


def test_no_part_of_a_request_is_put_on_a_disk() -> None:
    large = encoded(shirt(2000, 2000), "bmp")
    assert len(large) > 8 * 2**20
    with running(before=WATCH) as server:
        before = len(written(server.stderr_lines()))
        files = form([(b"a.bmp", large), (b"b.png", PNG), (b"c.tif", b"II*\0" + bytes(2**20))])
        response = server.post("/api/predict?steps=true&explain=true", **files)
        assert [list(each)[-1] for each in told(response)] == ["steps", "steps", "error"]
        assert len(told(server.post("/api/predict", data=large))) == 1
        assert server.post("/api/predict", data=bytes(21 * 2**20)).status_code == 413
        assert written(server.stderr_lines())[before:] == []


# A busy server


def test_a_request_that_takes_too_long_is_given_up() -> None:
    held = Held()
    with client(Settings(deadline_seconds=0.3), held.classifier) as asking:
        message = refusal(asking.post("/api/predict", data=PNG), 504)
        assert message == "no answer within 0.3 seconds; try again later"
        held.let_go.set()


@contextlib.contextmanager
def connected(asking: Client | Server, head: str, body: bytes) -> Iterator[socket.socket]:
    """A connection on which a request was sent."""
    with socket.create_connection(("127.0.0.1", asking.port), timeout=PATIENCE) as sent:
        lines = f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n"
        sent.sendall(lines.encode() + body)
        yield sent


def test_where_too_many_wait_the_next_is_refused_before_its_body_is_read() -> None:
    held = Held()
    settings = Settings(waiting_photos=0, deadline_seconds=PATIENCE)
    with client(settings, held.classifier) as asking:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(asking.post, "/api/predict", **form([(b"a", PNG)] * 16))
            assert held.asked.wait(PATIENCE)
            with connected(asking, "Content-Length: 1000000", b"") as sent:
                head = sent.recv(65536).decode()
            held.let_go.set()
        assert head.startswith("HTTP/1.1 503 ")
        assert "\r\nretry-after: 1\r\n" in head.lower()
        assert len(told(first.result())) == 16
        assert len(told(asking.post("/api/predict", data=PNG))) == 1


def test_a_client_that_goes_away_leaves_its_place() -> None:
    held, body = Held(), form([(b"a", PNG)] * 16)["data"]
    head = f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}"
    with client(classifier=held.classifier) as asking:

        def waiting() -> float:
            lines = asking.get("/metrics").text.splitlines()
            found = [line for line in lines if line.startswith('fmnist_waiting{queue="photos"}')]
            return float(found[0].split()[-1])

        with connected(asking, head, body):
            assert held.asked.wait(PATIENCE)
            assert waiting() > 0
        wait_until(lambda: waiting() == 0)  # though the network has not answered
        held.let_go.set()
        assert asking.post("/api/predict", data=PNG).status_code == 200


# What answers, and the document that says it all


def test_about_says_what_answers_and_what_it_takes() -> None:
    with client(Settings(files=5, body_bytes=2**20, pixels=10**6)) as asking:
        answer = asking.get("/api/about").json()
    assert answer["name"] == "fmnist"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", answer["version"])
    assert answer["class_names"] == list(CLASS_NAMES)
    assert answer["least_probability"] == 0.3
    assert answer["model"] == {
        "recipe": "tiny",
        "network": None,
        "precision": None,
        "temperature": 2.0,
    }
    assert answer["limits"] == {
        "files": 5,
        "images": 256,
        "body_bytes": 2**20,
        "pixels": 10**6,
        "deadline_seconds": 10.0,
    }
    assert answer["token_needed"] is False


def check(response: requests.Response, document: dict[str, Any], path: str, verb: str) -> None:
    described = document["paths"][path][verb]["responses"][str(response.status_code)]
    schema = described["content"]["application/json"]["schema"]
    assert conforms(response.json(), schema, document) == ""


def test_every_answer_is_as_the_openapi_document_says() -> None:
    with client(Settings(pixels=100_000, body_bytes=10**6)) as asking:
        document = asking.get("/openapi.json").json()
        sent: list[tuple[str, dict[str, Any], int]] = [
            ("", {"data": PNG}, 200),
            ("?steps=1&explain=1&top=10", form([(b"a", PHOTO), (b"b", NO_PICTURE)]), 200),
            ("?top=0", {"data": PNG}, 400),
            ("", form([]), 400),
            ("", {"data": encoded(shirt(400, 400))}, 413),
            ("", {"data": bytes(10**6 + 1)}, 413),
            ("", form([(b"a", NO_PICTURE)]), 415),
            ("", {"data": CUT_SHORT}, 422),
        ]
        for query, options, status in sent:
            response = asking.post(f"/api/predict{query}", **options)
            assert response.status_code == status, response.text
            check(response, document, "/api/predict", "post")
        check(asking.get("/api/about"), document, "/api/about", "get")
    operation = document["paths"]["/api/predict"]["post"]
    assert set(operation["requestBody"]["content"]) >= {"multipart/form-data", "image/*"}
    assert set(operation["responses"]) == {
        *("200", "400", "401", "403", "408", "413", "415", "422", "429", "503", "504"),
    }
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": 3}, "3 is no string"),
        ({"probability": 1.5}, "out of bounds"),
        ({"accepted": 1}, "1 is no boolean"),
        ({"top": []}, "0 items"),
        ({"detail": "x"}, "are known"),
    ],
)
def test_the_check_of_answers_can_fail(asking: Client, change: dict[str, Any], said: str) -> None:
    document = asking.get("/openapi.json").json()
    (answer,) = told(asking.post("/api/predict", data=PNG))
    schema = {"$ref": "#/components/schemas/Answer"}
    assert conforms(answer, schema, document) == ""
    assert said in conforms({**answer, **change}, schema, document)
