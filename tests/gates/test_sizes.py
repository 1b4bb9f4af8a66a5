"""Files stay short enough to be read: the median is at most 150 lines, none has more than 500."""

from __future__ import annotations

import statistics

from tests.gates.sources import CODE_FOLDERS, python_files, shown

MEDIAN = 150
CAP = 500


def test_files_are_short() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in python_files(*CODE_FOLDERS)}
    sizes = sorted(((count, shown(path)) for path, count in lines.items() if count > 5), reverse=True)
    median = statistics.median(count for count, _ in sizes)
    print(f"\n{len(sizes)} files, {sum(lines.values())} lines, median {median:.0f}, longest:")
    for count, name in sizes[:12]:
        print(f"  {count:4} {name}")
    assert median <= MEDIAN
    assert not [name for count, name in sizes if count > CAP]


def test_test_files_stay_under_the_cap() -> None:
    long = [
        shown(path) for path in python_files("tests", "scripts") if len(path.read_text().splitlines()) > CAP
    ]
    assert not long
