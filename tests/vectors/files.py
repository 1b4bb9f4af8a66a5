"""Readers of the formats in PyPI `cryptography-vectors`: names and hex, in sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cryptography_vectors

ROOT = Path(cryptography_vectors.__file__).parent
Record = dict[str, str]
_LINE = re.compile(r"(\w+)\s*=\s*(.*)\Z")


def lines(path: str) -> list[str]:
    """The file's lines, stripped."""
    return [line.strip() for line in (ROOT / path).read_text().splitlines()]


def cavp(path: str, *, sticky: frozenset[str] = frozenset()) -> Iterator[Record]:
    """Records of a CAVP file, each with the `[name = value]` (or `[text]`) lines of its section.

    Args:
        path: below the package.
        sticky: names that stand in a record of their own and hold for those after it (a modulus).
    """
    section: Record = {}
    held: Record = {}
    record: Record = {}
    in_header = False
    for line in [*lines(path), ""]:
        if line.startswith("["):
            if not in_header:
                section, held = {}, {}
            in_header = True
            name, _, value = line.strip("[]").partition("=")
            section[name.strip()] = value.strip()
        elif not line:
            if record and set(record) <= sticky:
                held |= record
            elif record:
                yield section | held | record
            record = {}
        elif not line.startswith("#"):
            in_header = False
            found = _LINE.match(line)
            record[found[1] if found else line] = found[2] if found else ""


def counted(path: str) -> Iterator[Record]:
    """Records that begin with `count = n`, without blank lines between them."""
    record: Record = {}
    for line in lines(path):
        found = _LINE.match(line)
        if found is None:
            continue
        if found[1].lower() == "count" and record:
            yield record
            record = {}
        record[found[1]] = found[2]
    yield record


def examples(path: str) -> Iterator[tuple[Record, list[Record]]]:
    """RSA Laboratories' form: `# Name:` lines with hex below them; one private key and its messages each."""
    for part in (ROOT / path).read_text().split("# ====")[1:]:
        key: Record = {}
        messages: list[Record] = []
        target, name = key, ""
        for line in part.splitlines():
            if re.match(r"# \S+ Example \d", line):
                target = {}
                messages.append(target)
            elif line.startswith("# "):
                name = line.strip("# :\r").lower()
                if name == "private key":
                    key.clear()  # the public half stands before it, in the same names
            elif line.strip() and name:
                target[name] = target.get(name, "") + line.strip().replace(" ", "")
                if target is key and messages:
                    raise ValueError(path)
        if messages:
            yield key, messages
