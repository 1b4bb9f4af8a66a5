"""Where the lines of a device go. One per device and process; safe to use from several threads.

A line is one write: several processes append to one file without cutting into each other's lines.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from kms.devices.places import Endpoint, Places
from kms.devices.web import Post
from kms.errors import invalid

TIMEOUT_SECONDS: Final = 2.0
_FACILITIES: Final = {
    name: number
    for number, name in enumerate(
        (
            *(
                "KERN",
                "USER",
                "MAIL",
                "DAEMON",
                "AUTH",
                "SYSLOG",
                "LPR",
                "NEWS",
                "UUCP",
                "CRON",
                "AUTHPRIV",
                "FTP",
            ),
            *("NTP", "AUDIT", "ALERT", "CLOCK"),
            *(f"LOCAL{number}" for number in range(8)),
        )
    )
}
_INFO: Final = 6


class Sink(Protocol):
    """Takes lines."""

    waits: bool
    """Whether a line may take longer than a write to a file."""

    def send(self, line: bytes) -> None:
        """Deliver one line. Raises OSError when it was not taken."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class FileSink:
    """Appends to a file, which is made with `mode` when it is missing."""

    waits = False

    def __init__(self, path: Path, mode: int | None) -> None:
        self._path = path
        self._mode = mode
        self._descriptor = -1
        self._lock = threading.Lock()

    def send(self, line: bytes) -> None:
        if self._descriptor < 0:
            with self._lock:
                if self._descriptor < 0:
                    self._descriptor = self._open()
        written = os.write(self._descriptor, line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes of a line were written")

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, self._mode if self._mode is not None else 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("it is not a regular file")
        if self._mode is not None:
            os.fchmod(descriptor, self._mode)
        return descriptor

    def close(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


class StandardOutput:
    """Writes to the server's standard output."""

    waits = False

    def send(self, line: bytes) -> None:
        os.write(sys.stdout.fileno(), line)

    def close(self) -> None:
        return


class Discard:
    """Takes everything and keeps nothing."""

    waits = False

    def send(self, line: bytes) -> None:
        del line

    def close(self) -> None:
        return


class SocketSink:
    """A stream or datagram socket. A connection that broke is made anew once for a line."""

    waits = True

    def __init__(self, places: Places, where: Endpoint | Path, kind: str, timeout: float) -> None:
        self._places = places
        self._where = where
        self._kind = kind
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def send(self, line: bytes) -> None:
        with self._lock:
            fresh = self._socket is None
            try:
                self._deliver(line)
            except OSError:
                self._drop()
                if fresh:
                    raise
                try:
                    self._deliver(line)
                except OSError:
                    self._drop()
                    raise

    def _deliver(self, line: bytes) -> None:
        if self._socket is None:
            self._socket = self._connect()
        if self._kind == "udp":
            self._socket.send(line)
        else:
            self._socket.sendall(line)

    def _connect(self) -> socket.socket:
        if isinstance(self._where, Path):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            target: Any = str(self._where)
        else:
            family, address = self._places.address(self._where)
            made = socket.socket(family, socket.SOCK_DGRAM if self._kind == "udp" else socket.SOCK_STREAM)
            target = address
        made.settimeout(self._timeout)
        try:
            made.connect(target)
        except OSError:
            made.close()
            raise
        return made

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        with self._lock:
            self._drop()


class Syslog:
    """The local syslog, by its datagram socket."""

    waits = True

    def __init__(self, path: Path, facility: str, tag: str) -> None:
        number = _FACILITIES.get(facility.upper())
        if number is None:
            raise invalid(f"invalid syslog facility: {facility}")
        self._path = path
        self._head = f"<{number * 8 + _INFO}>{tag}[{os.getpid()}]: ".encode()
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def send(self, line: bytes) -> None:
        with self._lock:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.settimeout(TIMEOUT_SECONDS)
            # Not connected: the daemon may be restarted at any time.
            self._socket.sendto(self._head + line.rstrip(b"\n"), str(self._path))

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


def web_sink(places: Places, uri: str, headers: str, timeout: float) -> Post:
    """A sink that POSTs each line."""
    if urlsplit(uri).scheme not in ("http", "https"):
        raise invalid("uri must begin with http:// or https://")
    return Post(places, uri, headers, timeout)
