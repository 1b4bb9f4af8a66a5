"""Counts and durations for Prometheus, over all processes of a server.

prometheus_client in multiprocess mode keeps one memory-mapped file per process in a private folder that
the supervisor makes; whichever worker is asked renders them all. The library decides by an environment
variable at import, so it is imported on first use, which is after the fork.

The request path pays for one dictionary look-up and two additions: numbers are collected in plain
memory and given to the library in batches, at most every second and when somebody looks.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from bisect import bisect_left
from collections import Counter as Counts
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kms.clock import Clock, SystemClock
from kms.errors import invalid

if TYPE_CHECKING:
    from prometheus_client import Counter

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
FLUSH_SECONDS = 1.0

_requests: Counter | None = None
_seconds: Counter | None = None
_buckets: Counter | None = None
_root_uses: Counter | None = None
_setup = threading.Lock()


class Meter:
    """Counts finished requests of one process (`kms.pipeline.Meter`). Safe to use from several threads.

    Series: keystead_requests_total{operation,outcome}, keystead_request_seconds_total{operation},
    keystead_request_duration_total{operation,le} (how many took at most `le` seconds) and
    keystead_root_token_uses_total{operation}.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._pending: dict[tuple[str, str], list[float]] = {}
        self._root: Counts[str] = Counts()
        self._flush_at = 0.0
        self._lock = threading.Lock()

    def root_used(self, operation: str) -> None:
        """One request of a root token."""
        with self._lock:
            self._root[operation] += 1

    def observe(self, operation: str, outcome: str, seconds: float) -> None:
        """One finished request."""
        with self._lock:
            held = self._pending.get((operation, outcome))
            if held is None:
                held = self._pending[operation, outcome] = [0.0] * (len(BUCKETS_SECONDS) + 2)
            held[bisect_left(BUCKETS_SECONDS, seconds)] += 1
            held[-1] += seconds
        if self._clock.monotonic() >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Give the library what was collected."""
        with self._lock:
            pending, self._pending = self._pending, {}
            root, self._root = self._root, Counts()
            self._flush_at = self._clock.monotonic() + FLUSH_SECONDS
        for operation, uses in root.items():
            _root_series().labels(operation).inc(uses)
        if not pending:
            return
        requests, total, buckets = _series()
        for (operation, outcome), held in pending.items():
            counts, seconds = held[:-1], held[-1]
            requests.labels(operation, outcome).inc(sum(counts))
            total.labels(operation).inc(seconds)
            cumulative = 0.0
            for bound, count in zip((*BUCKETS_SECONDS, "+Inf"), counts, strict=True):
                cumulative += count
                buckets.labels(operation, str(bound)).inc(cumulative)


def _series() -> tuple[Counter, Counter, Counter]:
    global _requests, _seconds, _buckets  # noqa: PLW0603  (the library's series are process-wide by design)
    from prometheus_client import Counter  # noqa: PLC0415  (reads the environment at import)

    with _setup:
        if _requests is None or _seconds is None or _buckets is None:
            _requests = Counter("keystead_requests", "Finished requests", ["operation", "outcome"])
            _seconds = Counter("keystead_request_seconds", "Time spent in requests", ["operation"])
            _buckets = Counter(
                "keystead_request_duration", "Requests that took at most le seconds", ["operation", "le"]
            )
        return _requests, _seconds, _buckets


def _root_series() -> Counter:
    global _root_uses  # noqa: PLW0603  (as above)
    from prometheus_client import Counter  # noqa: PLC0415  (reads the environment at import)

    with _setup:
        if _root_uses is None:
            _root_uses = Counter("keystead_root_token_uses", "Requests of root tokens", ["operation"])
        return _root_uses


def render_metrics(meter: Meter | None = None) -> bytes:
    """All processes' series in Prometheus' text format 0.0.4."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest  # noqa: PLC0415  (see _series)
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415  (see _series)

    if meter is not None:
        meter.flush()
    if FOLDER_VARIABLE not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    collector: Any = MultiProcessCollector
    collector(registry)
    return generate_latest(registry)


def render(form: str, meter: Meter | None = None) -> tuple[bytes, str]:
    """All processes' series, and their content type.

    Args:
        form: "prometheus", or "" for the JSON of go-metrics that `bao` and older collectors read. There every
            number is a total since the start, not one of an interval.
        meter: of this process; its collected numbers are given to the library first.

    Raises:
        KmsError(INVALID): another form.
    """
    text = render_metrics(meter)
    if form == "prometheus":
        return text, CONTENT_TYPE
    if form:
        raise invalid(f'metric response format "{form}" unknown')
    return _summary(text), "application/json"


def _summary(text: bytes) -> bytes:
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415  (see _series)

    gauges: list[dict[str, Any]] = []
    counters: list[dict[str, Any]] = []
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            named = {"Name": sample.name.replace("_", ".", 1), "Labels": dict(sorted(sample.labels.items()))}
            if family.type == "counter":
                counters.append({**named, "Count": int(sample.value), "Sum": sample.value})
            else:
                gauges.append({**named, "Value": sample.value})
    now = datetime.fromtimestamp(SystemClock().now(), UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
    body = {"Timestamp": now, "Gauges": gauges, "Points": [], "Counters": counters, "Samples": []}
    return json.dumps(body).encode()


def make_folder() -> Path:
    """A private folder in memory where there is one, announced to the library; before the first fork."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  (mkdtemp makes it private)
    folder = Path(tempfile.mkdtemp(prefix="keystead-metrics-", dir=base))
    os.environ[FOLDER_VARIABLE] = str(folder)
    return folder


def remove_folder(folder: Path) -> None:
    """At the end of the supervisor."""
    shutil.rmtree(folder, ignore_errors=True)


def forget_process(pid: int) -> None:
    """Drop the gauges of a process that ended; counters stay, or sums would fall."""
    if FOLDER_VARIABLE in os.environ:
        from prometheus_client import multiprocess  # noqa: PLC0415  (see _series)

        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library is half typed


__all__ = [
    "CONTENT_TYPE",
    "Meter",
    "forget_process",
    "make_folder",
    "remove_folder",
    "render",
    "render_metrics",
]
