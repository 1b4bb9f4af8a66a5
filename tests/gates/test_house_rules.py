"""The house rules hold in the shipped code, and each rule can be broken by a sample."""

from __future__ import annotations

import ast

import pytest

from tests.gates import house_rules
from tests.gates.sources import CODE_FOLDERS, python_files, shown

SOURCES = [house_rules.Source(shown(path), path.read_text()) for path in python_files(*CODE_FOLDERS)]

# rule -> samples that must be found
BROKEN = {
    "clock": [
        "import time",
        "from time import monotonic",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.utcnow()",
        "from datetime import date\nx = date.today()",
    ],
    "pickle": ["import pickle", "from marshal import loads"],
    "shell": ["import subprocess\nsubprocess.run('x', shell=True)", "import os\nos.system('x')"],
    "sql": [
        "db.execute(f'SELECT {x}')",
        "db.execute('SELECT ' + x)",
        "db.query('SELECT %s' % x)",
        "db.executescript('SELECT {}'.format(x))",
    ],
    "constant time": ["a.token == given", "x = expected_digest != digest", "if PIN == pin: pass"],
    "decoder": ["msgspec.json.decode(x, type=Model)", "msgspec.convert(x, Model)"],
    "todo": ["# TO" + "DO: later", "x = 1  # FIX" + "ME"],
    "excuse": ["x = 1  # no" + "qa", "x = 1  # no" + "qa: S101", "x = 1  # type: " + "ignore[misc]"],
}
# rule -> samples that must pass
SOUND = {
    "clock": ["from datetime import UTC", "clock.now()"],
    "pickle": ["import json"],
    "shell": ["import subprocess\nsubprocess.run(['x'], shell=False)"],
    "sql": ["db.execute('SELECT ?', [x])"],
    "constant time": ["token == ''", "token_type == other", "hmac.compare_digest(token, given)"],
    "decoder": ["msgspec.json.decode(x, type=dict[str, Any])", "read = msgspec.json.Decoder(Model).decode"],
    "todo": ["# TO" + "DO(#12): later"],
    "excuse": ["x = 1  # no" + "qa: S101  (a reason)", "x = 1  # type: " + "ignore[misc]  # untyped library"],
}


@pytest.mark.parametrize("rule", house_rules.RULES)
def test_rule_holds(rule: str) -> None:
    check = house_rules.RULES[rule]
    broken = [f"{source.name}:{line}" for source in SOURCES for line in check(source)]
    assert not broken, f"{check.__doc__} Broken at: {', '.join(broken)}"


@pytest.mark.parametrize("rule", house_rules.RULES)
def test_rule_finds_what_it_is_for(rule: str) -> None:
    check = house_rules.RULES[rule]
    for sample in BROKEN[rule]:
        assert list(check(house_rules.Source("sample.py", sample))), sample
    for sample in SOUND[rule]:
        assert not list(check(house_rules.Source("sample.py", sample))), sample


def test_one_place_catches_everything() -> None:
    places = [f"{source.name}:{line}" for source in SOURCES for line in house_rules.broad_except(source)]
    assert len(places) <= 1, places


@pytest.mark.parametrize(
    "clause", ["except Exception:", "except BaseException:", "except:", "except (A, Exception):"]
)
def test_broad_except_is_found(clause: str) -> None:
    sample = f"try:\n    pass\n{clause}\n    pass"
    assert list(house_rules.broad_except(house_rules.Source("sample.py", sample)))


def test_packages_say_what_they_promise() -> None:
    silent = []
    for source in SOURCES:
        if source.name.endswith("__init__.py"):
            doc = ast.get_docstring(source.tree) or ""
            if not doc.strip():
                silent.append(source.name)
    assert not silent
