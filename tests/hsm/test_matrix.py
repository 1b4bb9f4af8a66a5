"""Every operation on every module works, or is a 400 that names the mechanism: tests/hsm/matrix.toml, cell by cell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.hsm.matrix import cells
from tests.hsm.modules import available

MATRIX = tomllib.loads((Path(__file__).parent / "matrix.toml").read_text("utf-8"))
MODULES = list(MATRIX["modules"])
TOP = Path(__file__).parent.parent.parent


def test_the_matrix_has_every_cell_and_nothing_else() -> None:
    assert list(MATRIX["cells"]) == [name for name, _ in cells()]
    for name, row in MATRIX["cells"].items():
        assert len(row) == len(MODULES), name
        assert all(re.fullmatch(r"works|CKM_[A-Z0-9_]+", cell) for cell in row), name


@pytest.mark.parametrize("module", MODULES)
def test_the_module_does_what_the_matrix_says(module: str, tmp_path: Path) -> None:
    assert available()[module], f"scripts/setup installs what {module} needs"
    command = [sys.executable, "-m", "tests.hsm.matrix", module, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=TOP, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    at = MODULES.index(module)
    assert json.loads(done.stdout) == {name: row[at] for name, row in MATRIX["cells"].items()}
