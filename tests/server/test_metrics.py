"""Metrics over several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kms import metrics
from tests.harness.dev import clean_environment

# In a process of its own: the library decides at import how it counts.
SCRIPT = """
import os
from kms import metrics
folder = metrics.make_folder()
meter = metrics.Meter()
for _ in range(2):
    if os.fork() == 0:
        for _ in range(10):
            meter.observe("transit.encrypt", "ok", 0.0002)
        meter.observe("transit.encrypt", "denied", 5.0)
        meter.flush()
        os._exit(0)
for _ in range(2):
    pid, _ = os.wait()
    metrics.forget_process(pid)
meter.observe("sys.health", "ok", 0.001)
print(metrics.render_metrics(meter).decode())
print(folder.stat().st_mode & 0o777)
metrics.remove_folder(folder)
print(folder.exists())
"""


def test_all_processes_are_summed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(tmp_path),
        timeout=30,
    )
    lines = done.stdout.splitlines()
    for wanted in (
        'keystead_requests_total{operation="transit.encrypt",outcome="ok"} 20.0',
        'keystead_requests_total{operation="transit.encrypt",outcome="denied"} 2.0',
        'keystead_requests_total{operation="sys.health",outcome="ok"} 1.0',
        'keystead_request_duration_total{le="0.00025",operation="transit.encrypt"} 20.0',
        'keystead_request_duration_total{le="0.0001",operation="transit.encrypt"} 0.0',
        'keystead_request_duration_total{le="2.5",operation="transit.encrypt"} 20.0',
        'keystead_request_duration_total{le="+Inf",operation="transit.encrypt"} 22.0',
    ):
        assert wanted in lines
    assert lines[-2:] == [str(0o700), "False"]


def test_alone_it_counts_as_well() -> None:
    assert metrics.FOLDER_VARIABLE not in os.environ
    meter = metrics.Meter()
    meter.observe("test.alone", "ok", 0.1)
    assert b'operation="test.alone"' in metrics.render_metrics(meter)
