"""What Linux says of a process."""

from pathlib import Path


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
