"""The container's files, read as an engine would, which CI has none of; and the alarms."""

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fmnist.serving.metrics import Metrics
from fmnist.serving.settings import Settings
from installed import ROOT, Installed
from nvidia import made
from servers import running, starting
from uploads import encoded, shirt
from waiting import PATIENCE
from watched import WATCH, written

TOKEN = "of-the-tests-0123456789"
MEGABYTE = 2**20
KNOWN = {
    *("FROM", "LABEL", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL"),
    *("HEALTHCHECK", "ENTRYPOINT"),
}


class Step(NamedTuple):
    """One instruction of a Dockerfile, its lines joined."""

    name: str
    text: str


def steps() -> list[Step]:
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"(?m)^\s*#.*\n", "", text)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [Step(*line.split(maxsplit=1)) for line in lines if line.strip()]


def stages() -> list[list[Step]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[Step]] = []
    for step in steps():
        if step.name == "FROM":
            found.append([])
        found[-1].append(step)
    return found


def of(stage: list[Step], name: str) -> list[str]:
    return [step.text for step in stage if step.name == name]


def environment() -> dict[str, str]:
    """What ENV sets for the server, PATH left out."""
    (text,) = of(stages()[-1], "ENV")
    variables = dict(pair.split("=", 1) for pair in shlex.split(text))
    del variables["PATH"]
    return variables


def entrypoint() -> list[str]:
    (text,) = of(stages()[-1], "ENTRYPOINT")
    return list(json.loads(text))


# The Dockerfile


def test_the_image_has_two_stages_and_known_instructions() -> None:
    assert {step.name for step in steps()} == KNOWN
    build, final = stages()
    assert of(build, "FROM")[0].split(maxsplit=1)[1] == "AS build"
    assert not {"USER", "ENTRYPOINT"} & {step.name for step in build}
    assert of(final, "COPY") == ["--from=build /opt/fmnist /opt/fmnist"]
    assert of(final, "RUN") == []  # nothing is installed here: no compiler, no pip, no curl


def test_the_base_is_a_slim_python_by_its_tag_that_the_project_supports() -> None:
    bases = {text.split()[0] for stage in stages() for text in of(stage, "FROM")}
    (base,) = bases
    version = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert version
    required = importlib.metadata.metadata("fmnist")["Requires-Python"]
    least = re.fullmatch(r">=3\.(\d+)", required)
    assert least
    assert int(least[1]) <= int(version[1])


def test_it_installs_the_wheel_with_the_extra_serve_alone() -> None:
    build, _ = stages()
    wheel, install = of(build, "RUN")
    assert "pip wheel" in wheel
    assert "--no-deps" in wheel
    assert re.findall(r"\[([\w,]+)\]", install) == ["serve"]
    assert "--only-binary :all:" in install
    assert "--constraint constraints.txt" in install
    assert "torch" not in (ROOT / "Dockerfile").read_text()


def test_it_runs_as_nobody_and_ends_as_it_is_told() -> None:
    (_, final) = stages()
    (user,) = of(final, "USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert of(final, "STOPSIGNAL") == ["SIGTERM"]
    assert of(final, "EXPOSE") == ["8000"]
    assert entrypoint() == ["fmnist", "serve"]


def test_it_holds_no_secret() -> None:
    assert not [name for name in environment() if re.search("TOKEN|SECRET|PASSWORD|KEY", name)]


def test_what_is_copied_is_there_and_let_through() -> None:
    build, _ = stages()
    sources = [name for text in of(build, "COPY") for name in text.split()[:-1]]
    assert {"pyproject.toml", "src"} <= set(sources)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed == set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source


# What it runs


def test_without_a_token_it_stops_and_says_so() -> None:
    with starting(env=environment()) as server:
        assert server.process.wait(PATIENCE) == 1
        (line,) = server.stderr_lines()
    assert "0.0.0.0 can be reached from other machines" in line
    assert "FMNIST_SERVE_TOKEN" in line


def health_check(port: int) -> int:
    """The exit status of the health check, for a server on that port."""
    (text,) = of(stages()[-1], "HEALTHCHECK")
    options, command = text.split("CMD ")
    assert re.findall(r"--(interval|timeout|start-period|retries)=", options)
    program, *arguments = json.loads(command)
    assert program == "python"
    assert "'FMNIST_SERVE_PORT', '8000'" in arguments[-1]
    done = subprocess.run(
        [sys.executable, *arguments],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FMNIST_SERVE_PORT": str(port)},
    )
    return done.returncode


def test_it_serves_with_a_token_is_healthy_and_writes_nothing() -> None:
    variables = {**environment(), "FMNIST_SERVE_TOKEN": TOKEN}
    with running(env=variables, before=WATCH) as server:
        url = server.url
        assert requests.get(url, timeout=PATIENCE).status_code == 200
        photo, ask = encoded(shirt(), "jpeg"), {"Authorization": f"Bearer {TOKEN}"}
        assert requests.post(f"{url}/api/predict", photo, timeout=30).status_code == 401
        answer = requests.post(f"{url}/api/predict", photo, headers=ask, timeout=30)
        assert answer.status_code == 200
        assert health_check(server.port) == 0
        assert written(server.stderr_lines()) == []
        port = server.port
    assert health_check(port) != 0


# compose.yaml


def loaded(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / path).read_text()))


