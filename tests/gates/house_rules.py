"""House rules that no linter knows, found in the syntax tree.

Each rule is a function from a parsed file to the lines that break it. The exceptions stand here with
their reason, so that a reviewer sees a new one as a change of this file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Modules that may read a clock of the system themselves.
CLOCK_READERS = {
    "kms/clock.py": "it is the clock",
}
# Comparisons of things that are named like secrets and are public.
PUBLIC_COMPARISONS = {
    "pki/subordinate.py:digest": "the hash of a public key",
}
# Where structs may be decoded by type, for the first time, in the middle of a function.
LATE_DECODERS = {
    "kms/config/reading.py": "one thread, at the start",
    "kms/hsm/profiles.py": "one thread, at the start",
    "kms/server/offline.py": "one thread",
    "kms/cli/copies.py": "one thread",
    "pki/ceremonies/script.py": "one thread",
    "pki/ceremonies/holdings.py": "one thread",
    "kms/keys/backup.py": "its struct is prepared when the module is imported",
}
SECRET_NAME = re.compile(r"(^|_)(token|secret|mac|hmac|digest|pin|password|signature)$")
SQL_CALLS = {"execute", "executemany", "executescript", "query"}
EXCUSE = re.compile(r"(: *[A-Z]+\d+(, *[A-Z]+\d+)*|\[[a-z-, ]+\]) +[(#] *\S")
FORBIDDEN_MODULES = {"pickle", "shelve", "marshal", "dill"}


@dataclass(frozen=True)
class Source:
    """One parsed file."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], node.lineno


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def clock(source: Source) -> Iterator[int]:
    """Time comes in through a Clock, so that tests can move it."""
    if source.name in CLOCK_READERS:
        return
    yield from (line for module, line in _imports(source.tree) if module == "time")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and _called(node) in {"now", "utcnow", "today"}:
            owner = ast.unparse(node.func)
            if owner.startswith(("datetime.", "date.")):
                yield node.lineno


def no_pickle(source: Source) -> Iterator[int]:
    """Reading a pickle runs code."""
    yield from (line for module, line in _imports(source.tree) if module in FORBIDDEN_MODULES)


def no_shell(source: Source) -> Iterator[int]:
    """Commands are lists of arguments."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) in {"os.system", "os.popen"}:
            yield node.lineno
        for keyword in node.keywords:
            if keyword.arg == "shell" and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                yield node.lineno


def no_built_sql(source: Source) -> Iterator[int]:
    """Values go to the database as parameters; names come from tables of ours, marked by a noqa."""
    marked = source.text.splitlines()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and _called(node) in SQL_CALLS and node.args:
            statement = node.args[0]
            built = isinstance(statement, ast.JoinedStr | ast.BinOp) or (
                isinstance(statement, ast.Call) and _called(statement) == "format"
            )
            if ast.unparse(statement).startswith(("f'PRAGMA ", "'PRAGMA ")):
                continue  # PRAGMA takes no parameters
            lines = marked[node.lineno - 1 : (node.end_lineno or node.lineno)]
            if built and not any("noqa: S608" in line for line in lines):
                yield node.lineno


def broad_except(source: Source) -> Iterator[int]:
    """Every except names what it handles; one that only cleans up ends with a bare raise."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            names = ast.unparse(node.type) if node.type is not None else "Exception"
            last = node.body[-1]
            passed_on = isinstance(last, ast.Raise) and last.exc is None
            if re.search(r"\b(Base)?Exception\b", names) and not passed_on:
                yield node.lineno


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Name):
        return node.id
    return ""


def constant_time(source: Source) -> Iterator[int]:
    """Secrets are compared with hmac.compare_digest; a comparison with a literal tells nothing."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) for side in sides):
            continue
        names = [name for side in sides if SECRET_NAME.search(name := _name(side).lower())]
        if any(f"{source.name}:{name}" not in PUBLIC_COMPARISONS for name in names):
            yield node.lineno


def late_decoder(source: Source) -> Iterator[int]:
    """Decoders are made when their module is imported: msgspec prepares a struct when it is first used, and two threads that do so at once crash the process."""
    if source.name in LATE_DECODERS:
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        kinds = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "type"]
        by_type = called in {"msgspec.json.decode", "msgspec.msgpack.decode"} and kinds
        if called == "msgspec.convert" or (by_type and not kinds[0].startswith("dict[")):
            yield node.lineno


def naked_todo(source: Source) -> Iterator[int]:
    """A TODO names its issue."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"#.*\b(TODO|FIXME|XXX)\b(?!\(#\d+\))", line):
            yield number


def excused(source: Source) -> Iterator[int]:
    """Silencing a tool takes the code of the finding and a reason after it."""
    for number, line in enumerate(source.text.splitlines(), 1):
        for mark in re.findall(r"#\s*(?:noqa|type:\s*ignore)\b(.*)", line):
            if not EXCUSE.match(mark):
                yield number


RULES: dict[str, Callable[[Source], Iterator[int]]] = {
    "clock": clock,
    "pickle": no_pickle,
    "shell": no_shell,
    "sql": no_built_sql,
    "constant time": constant_time,
    "decoder": late_decoder,
    "todo": naked_todo,
    "excuse": excused,
}
