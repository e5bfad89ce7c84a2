"""Code of a person's own, imported because they named it."""

import contextlib
import importlib
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmnist.errors import FmnistError

# What may go wrong in somebody's own code; a script that ends itself is no reason to end.
FAILURES = (Exception, SystemExit)


def import_named(text: str) -> Any:
    """Return what "module:name" names, the module looked up as `python` would from here.

    Naming it is what allows its code to run. Raises ImportError that says in one line why there is
    no such thing, and FmnistErrors of that code as they are.
    """
    module, _, name = text.partition(":")
    with current_directory_first(Path.cwd()):
        try:
            return operator.attrgetter(name)(importlib.import_module(module))
        except FmnistError:
            raise
        except FAILURES as error:
            raise ImportError(in_one_line(error)) from error


@contextlib.contextmanager
def current_directory_first(folder: Path) -> Iterator[None]:
    """Have imports look into `folder` first, as they do in `python` started there."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the code may have changed the path itself
            sys.path.remove(str(folder))


def in_one_line(error: BaseException) -> str:
    """Return the kind of an error and what it says, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
