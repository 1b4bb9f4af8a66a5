"""What the gates look at: the files of this checkout that belong to the project."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("kms", "pki")
NOT_OURS = {".git", ".venv", "__pycache__", "build", "dist"}


def tracked() -> list[Path]:
    """Files that are, or would be, committed; all but ignored ones where there is no git."""
    git = shutil.which("git")
    if git is not None and (TOP / ".git").exists():
        listed = subprocess.run(
            [git, "-C", str(TOP), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True,
            capture_output=True,
        )
        names = listed.stdout.decode().rstrip("\0").split("\0")
        return sorted(path for name in names if (path := TOP / name).is_file())
    return sorted(
        path
        for path in TOP.rglob("*")
        if path.is_file() and not NOT_OURS & set(path.relative_to(TOP).parts) and path.suffix != ".pyc"
    )


def python_files(*folders: str) -> list[Path]:
    """Python sources below the given top-level folders."""
    return [path for path in tracked() if path.suffix == ".py" and path.relative_to(TOP).parts[0] in folders]


def shown(path: Path) -> str:
    """A path as people write it."""
    return str(path.relative_to(TOP))


GUIDES = ("README.md", "kms/KEYS.md", "pki/CERTIFICATES.md", "kms/ACCESS.md", "hsm-config/OPERATING.md")


def manual() -> str:
    """The README and the guides, in the order in which they are read and their blocks run."""
    return "\n".join((TOP / guide).read_text("utf-8") for guide in GUIDES)
