"""The verb `doctor`."""

import typer

from fmnist import tables
from fmnist.cli.options import Json, show


def doctor(as_json: Json = False) -> None:
    """Check versions, data, cache, device, threads and extras, and say what to do.

    Example: `fmnist doctor`
    """
    from fmnist.doctor import examine

    findings = examine()
    healthy = all(finding.ok for finding in findings)
    checks = [finding.to_json() for finding in findings]
    show({"healthy": healthy, "checks": checks}, tables.print_findings, as_json)
    if not healthy:
        raise typer.Exit(1)
