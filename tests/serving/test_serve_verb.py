"""`fmnist serve` as an operator calls it: options, variables in the environment, and refusals."""

import dataclasses
import json
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fmnist.cli import main
from fmnist.serving import listener
from fmnist.serving.model_identity import Identity
from fmnist.serving.settings import MetricsChoice, Settings

TOKEN = "a-secret-that-nobody-may-see"
IDENTITY = Identity("photo", "ab" * 32, "0.1.0")


@dataclass
class Done:
    status: Any
    out: str
    err: str
    settings: Settings | None  # those that would have been served with


Serve = Callable[..., Done]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Serve:
    """`fmnist serve *arguments` with variables, to where the server would begin to load."""

    def call(*arguments: str, **variables: str) -> Done:
        taken: list[Settings] = []

        def begin(settings: Settings, listener: socket.socket, announce: Any) -> None:
            taken.append(settings)
            announce(IDENTITY)

        monkeypatch.setattr(import_module("fmnist.cli.serve"), "_serve", begin)
        monkeypatch.setattr(sys, "argv", ["fmnist", "serve", "--port", "0", *arguments])
        with monkeypatch.context() as patch:
            patch.setattr(logging.getLogger("fmnist"), "handlers", [])
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        printed = capsys.readouterr()
        settings = taken[0] if taken else None
        return Done(ended.value.code, printed.out, printed.err, settings)

    return call


def test_the_defaults_are_those_of_the_settings(serve: Serve) -> None:
    assert serve().settings == Settings(port=0)


CHOICES: list[tuple[str, str, dict[str, Any]]] = [
    ("host", "localhost", {"host": "localhost"}),
    ("workers", "3", {"workers": 3}),
    ("token", TOKEN, {"token": TOKEN}),
    ("allowed-host", "shop.example", {"allowed_hosts": ("shop.example",)}),
    ("proxy", "10.0.0.0/24", {"proxies": ("10.0.0.0/24",)}),
    ("metrics", "off", {"metrics": MetricsChoice.off}),
    ("max-connections", "7", {"connections": 7}),
    ("max-body", "1.5", {"body_bytes": 3 * 2**19}),
    ("max-held", "2", {"held_bytes": 2 * 2**20}),
    ("max-pixels", "2.5", {"pixels": 2_500_000}),
    ("max-files", "7", {"files": 7}),
    ("max-images", "7", {"images": 7}),
    ("max-waiting", "7", {"waiting_tensors": 7}),
    ("max-waiting-photos", "7", {"waiting_photos": 7}),
    ("rate", "0.5", {"rate": 0.5}),
    ("burst", "7", {"burst": 7}),
    ("deadline", "0.5", {"deadline_seconds": 0.5}),
    ("header-deadline", "0.5", {"header_seconds": 0.5}),
    ("body-deadline", "0.5", {"body_seconds": 0.5}),
    ("idle-deadline", "0.5", {"idle_seconds": 0.5}),
    ("stop-deadline", "0.5", {"stop_seconds": 0.5}),
]


@pytest.mark.parametrize(("option", "value", "expected"), CHOICES)
def test_an_option_and_its_variable_decide_the_same(
    serve: Serve, option: str, value: str, expected: dict[str, Any]
) -> None:
    variable = "FMNIST_SERVE_" + option.upper().replace("-", "_")
    chosen = dataclasses.replace(Settings(port=0), **expected)
    assert serve(f"--{option}", value).settings == chosen
    assert serve(**{variable: value}).settings == chosen
    assert option in serve("--help").out.replace("\n", "")


def test_every_setting_can_be_chosen() -> None:
    named = {name for _, _, expected in CHOICES for name in expected}
    # An argument, and what is tested below.
    others = {"model", "port", "insecure", "access_log", "client_address", "token_file"}
    assert named | others == {field.name for field in dataclasses.fields(Settings) if field.init}


def test_switches(serve: Serve) -> None:
    assert serve("--no-access-log").settings == Settings(port=0, access_log=False)
    assert serve(FMNIST_SERVE_ACCESS_LOG="0").settings == Settings(port=0, access_log=False)
    assert serve("--no-client-address").settings == Settings(port=0, client_address=False)
    everyone = Settings(port=0, host="0.0.0.0", insecure=True)
    assert serve("--host", "0.0.0.0", "--insecure").settings == everyone
    assert serve("--host", "0.0.0.0", FMNIST_SERVE_INSECURE="1").settings == everyone
    assert serve("a.onnx").settings == Settings(port=0, model=Path("a.onnx"))


