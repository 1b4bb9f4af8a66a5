"""The first rows of a process are decoded by many threads at once.

msgspec prepares a struct when it is first decoded, without a lock: two threads that do so at once crash the process
(seen as workers killed by SIGSEGV). So each table has its decoder from its declaration on. In a process of its
own, because it can be the first only once, and because failing means dying.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
from __future__ import annotations
import sys, threading
import msgspec
from kms.tables import Table

sys.setswitchinterval(1e-6)
DATA = msgspec.msgpack.encode({"a": {"f0": {"x": [1]}, "f19": {"y": [2]}}, "b": [{"f19": {"z": [3]}}]})
FIELDS = "".join(f"    f{i}: dict[str, list[int]] | None = None\\n" for i in range(20))
SOURCE = "class Inner(msgspec.Struct):\\n" + FIELDS
SOURCE += "class Model(msgspec.Struct):\\n    a: Inner\\n    b: list[Inner]\\n"


def once():
    exec(compile(SOURCE, "models", "exec", flags=0x1000000), globals())
    decode = WAY
    barrier = threading.Barrier(8)

    def read():
        barrier.wait()
        assert decode(DATA).b[0].f19 == {"z": [3]}

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


for _ in range(400):
    once()
print("lived")
"""
TABLE = 'Table("t", "t", Model).decode'
LATE = "lambda data: msgspec.msgpack.decode(data, type=Model)"


def run(way: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD.replace("WAY", way)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_rows_of_a_table_may_be_read_by_many_threads_from_the_first_on() -> None:
    done = run(TABLE)
    assert (done.returncode, done.stdout) == (0, "lived\n"), done.stderr


@pytest.mark.nightly
def test_decoding_by_type_still_crashes() -> None:
    """If this fails, msgspec has mended it, and decoders may be made late again."""
    assert any(run(LATE).returncode < 0 for _ in range(10))
