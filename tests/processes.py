"""What Linux says of a process."""

import contextlib
import os
from pathlib import Path

from waiting import wait_until


def processor_seconds(pid: int) -> float:
    """The processor time of a process so far; it is counted in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_mib(pid: int) -> int:
    """The memory of a process now."""
    return _mib(pid, "VmRSS:")


def peak_mib(pid: int) -> int:
    """The most memory that a process has had."""
    return _mib(pid, "VmHWM:")


def _mib(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) // 1024


def held(pid: int) -> tuple[int, int]:
    """How many files and threads a process has."""
    process = Path("/proc", str(pid))
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


def listening(pid: int) -> list[str]:
    """Where a process listens for connections, as Linux writes addresses: 0100007F:1F40."""
    process = Path("/proc", str(pid))
    own = set()
    for link in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            own.add(os.readlink(link))
    found = []
    for table in ("tcp", "tcp6"):
        for line in (process / "net" / table).read_text().splitlines():
            _, address, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in own:
                found.append(address)
    return found


def port_of(pid: int) -> int:
    """The port that a process listens at, once it does."""
    wait_until(lambda: listening(pid) != [])
    (address,) = listening(pid)
    return int(address.rpartition(":")[2], 16)