def test_repeated_options_and_lists_in_variables(serve: Serve) -> None:
    expected = Settings(port=0, allowed_hosts=("a.example", "b.example"))
    assert serve("--allowed-host", "a.example", "--allowed-host", "b.example").settings == expected
    assert serve(FMNIST_SERVE_ALLOWED_HOST="a.example b.example").settings == expected


def test_a_file_of_tokens_is_read_line_by_line(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\r\n\n  {TOKEN}-of-tomorrow\n")
    for done in (
        serve("--token-file", str(file), "--host", "0.0.0.0"),
        serve("--host", "0.0.0.0", FMNIST_SERVE_TOKEN_FILE=str(file)),
    ):
        assert done.settings is not None
        assert done.settings.tokens == (TOKEN, f"{TOKEN}-of-tomorrow")
        assert TOKEN not in repr(done.settings)
        chosen = {"host": "0.0.0.0", "port": 0, "token_file": file, "tokens": 2}
        assert done.settings.chosen() == chosen
    both = serve("--token-file", str(file), "--token", "another-of-sixteen-letters").settings
    assert both is not None
    assert len(both.tokens) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "tokens cannot be read: No such file"),
        (b"\n \n", "tokens holds none"),
        (b"\xff\xfe" * 20, "tokens cannot be read: it is not plain text"),
        (b"s3cr3t\n", "a token must be 16 to 512 letters"),
    ],
)
def test_a_file_without_tokens_does_not_open_the_server(
    serve: Serve, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    done = serve("--token-file", str(file))
    assert (done.status, done.settings) == (1, None)
    assert message in done.err
    assert "s3cr3t" not in done.err
    assert done.err.count("\n") == 1


def test_it_prints_where_it_answers(serve: Serve) -> None:
    done = serve()
    assert (done.status, done.err) == (0, "")
    scheme, _, port = done.out.removesuffix("\n").rpartition(":")
    assert scheme == "http://127.0.0.1"
    assert int(port) > 0


def test_json_says_more(serve: Serve) -> None:
    done = serve("--json", "--host", "localhost", "--workers", "2")
    assert done.out.count("\n") == 1
    told = json.loads(done.out)
    assert told.pop("pid") > 0
    port = told.pop("port")
    assert told == {
        "url": f"http://localhost:{port}",
        "host": "localhost",
        "workers": 2,
        "model": {"name": "photo", "sha256": "ab" * 32, "version": "0.1.0"},
    }


def test_the_address_of_a_server_that_listens_everywhere_can_be_opened_here(serve: Serve) -> None:
    assert serve("--host", "0.0.0.0", "--insecure").out.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("host", "families", "addresses"),
    [
        ("0.0.0.0", {socket.AF_INET: "192.168.1.7"}, ["127.0.0.1", "192.168.1.7"]),
        ("0.0.0.0", {}, ["127.0.0.1"]),
        ("::", {socket.AF_INET6: "fd00::7"}, ["[::1]", "[fd00::7]"]),
        ("127.0.0.1", {socket.AF_INET: "192.168.1.7"}, ["127.0.0.1"]),
    ],
)
def test_the_address_for_other_machines_is_told_too(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    families: dict[socket.AddressFamily, str],
    addresses: list[str],
) -> None:
    monkeypatch.setattr(listener, "_own_address", lambda family, target: families.get(family))
    if host == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    lines = serve("--host", host, "--insecure").out.splitlines()
    assert [line.removeprefix("http://").rpartition(":")[0] for line in lines] == addresses
    assert len({line.rpartition(":")[2] for line in lines}) == 1


def test_the_own_address_is_no_loopback() -> None:
    found = listener._own_address(socket.AF_INET, "127.0.0.1")
    assert found is None


