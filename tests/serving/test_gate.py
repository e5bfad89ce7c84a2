import asyncio
import json
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from fmnist.serving import logs
from fmnist.serving.gate import SECURITY, Gate
from fmnist.serving.metrics import Metrics
from fmnist.serving.refusal import Refusal, overloaded
from fmnist.serving.settings import MetricsChoice, Settings
from wire import GET, HOST, POST, passed, sent, served

TOKEN = "a-token-of-some-length"
BEARER = f"Bearer {TOKEN}"


async def good(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"good"})


def gate(app: ASGIApp = good, **settings: Any) -> Gate:
    return Gate(app, Settings(**settings), Metrics())


def raising(error: Exception) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is logged of requests."""
    found: list[Any] = []
    monkeypatch.setattr(logs, "request", found.append)
    return found


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/page/x.js", "/api/predict", "/v2", "/metrics"])
    @pytest.mark.parametrize("app", [good, raising(Refusal(422, "x")), raising(OSError("x"))])
    def test_of_security_are_in_every_answer_once(self, path: str, app: ASGIApp) -> None:
        answer = passed(gate(app), path)
        assert all(answer.headers[name.lower()] == value for name, value in SECURITY.items())

    def test_keep_answers_out_of_caches_but_not_the_page(self) -> None:
        assert passed(gate(), "/api/predict").headers["cache-control"] == "no-store"
        assert passed(gate(raising(Refusal(404, "x"))), "/").headers["cache-control"] == "no-store"
        assert "cache-control" not in passed(gate(), "/page/x.js").headers

    @pytest.mark.parametrize("given", ["a", "A-b_9" * 12])
    def test_give_back_the_id_of_the_client(self, given: str) -> None:
        assert passed(gate(), x_request_id=given).headers["x-request-id"] == given

    @pytest.mark.parametrize("given", ["", "a b", "a" * 65, "é", '"', "a\n"])
    def test_give_an_id_of_ours_for_none_that_is_fit(self, given: str) -> None:
        made = passed(gate(), x_request_id=given).headers["x-request-id"]
        assert made != given
        assert int(made, 16) >= 0

    def test_give_no_id_twice(self) -> None:
        ids = {passed(gate()).headers["x-request-id"] for _ in range(100)}
        assert len(ids) == 100
        assert {len(each) for each in ids} == {16}

    def test_allow_no_other_site_anything(self) -> None:
        answer = passed(gate(), origin="http://evil.example")
        assert not [name for name in answer.headers if name.startswith("access-control")]


class TestErrors:
    def test_a_refusal_is_json_and_nothing_else(self) -> None:
        answer = passed(gate(raising(Refusal(503, 'a "line"', {"Retry-After": "1"}))))
        assert answer.status == 503
        assert json.loads(answer.body) == {"error": 'a "line"'}
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["retry-after"] == "1"
        assert int(answer.headers["content-length"]) == len(answer.body)

    def test_a_fault_names_the_request_and_the_log_tells_the_rest(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = passed(gate(raising(OSError("/secret/path"))), x_request_id="mine")
        assert answer.status == 500
        assert "mine" in answer.error
        assert "secret" not in answer.error
        (record,) = caplog.records
        assert "/secret/path" in str(record.exc_info)
        assert record.__dict__["fields"] == {"request_id": "mine"}

    def test_half_an_answer_is_cut_off_and_not_followed_by_another(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with served() as server, server.wire() as wire:
            wire.send(GET.replace(b"/x", b"/half") + b"\r\n")
            assert wire.head().status == 200
            assert wire.rest() == b"4\r\nhalf\r\n"
        assert "ZeroDivisionError" in caplog.text

    def test_an_application_that_fails_before_the_body_is_a_fault_too(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def failing(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise OSError("x")

        assert "log" in passed(gate(failing)).error


class TestHost:
    @pytest.mark.parametrize("host", ["rebound.example", "rebound.example:8000", ":80", "a b"])
    def test_of_another_name_is_refused(self, host: str) -> None:
        assert passed(gate(), "/", host=host).status == 400

    def test_that_is_missing_is_refused_but_not_of_http_1_0(self) -> None:
        assert passed(gate(), host="").status == 400
        assert passed(gate(), host="", version="1.0").status == 200

    def test_twice_is_refused(self) -> None:
        with served() as server:
            assert "two headers" in server.ask(GET + HOST + b"\r\n").error


class TestOtherSites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
            {"origin": "http://evil.example"},
            {"origin": "null"},
        ],
    )
    @pytest.mark.parametrize("path", ["/api/predict", "/v2/models/fmnist/infer"])
    @pytest.mark.parametrize("method", ["POST", "OPTIONS", "PUT"])
    def test_may_not_ask(self, headers: dict[str, str], path: str, method: str) -> None:
        assert passed(gate(), path, method, **headers).status == 403

    def test_may_link_to_the_page(self) -> None:
        assert passed(gate(), "/", sec_fetch_site="cross-site").status == 200
        assert passed(gate(), "/", "HEAD", sec_fetch_site="cross-site").status == 200

    def test_our_page_may_ask(self) -> None:
        ours = {"sec_fetch_site": "same-origin", "origin": "http://127.0.0.1:8000"}
        assert passed(gate(), "/api/predict", "POST", **ours).status == 200


class TestToken:
    GUARDED = ("/api/predict", "/api/about", "/v2", "/v2/", "/v2/models/fmnist/infer", "/metrics")
    ODD = ("/v2/health", "/api", "//", "/page", "/docs/", "/v2/healthy", "/V2/health/live", "/none")
    OPEN = (
        "/", "/docs", "/openapi.json", "/page/x.js", "/v2/health/live", "/v2/health/ready",
        "/favicon.ico", "/apple-touch-icon.png", "/robots.txt",  # asked for by browsers: 404
    )  # fmt: skip

    @pytest.mark.parametrize("path", GUARDED + ODD)
    @pytest.mark.parametrize(
        "given",
        ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}",
         TOKEN, f"Bearer {TOKEN.upper()}", "Bearer \xe9", f"Bearer {TOKEN} {TOKEN}"],
    )  # fmt: skip
    def test_is_needed(self, path: str, given: str) -> None:
        answer = passed(gate(token=TOKEN), path, authorization=given)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.error

    @pytest.mark.parametrize("path", GUARDED + ODD)
    @pytest.mark.parametrize("given", [BEARER, f"bearer {TOKEN}"])
    def test_opens_what_it_guards(self, path: str, given: str) -> None:
        assert passed(gate(token=TOKEN), path, authorization=given).status == 200

    @pytest.mark.parametrize("path", OPEN)
    def test_is_not_needed_for_the_page_and_health(self, path: str) -> None:
        assert passed(gate(token=TOKEN), path).status == 200

    @pytest.mark.parametrize("path", GUARDED + OPEN)
    def test_is_not_needed_where_there_is_none(self, path: str) -> None:
        assert passed(gate(), path).status == 200

    def test_is_not_logged(self, lines: list[Any], caplog: pytest.LogCaptureFixture) -> None:
        app = raising(OSError("x"))
        passed(gate(app, token=TOKEN), authorization=BEARER)
        passed(gate(app, token=TOKEN), authorization=BEARER + "x")
        assert len(lines) == 2
        assert TOKEN not in str(lines) + caplog.text

    def test_is_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return False

        monkeypatch.setattr("hmac.compare_digest", compare)
        assert passed(gate(token=TOKEN), authorization=BEARER).status == 401
        assert compared == [(BEARER.encode(), BEARER.encode())]


class TestMetrics:
    @pytest.mark.parametrize(
        ("choice", "token", "with_token", "without"),
        [
            (MetricsChoice.token, TOKEN, 200, 401),
            (MetricsChoice.token, None, 200, 200),
            (MetricsChoice.open, TOKEN, 200, 200),
            (MetricsChoice.off, TOKEN, 404, 404),
            (MetricsChoice.off, None, 404, 404),
        ],
    )
    def test_are_for_whom_the_operator_chose(
        self, choice: MetricsChoice, token: str | None, with_token: int, without: int
    ) -> None:
        chosen = gate(token=token, metrics=choice)
        assert passed(chosen, "/metrics", authorization=BEARER).status == with_token
        assert passed(chosen, "/metrics").status == without

    def test_and_log_have_each_request_by_its_route(self, lines: list[Any]) -> None:
        class Route:
            path = "/v2/models/{name}"

        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            scope["route"] = Route
            await good(scope, receive, send)

        metrics = Metrics()
        for app in (routed, good, raising(Refusal(404, "x"))):
            passed(Gate(app, Settings(), metrics), "/v2/models/secret")
        assert [fields[1:4] for fields in lines] == [
            ("/v2/models/{name}", "GET", 200), ("unmatched", "GET", 200), ("unmatched", "GET", 404),
        ]  # fmt: skip
        text = metrics.text()[0].decode()
        assert '{method="GET",route="/v2/models/{name}",status="200"} 1.0' in text
        assert "secret" not in text

    def test_and_log_are_apart(self, lines: list[Any]) -> None:
        passed(gate(access_log=False))
        assert lines == []

    @pytest.mark.parametrize("kept", [True, False])
    def test_log_has_the_client_unless_it_is_not_to_be_kept(
        self, lines: list[Any], kept: bool
    ) -> None:
        passed(gate(client_address=kept))
        passed(gate(client_address=kept, proxies=("127.0.0.1",)), x_forwarded_for="10.0.0.9")
        assert [fields[6] for fields in lines] == (["127.0.0.1", "10.0.0.9"] if kept else [""] * 2)

    def test_log_says_why_a_request_was_refused(self, lines: list[Any]) -> None:
        async def unread(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 422})
            await send({"type": "http.response.body", "body": b"{}"})

        passed(gate())
        passed(gate(), host="evil.example")
        passed(gate(), origin="http://evil.example", method="POST")
        passed(gate(token=TOKEN))
        passed(gate(raising(overloaded("x"))))
        passed(gate(raising(OSError("x"))))
        passed(gate(unread))  # what the application says of pictures
        gate().refused(Refusal(431, "x"), 0.0)
        assert [fields[7] for fields in lines] == [
            "", "host", "cross_site", "token", "queue", "fault", "picture", "size",
        ]  # fmt: skip

    def test_log_has_the_size_of_the_body(self, lines: list[Any]) -> None:
        with served(Settings()) as server:
            server.ask(POST + b"Content-Length: 5\r\n\r\nhello")
        assert lines[0][2:4] == ("POST", 200)
        assert lines[0][5] == 5


class TestRate:
    def test_is_limited_for_what_takes_work(self) -> None:
        limited = gate(rate=1e-3, burst=3)
        assert [passed(limited, "/api/predict").status for _ in range(5)] == [200] * 3 + [429] * 2
        answer = passed(limited, "/v2/models/fmnist/infer")
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) > 1

    @pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/metrics", "/"])
    def test_is_not_for_health_metrics_and_the_page(self, path: str) -> None:
        limited = gate(rate=1e-3, burst=1)
        assert {passed(limited, path).status for _ in range(5)} == {200}

    def test_limits_guesses_of_the_token(self) -> None:
        limited = gate(rate=1e-3, burst=3, token=TOKEN)
        answers = [passed(limited, authorization="Bearer guess").status for _ in range(5)]
        assert answers == [401] * 3 + [429] * 2

    def test_goes_by_address_and_not_by_what_a_client_says(self) -> None:
        limited = gate(rate=1e-3, burst=1)
        assert passed(limited, x_forwarded_for="10.0.0.1").status == 200
        assert passed(limited, x_forwarded_for="10.0.0.2").status == 429

    def test_goes_by_what_a_trusted_proxy_says(self) -> None:
        limited = gate(rate=1e-3, burst=1, proxies=("127.0.0.0/8",))
        assert passed(limited, x_forwarded_for="10.0.0.1").status == 200
        assert passed(limited, x_forwarded_for="10.0.0.2").status == 200
        assert passed(limited, x_forwarded_for="10.0.0.9, 10.0.0.2").status == 429

    def test_goes_by_a_trusted_proxy_of_ipv4_on_a_socket_for_both(self) -> None:
        limited = gate(rate=1e-3, burst=1, proxies=("10.0.0.2",))
        for client, status in (("10.0.0.8", 200), ("10.0.0.9", 200), ("10.0.0.9", 429)):
            headers = [(b"host", b"127.0.0.1"), (b"x-forwarded-for", client.encode())]
            scope = {
                "type": "http", "method": "GET", "path": "/api/x", "http_version": "1.1",
                "client": ("::ffff:10.0.0.2", 1), "headers": headers,
            }  # fmt: skip
            assert sent(limited, scope).status == status


class TestTurnedAway:
    """Those whose turn does not come; the connection's tests have the rest."""

    @pytest.mark.parametrize(
        ("settings", "is_told"),
        [({}, True), ({"rate": 1.0}, False)],
    )
    def test_are_not_clients_whom_only_a_proxy_tells_apart(
        self, settings: dict[str, Any], is_told: bool
    ) -> None:
        proxied = gate(proxies=("127.0.0.1",), **settings)
        headers = {b"host": b"127.0.0.1", b"x-forwarded-for": b"10.0.0.1"}
        scope = {
            "method": "POST", "path": "/v2/models/fmnist/infer", "http_version": "1.1",
            "client": ("127.0.0.1", 1), "headers": list(headers.items()),
        }  # fmt: skip

        async def turned_away() -> bytes | None:
            return proxied.turn_away(scope, headers)

        assert (asyncio.run(turned_away()) is not None) == is_told


class TestHead:
    def test_is_answered_as_get_without_the_body(self) -> None:
        with served() as server, server.wire() as wire:
            for _ in range(2):
                wire.send(GET.replace(b"GET /x", b"HEAD /large") + b"\r\n")
                answer = wire.head()
                assert answer.status == 200
                assert answer.headers["content-length"] == "20000000"
            assert server.echo.scopes[0]["method"] == "GET"

    def test_is_counted_as_what_it_is(self, lines: list[Any]) -> None:
        passed(gate(), method="HEAD")
        assert lines[0][2] == "HEAD"

    def test_of_an_error_has_no_body_either(self) -> None:
        with served() as server, server.wire() as wire:
            wire.send(GET.replace(b"GET /x", b"HEAD /fault") + b"\r\n" + GET + b"\r\n")
            assert wire.head().status == 500
            assert wire.answer().status == 200


def test_what_is_no_request_is_handed_on() -> None:
    handed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        handed.append(scope["type"])

    async def unused(*_: object) -> Any:
        raise AssertionError

    asyncio.run(gate(app)({"type": "lifespan"}, unused, unused))
    assert handed == ["lifespan"]
