"""Processes that tell which files they open to write into."""

# Code to run first in a process: it then says so on stderr.
WATCH = """
import os, sys
def watch(event, arguments):
    if event.startswith("tempfile."):
        os.write(2, b"WRITTEN %r\\n" % event.encode())
    if event == "open" and arguments[0] != os.devnull:
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            os.write(2, f"WRITTEN {arguments!r}\\n".encode())
sys.addaudithook(watch)
"""


def written(lines: list[str]) -> list[str]:
    """Of what a watched process has said on stderr, the lines about files."""
    return [line for line in lines if line.startswith("WRITTEN")]
