"""From the type and options of a device to what takes its lines, within the operator's bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kms.config.devices import AuditDevicesConfig
from kms.devices.model import Form, form_of
from kms.devices.places import Places
from kms.devices.sinks import (
    TIMEOUT_SECONDS,
    Discard,
    FileSink,
    Sink,
    SocketSink,
    StandardOutput,
    Syslog,
    web_sink,
)
from kms.durations import seconds
from kms.errors import invalid

_MAX_TIMEOUT: Final = 10
_FORBIDDEN_BITS: Final = 0o7133
"""A log is not executed, not written by others, and has no special bits."""


class Maker:
    """Makes sinks.

    Args:
        config: the operator's bounds.
    """

    def __init__(self, config: AuditDevicesConfig) -> None:
        self._config = config
        self._places = Places(config)

    def form(self, options: Mapping[str, str]) -> Form:
        """How a device writes.

        Raises:
            KmsError(INVALID): not possible, or not allowed by the configuration.
        """
        form = form_of(options)
        if form.raw and not self._config.allow_raw:
            raise invalid("log_raw would write secrets in clear; the configuration does not allow it")
        if form.prefix and not self._config.allow_prefix:
            raise invalid("audit log prefixing is not allowed by the configuration")
        return form

    def sink(self, kind: str, options: Mapping[str, str]) -> Sink:
        """What takes the lines.

        Raises:
            KmsError(INVALID): not possible, or not allowed by the configuration.
        """
        if kind == "file":
            return self._file(options)
        if kind == "socket":
            return self._socket(options)
        if kind == "syslog":
            return Syslog(
                self._config.syslog, options.get("facility") or "AUTH", options.get("tag") or "keystead"
            )
        if kind == "http":
            uri = options.get("uri", "")
            if not uri:
                raise invalid("uri is required")
            return web_sink(self._places, uri, options.get("headers", ""), _timeout(options))
        raise invalid(f'unknown backend type: "{kind}"')

    def _file(self, options: Mapping[str, str]) -> Sink:
        path = options.get("file_path") or options.get("path") or ""
        if not path:
            raise invalid("file_path is required")
        if path == "discard":
            return Discard()
        if path == "stdout":
            return StandardOutput()
        return FileSink(self._places.file(path), _mode(options.get("mode", "")))

    def _socket(self, options: Mapping[str, str]) -> Sink:
        address, kind = options.get("address", ""), options.get("socket_type") or "tcp"
        if not address:
            raise invalid("address is required")
        if kind == "unix":
            return SocketSink(self._places, self._places.file(address), kind, _timeout(options))
        if kind not in ("tcp", "udp"):
            raise invalid("socket_type must be tcp, udp or unix")
        return SocketSink(self._places, self._places.endpoint(address), kind, _timeout(options))


def _mode(text: str) -> int | None:
    """None leaves an existing file's mode alone."""
    if text in ("0000", "0"):
        return None
    if not text:
        return 0o600
    try:
        mode = int(text, 8)
    except ValueError:
        raise invalid(f'mode {text!r} is not octal, like "0600"') from None
    if mode & _FORBIDDEN_BITS or not mode & 0o200 or mode > 0o777:
        raise invalid("mode: an audit log is never executable, and nobody but this server writes it")
    return mode


def _timeout(options: Mapping[str, str]) -> float:
    text = options.get("write_timeout", "")
    if not text:
        return TIMEOUT_SECONDS
    try:
        wanted = seconds(text)
    except ValueError as error:
        raise invalid(f"write_timeout: {error}") from None
    if not 0 < wanted <= _MAX_TIMEOUT:
        raise invalid(f"write_timeout must be 1 to {_MAX_TIMEOUT} seconds")
    return float(wanted)
