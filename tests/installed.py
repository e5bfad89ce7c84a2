"""The wheel in an environment of its own: what a user has after `pip install fmnist`."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Installed:
    """An environment with the wheel, perhaps an extra, and what these depend on; nothing else."""

    def __init__(self, folder: Path, extra: str | None = None) -> None:
        venv.create(folder, with_pip=True)
        scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self.folder, self.python, self.fmnist = folder, scripts / "python", scripts / "fmnist"
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        wheels = folder / "wheels"
        pip = [str(self.python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True)
        (self.wheel,) = wheels.glob("*.whl")
        wanted = f"{self.wheel}[{extra}]" if extra else str(self.wheel)
        subprocess.run([*pip, "install", *constraints, wanted], check=True)

    def run(self, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the program as a user would, in an empty folder."""
        return subprocess.run(
            [str(self.fmnist), *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=600,
            env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "FMNIST_OFFLINE": "1"},
        )