def composed() -> dict[str, Any]:
    return loaded("compose.yaml")


@pytest.mark.parametrize("name", ["fmnist", "prometheus"])
def test_each_service_has_limits_and_no_rights(name: str) -> None:
    service = composed()["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
    assert re.fullmatch(r"[\w/]+:v?\d+(\.\d+)+", service["image"])
    for port in service["ports"]:
        assert port.startswith("127.0.0.1:")
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices", "user"} & set(service)
    assert all(
        volume.split(":")[0] != "/var/run/docker.sock" for volume in service.get("volumes", [])
    )


def test_the_server_cannot_write_but_for_its_own_tmp() -> None:
    service = composed()["services"]["fmnist"]
    assert service["read_only"] is True
    assert "volumes" not in service
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["image"] == f"fmnist:{importlib.metadata.version('fmnist')}"
    assert "healthcheck" not in service  # the image's own holds


def secret_of(service: str) -> str:
    """Where a service finds the token."""
    (secret,) = composed()["services"][service]["secrets"]
    return f"/run/secrets/{secret}"


def test_the_token_comes_from_one_file_that_git_does_not_know() -> None:
    compose = composed()
    ((name, secret),) = compose["secrets"].items()
    assert secret == {"file": f"./secrets/{name}"}
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    variables = compose["services"]["fmnist"]["environment"]
    assert variables["FMNIST_SERVE_TOKEN_FILE"] == secret_of("fmnist") == secret_of("prometheus")
    assert "FMNIST_SERVE_TOKEN" not in variables  # which `docker inspect` would show
    for line in (f"> secrets/{name}", f"chmod 644 secrets/{name}"):
        assert f"{line}\n" in (ROOT / "compose.yaml").read_text()


def prometheus_file(name: str) -> dict[str, Any]:
    """A file of Prometheus, which is where its own file is looked for, or beside it."""
    service = composed()["services"]["prometheus"]
    mounted = dict(
        reversed(volume.removesuffix(":ro").split(":"))
        for volume in service["volumes"]
        if volume.startswith("./")
    )
    assert "--config.file=/etc/prometheus/prometheus.yml" in service["command"]
    return loaded(mounted[f"/etc/prometheus/{name}"])


def test_prometheus_reads_the_metrics_with_the_servers_token(tmp_path: Path) -> None:
    (job,) = prometheus_file("prometheus.yml")["scrape_configs"]
    assert job["authorization"] == {
        "type": "Bearer",
        "credentials_file": secret_of("prometheus"),
    }
    ((target,),) = [config["targets"] for config in job["static_configs"]]
    assert target.partition(":")[0] in composed()["services"]
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    variables = composed()["services"]["fmnist"]["environment"]
    variables = {**environment(), **variables, "FMNIST_SERVE_TOKEN_FILE": str(file)}
    with running(env=variables) as server:
        url = f"http://127.0.0.1:{server.port}{job['metrics_path']}"
        host, token = {"Host": target}, {"Authorization": f"Bearer {TOKEN}"}
        answer = requests.get(url, headers={**host, **token}, timeout=PATIENCE)
        assert answer.status_code == 200
        assert "fmnist_model_info{" in answer.text
        assert requests.get(url, headers=host, timeout=PATIENCE).status_code == 401
        other = {**token, "Host": "other:8000"}
        assert requests.get(url, headers=other, timeout=PATIENCE).status_code == 400


# Alarms


def counted() -> dict[str, set[str]]:
    """The labels of each series that a server shows, one for each outcome of a request."""
    metrics = Metrics()
    for status in (200, 401, 499, 500, 503):
        metrics.request("/", "GET", status, 0.1)
    found: dict[str, set[str]] = {"up": set()}  # Prometheus's own
    for family in text_string_to_metric_families(metrics.text()[0].decode()):
        for sample in family.samples:
            labels = (f'{name}="{value}"' for name, value in sample.labels.items())
            found.setdefault(sample.name, set()).update(labels)
    return found


def alarms() -> list[dict[str, Any]]:
    assert prometheus_file("prometheus.yml")["rule_files"] == ["alerts.yml"]
    (group,) = prometheus_file("alerts.yml")["groups"]
    return list(group["rules"])


@pytest.mark.parametrize("alarm", alarms(), ids=lambda alarm: alarm["alert"])
def test_each_alarm_is_about_metrics_and_labels_that_there_are(alarm: dict[str, Any]) -> None:
    series = counted()
    named = re.findall(r"\b(up|fmnist_\w+|process_\w+)\b(?:\{([^}]*)\})?(?!\")", alarm["expr"])
    assert named
    for name, labels in named:
        assert name in series
        asked = {label for label in labels.split(", ") if label and label != 'job="fmnist"'}
        assert asked <= series[name]
    assert alarm["expr"].count("(") == alarm["expr"].count(")")
    assert alarm["annotations"]["summary"]


def test_each_alarm_has_a_loud_and_a_quiet_case() -> None:
    cases = loaded("monitoring/alerts_test.yml")["tests"]
    tried = [each for case in cases for each in case["alert_rule_test"]]
    loud = [each["alertname"] for each in tried if each.get("exp_alerts")]
    quiet = [each["alertname"] for each in tried if not each.get("exp_alerts")]
    assert sorted(loud) == sorted(quiet) == sorted(alarm["alert"] for alarm in alarms())
    for case in cases:  # beside a server of which it tells, one of which it never does
        names = [re.findall(r'instance="(.+?)"', row["series"]) for row in case["input_series"]]
        assert len({name for (name,) in names}) > 1


def promtool(*arguments: str | Path) -> None:
    """Run Prometheus's own checker, which says what is wrong; skip where it is not installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_files(tmp_path: Path) -> None:
    """With a token where they say that one is: that this is so is looked at, too."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    config = (ROOT / "monitoring" / "prometheus.yml").read_text()
    assert secret_of("prometheus") in config
    (tmp_path / "prometheus.yml").write_text(config.replace(secret_of("prometheus"), str(token)))
    shutil.copy(ROOT / "monitoring" / "alerts.yml", tmp_path)
    promtool("check", "config", tmp_path / "prometheus.yml")
    promtool("check", "rules", ROOT / "monitoring" / "alerts.yml")


def test_each_alarm_rings_when_it_should() -> None:
    promtool("test", "rules", ROOT / "monitoring" / "alerts_test.yml")


def test_the_alarm_about_connections_is_below_their_limit() -> None:
    (alarm,) = [each for each in alarms() if each["alert"] == "FmnistConnections"]
    limit = int(alarm["expr"].rpartition("> ")[2])
    assert 0.5 * Settings.connections < limit < Settings.connections
    assert f"takes {Settings.connections} " in alarm["annotations"]["summary"]


# What is installed in it


def test_the_installed_set_is_small_and_serves(tmp_path: Path) -> None:
    installed = Installed(tmp_path / "serve", extra="serve")
    libraries = next(path for path in installed.folder.glob("[Ll]ib*") if not path.is_symlink())
    files = [path for path in libraries.rglob("*") if path.is_file() and not path.is_symlink()]
    assert 50 * MEGABYTE < sum(path.stat().st_size for path in files) < 450 * MEGABYTE
    names = {path.name.partition("-")[0] for path in libraries.rglob("*.dist-info")}
    assert {"fastapi", "uvicorn", "fmnist"} <= names
    assert not names & {"torch", "keras", "tensorflow", "onnx", "scipy", "matplotlib"}
    done = installed.run("serve", "--host", "0.0.0.0", cwd=tmp_path)
    assert done.returncode == 1
    assert "FMNIST_SERVE_TOKEN" in done.stderr
    nothing_of_ours = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    with running(program=[installed.fmnist], env=nothing_of_ours) as server:
        page = server.get("/")
        assert page.headers["Content-Type"].startswith("text/html")
        for address in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
            assert server.get(address).status_code == 200, address
        answer = server.post("/api/predict?steps=true", data=encoded(shirt(), "jpeg"))
        assert answer.json()["predictions"][0]["steps"]["cutout"]
        calls = made(server)
        assert list(calls) == list(range(1, 29))
        assert {number: fault for number, fault in calls.items() if fault} == {}
        assert server.stop() == 0