def test_a_server_that_is_open_to_all_says_so(serve: Serve) -> None:
    warning = "insecure: other machines may ask without a token"
    assert serve("--host", "0.0.0.0", "--insecure").err.count(warning) == 1
    for arguments in (["--insecure"], ["--host", "0.0.0.0", "--insecure", "--token", TOKEN]):
        assert warning not in serve(*arguments).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines: name a secret"),
        (["--host", "::"], "--insecure to let everyone ask"),
        (["--host", "nowhere.invalid", "--insecure"], "the host is not known"),
        (["--host", "192.0.2.1", "--insecure"], "no address of this machine"),
        (["--token", "short"], "a token must be 16 to 512 letters"),
        (["--token", ""], "a token must be 16 to 512 letters"),
        (["--token", "a secret with blanks"], "secrets.token_urlsafe()"),
        (["--allowed-host", "http://shop.example"], "is no host name"),
        (["--allowed-host", "shop.example:80"], "is no host name"),
        (["--proxy", "shop.example"], "is no address of a proxy"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    serve: Serve, arguments: list[str], message: str
) -> None:
    done = serve(*arguments)
    assert (done.status, done.out, done.settings) == (1, "", None)
    assert done.err.startswith("fmnist: ")
    assert done.err.count("\n") == 1
    assert message in done.err


def test_a_port_that_is_taken(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = serve("--port", str(port))
    assert (done.status, done.out) == (1, "")
    assert f"cannot listen on 127.0.0.1 port {port}: something listens there" in done.err
    assert "--port" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--port", "http"],
        ["--workers", "0"],
        ["--max-body", "0"],
        ["--max-body", "nan"],
        ["--deadline", "inf"],
        ["--rate", "-1"],
        ["--metrics", "some"],
        ["a.onnx", "b.onnx"],
    ],
)
def test_bad_usage_exits_2(serve: Serve, arguments: list[str]) -> None:
    done = serve(*arguments)
    assert (done.status, done.out, done.settings) == (2, "", None)
    assert "Usage: " in done.err


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("FMNIST_SERVE_MAXBODY", "FMNIST_SERVE_MAX_BODY"),
        ("FMNIST_SERVE_TOKENS", "FMNIST_SERVE_TOKEN"),
        ("FMNIST_SERVE_ALLOWED_HOSTS", "FMNIST_SERVE_ALLOWED_HOST"),
    ],
)
def test_a_variable_that_stands_for_no_option(serve: Serve, variable: str, nearest: str) -> None:
    done = serve(**{variable: "s3cr3t"})
    assert (done.status, done.out, done.settings) == (1, "", None)
    wanted = f"fmnist: {variable} stands for no option; the nearest that does is {nearest}\n"
    assert done.err == wanted
    assert serve("--help", **{variable: "5"}).status == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [("max-body", "abc"), ("workers", "0"), ("metrics", "some"), ("insecure", "maybe")],
)
def test_a_bad_value_is_told_by_where_it_came_from(serve: Serve, option: str, value: str) -> None:
    variable = "FMNIST_SERVE_" + option.upper().replace("-", "_")
    done = serve(**{variable: value})
    assert (done.status, done.settings) == (2, None)
    assert f"Invalid value for {variable}" in done.err
    if option != "insecure":
        done = serve(f"--{option}", value, **{variable: value})
        assert f"Invalid value for '--{option}'" in done.err


def test_a_secret_that_got_lost_on_its_way_does_not_open_the_server(serve: Serve) -> None:
    for variable in ("FMNIST_SERVE_TOKEN", "FMNIST_SERVE_TOKEN_FILE"):
        done = serve(**{variable: ""})
        assert (done.status, done.settings) == (2, None)
        assert variable in done.err


def test_a_bad_secret_is_not_shown(serve: Serve) -> None:
    for done in (serve("--token", "s3cr3t"), serve(FMNIST_SERVE_TOKEN="s3cr3t")):
        assert done.status == 1
        assert "s3cr3t" not in done.err
    assert TOKEN not in repr(Settings(token=TOKEN))


def test_the_help_names_what_can_be_said(serve: Serve) -> None:
    done = serve("--help")
    assert done.status == 0
    for text in ("Server", "Access", "Limits", "FMNIST_SERVE_MAX_BODY", "FMNIST_SERVE_TOKEN"):
        assert text in done.out
