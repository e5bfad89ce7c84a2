"""Pseudo terminals: what was written to one."""

import os


def everything(reader: int) -> str:
    """Read what was written to a terminal that is closed, and close the end it is read at.

    The system may hand it over in several parts, and some time after it was written.
    """
    parts = []
    try:
        while part := os.read(reader, 65_536):
            parts.append(part)
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(reader)
    return b"".join(parts).decode()
