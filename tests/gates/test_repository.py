"""The repository holds what it says and nothing of the machine it was made on."""

from __future__ import annotations

import re

import pytest

from tests.gates.sources import TOP, shown, tracked

TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "SECURITY.md",
    "hsm-config",
    "scripts",
    "tests",
    "kms",
    "pki",
}
# Written in two halves, so that this file does not break its own rule.
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "proxy.golang" + ".org", "registry.npmjs" + ".org")
HOME_PATHS = re.compile(r"(?<![\w.}])/(work" + r"|root|home/\w+|Users/\w+|opt/wheels|opt/pypi)/")
LOCK_LINE = re.compile(r"\s*(#.*|--hash=sha256:[0-9a-f]{64}( \\)?|[a-z0-9._-]+==[0-9][^ ;]*( ; [^\\]+)? \\)?")


def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            found[shown(path)] = data.decode()
    return found


def test_top_level_is_tidy() -> None:
    entries = {shown(path).split("/")[0] for path in tracked()}
    assert {name for name in entries if not name.startswith(".")} <= TOP_LEVEL
    assert entries >= TOP_LEVEL


@pytest.mark.parametrize("lock", ["run", "test"])
def test_lock_is_hashed_and_names_no_host(lock: str) -> None:
    text = (TOP / "scripts" / "locks" / f"{lock}.txt").read_text()
    assert not [line for line in text.splitlines() if not LOCK_LINE.fullmatch(line)]
    assert "://" not in text
    pins = re.findall(r"^[a-z0-9._-]+==", text, re.MULTILINE)
    assert len(pins) > 20
    assert len(re.findall(r"^[a-z0-9._-]+==.*\n    --hash", text, re.MULTILINE)) == len(pins)


@pytest.mark.parametrize(
    "line",
    ["--index-url x", "--find-links y", "-i z", "--extra-index-url x", "a @ file:x", "--trusted-host x"],
)
def test_lock_rule_can_fail(line: str) -> None:
    assert not LOCK_LINE.fullmatch(line)


def test_no_registry_is_named() -> None:
    named = [(name, host) for name, text in texts().items() for host in REGISTRIES if host in text]
    assert not named


def test_no_path_of_a_machine() -> None:
    found = [(name, match.group(0)) for name, text in texts().items() if (match := HOME_PATHS.search(text))]
    assert not found


def test_scripts_are_executable() -> None:
    dull = [
        shown(path)
        for path in tracked()
        if path.read_bytes()[:2] == b"#!" and not path.stat().st_mode & 0o100
    ]
    assert not dull
