"""Browsers that are not Chromium, by the driver that each brings along: Firefox, and WebKit.

WebKit is Safari's engine and that of all iPhones; its GTK build is what Linux has of it. Both know
the commands of WebDriver: Firefox in Marionette's envelopes, WebKit over HTTP.
"""

import abc
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, final

import pytest
import requests

from waiting import PATIENCE, wait_until

TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"  # WebDriver, section 17.4.2
# Those of the page: Firefox's own are of chrome:// and resource://.
_FAULTS = """
return Services.console.getMessageArray().map(String)
    .filter((each) => each.includes("Error") && /Content-Security|127\\.0\\.0\\.1/.test(each));
"""


class Engine(abc.ABC):
    """A browser with one window."""

    @abc.abstractmethod
    def command(self, name: str, **parameters: Any) -> Any:
        """Give one of WebDriver's commands, and return its value."""

    def open(self, address: str) -> None:
        """Open an address and wait until it is loaded."""
        self.command("Navigate", url=address)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page."""
        return self.command("ExecuteScript", script=script, args=arguments)

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        wait_until(lambda: self.run(f"return {condition}"), what=condition)

    def answered(self) -> None:
        """Wait until there are cards, and none waits for its answer."""
        self.until("document.querySelector('.card:not(.waiting, .looking)')")
        self.until("!document.querySelector('.card[aria-busy=true]')")

    def texts(self, selector: str) -> list[str]:
        """What the elements of a selector say, in single spaces."""
        script = (
            "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)"
        )
        return [" ".join(each.split()) for each in self.run(script, selector)]

    def give(self, *pictures: Path) -> None:
        """Choose files, and wait for the answers."""
        self.type("#files", "\n".join(map(str, pictures)))
        self.answered()

    def type(self, selector: str, text: str) -> None:
        """Type into a field, or choose its files."""
        (field,) = self.run("return document.querySelector(arguments[0])", selector).values()
        self.command("ElementSendKeys", id=field, text=text)

    def press(self, key: str) -> None:
        """Press a key, wherever the focus is."""
        strokes = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": strokes}
        self.command("PerformActions", actions=[keyboard])

    def faults(self) -> list[str]:
        """What the console has of errors and violations of the policy, where it can be read."""
        return []


@final
class Firefox(Engine):
    """Firefox, by both ways of a connection to its Marionette."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands, self._answers = commands, answers
        self._receive()  # it introduces itself
        self._send("WebDriver:NewSession", {})

    def command(self, name: str, **parameters: Any) -> Any:
        return self._send(f"WebDriver:{name}", parameters)

    def faults(self) -> list[str]:
        self._send("Marionette:SetContext", {"value": "chrome"})
        told: list[str] = self.run(_FAULTS)
        self._send("Marionette:SetContext", {"value": "content"})
        return told

    def _send(self, name: str, parameters: dict[str, Any]) -> Any:
        message = json.dumps([0, 0, name, parameters]).encode()
        self._commands.write(b"%d:%b" % (len(message), message))
        self._commands.flush()
        _, _, error, result = self._receive()
        assert error is None, error
        return result.get("value") if isinstance(result, dict) else result

    def _receive(self) -> Any:
        digits = b"".join(iter(lambda: self._answers.read(1), b":"))
        return json.loads(self._answers.read(int(digits)))


_PATHS = {
    "Navigate": "url",
    "ExecuteScript": "execute/sync",
    "PerformActions": "actions",
    "ElementSendKeys": "element/{id}/value",
}


_SCREEN = ("-displayfd", "1", "-screen", "0", "1280x1024x24")  # its number is told on stdout


@final
class WebKit(Engine):
    """WebKit, by the address of a session of its driver."""

    def __init__(self, address: str) -> None:
        self._address = address
        asked: dict[str, Any] = {"capabilities": {"alwaysMatch": {}}}
        self._address += "/" + self._post("", asked)["sessionId"]

    def command(self, name: str, **parameters: Any) -> Any:
        return self._post("/" + _PATHS[name].format(**parameters), parameters)

    def _post(self, path: str, parameters: dict[str, Any]) -> Any:
        response = requests.post(self._address + path, json=parameters, timeout=PATIENCE)
        value = response.json()["value"]
        assert response.ok, value
        return value


@contextlib.contextmanager
def firefox() -> Iterator[Engine]:
    """Start Firefox; without it the test is skipped, or fails where FMNIST_BROWSERS is `all`."""
    program = _program("firefox-esr", "firefox")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Port 0: it takes a free one and writes it down. 7: Tab stops at links and buttons too.
        settings = {"marionette.port": 0, "accessibility.tabfocus": 7}
        lines = [f"user_pref({json.dumps(name)}, {value});\n" for name, value in settings.items()]
        Path(folder, "user.js").write_text("".join(lines))
        switches = ("--headless", "--marionette", "--remote-allow-system-access", "--no-remote")
        with _running(program, *switches, "--profile", folder, HOME=folder):
            port = Path(folder, "MarionetteActivePort")
            wait_until(lambda: port.exists() and port.read_text(), what="Firefox opens no port")
            address = ("127.0.0.1", int(port.read_text()))
            with (
                socket.create_connection(address, PATIENCE) as line,
                line.makefile("wb") as commands,
                line.makefile("rb") as answers,
            ):
                yield Firefox(commands, answers)


@contextlib.contextmanager
def webkit() -> Iterator[Engine]:
    """Start WebKit; without it or a screen the test is skipped, or fails, as Firefox's."""
    program, screen = _program("WebKitWebDriver"), _program("Xvfb")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        _running(screen, *_SCREEN, stdout=subprocess.PIPE) as shown,
    ):
        assert shown.stdout is not None
        display = f":{shown.stdout.readline().decode().strip()}"
        port = _free_port()
        with _running(program, f"--port={port}", DISPLAY=display, HOME=folder, NO_AT_BRIDGE="1"):
            address = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(f"{address}/status"), what="WebKit's driver is silent")
            yield WebKit(f"{address}/session")


def _program(*names: str) -> str:
    """Return where a program is; without it skip, or fail where FMNIST_BROWSERS says all are."""
    for name in names:
        if found := shutil.which(name):
            return found
    assert os.environ.get("FMNIST_BROWSERS") != "all", f"{names[0]} is not there"
    pytest.skip(f"no {names[0]} is installed")


@contextlib.contextmanager
def _running(
    *command: str, stdout: int = subprocess.DEVNULL, **env: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program; it and what it started are killed at the end."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **env},
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False
