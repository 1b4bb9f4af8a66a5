"""The enabled devices of one process, and what a request must pass while there are any.

    (1) the request is offered to every device before anything is done; one must take it
    (2) the answer is offered to every device before it leaves; one must take it

When none takes (1), nothing happens; when none takes (2), what was done stays done and the answer is withheld, as
on the real server. Either is a 503 here. A device that fails while another takes the line is named in the operator
log. Each process has files and connections of its own; a restart of the workers (SIGHUP) opens them anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from kms.audit.tally import WINDOW_SECONDS, RefusalLimiter
from kms.clock import Clock
from kms.devices.entries import Kept, Known, Writer
from kms.devices.making import Maker
from kms.devices.model import AUDIT_DEVICES, AUDITED_HEADERS, AuditDevice, form_of
from kms.devices.sinks import Sink
from kms.errors import ErrorKind, KmsError
from kms.operation import ANONYMOUS, Call, Caller, Evidence, Needs, Result
from kms.oplog import OperatorLog
from kms.tables import Store

_Headers = dict[bytes, bool]
MENDING = "sys.audit.disable"
"""Goes on though no device takes it: else a dead collector could not be disabled. The evidence has it all the same."""


@dataclass(frozen=True)
class Running:
    """One enabled device of this process."""

    path: str
    row: AuditDevice
    writer: Writer
    sink: Sink


class Devices:
    """All of them, kept current through announcements. Safe to use from several threads.

    Args:
        readable: whether sealed rows can be read.
        kept: what the mount of a call keeps in clear.
    """

    def __init__(
        self,
        store: Store,
        maker: Maker,
        clock: Clock,
        readable: Callable[[], bool],
        kept: Callable[[str], Kept],
    ) -> None:
        self.maker = maker
        self._store = store
        self._clock = clock
        self._readable = readable
        self._kept = kept
        self._log = OperatorLog(clock, role="worker")
        self._running: tuple[Running, ...] = ()
        self._headers: _Headers = {}
        self._known = False
        self._epoch = 0
        self._lock = threading.Lock()
        self._strangers = RefusalLimiter()
        self._window = clock.monotonic()
        store.watch(AUDIT_DEVICES, self)
        store.watch(AUDITED_HEADERS, self)

    # -- what is enabled --------------------------------------------------------------------------------

    def drop(self, _key: str) -> None:
        """A row changed (kms.tables.CacheListener)."""
        self.clear()

    def clear(self) -> None:
        """Look again (kms.tables.CacheListener)."""
        self._epoch += 1
        self._known = False

    def running(self) -> tuple[Running, ...]:
        """The enabled devices; nothing but an attribute is looked at while nothing changes."""
        if self._known:
            return self._running
        if not self._readable():
            return ()
        with self._lock:
            before = self._epoch
            reader = self._store.reader()
            held = {one.path: one for one in self._running}
            found = [
                held[row.key]
                if row.key in held and held[row.key].row == row.value
                else self._open(row.key, row.value)
                for row in reader.scan(AUDIT_DEVICES)
            ]
            for one in self._running:
                if one not in found:
                    one.sink.close()
            headers = {row.key.encode("ascii"): row.value.hmac for row in reader.scan(AUDITED_HEADERS)}
            self._running, self._headers = tuple(found), headers if found else {}
            self._known = self._epoch == before
        return self._running

    def _open(self, path: str, row: AuditDevice) -> Running:
        return Running(
            path, row, Writer(row.key, form_of(row.options)), self.maker.sink(row.type, row.options)
        )

    @property
    def waits(self) -> bool:
        """Whether a line may take long: such calls do not belong on an event loop. Of the devices that `headers` saw."""
        return any(one.sink.waits for one in self._running)

    @property
    def headers(self) -> _Headers:
        """Request headers that devices keep, in lower case -> whether as HMACs; as of the last `Store.refresh`."""
        self.running()
        return self._headers

    # -- what passes ------------------------------------------------------------------------------------

    def witness(self, call: Call) -> Witnesses | None:
        """What this call must be told to, or None."""
        operation = call.operation
        if operation.evidence is Evidence.COUNTED or operation.needs is Needs.NOTHING:
            return None
        running = self.running()
        return Witnesses(self, running, call) if running else None

    def admits(self, peer: str) -> bool:
        """Whether a refusal of somebody unknown is written: no anonymous caller can fill a disk."""
        now = self._clock.monotonic()
        if now - self._window >= WINDOW_SECONDS:
            self._window = now
            self._strangers.take()
        return self._strangers.admit(peer)

    def offer(self, running: tuple[Running, ...], call: Call, line: Callable[[Writer], bytes]) -> None:
        """Have every device take a line; one must.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): none did.
        """
        taken = False
        for one in running:
            try:
                one.sink.send(line(one.writer))
                taken = True
            except OSError as error:
                detail = f"audit device {one.path}: {error.strerror or error}"
                self._log.write("error", "audit_device_failed", detail=detail)
        if not taken and call.operation.name != MENDING:
            raise KmsError(ErrorKind.AUDIT_UNAVAILABLE, "no audit device could take a line")

    def kept(self, mount_path: str) -> Kept:
        """What this mount keeps in clear."""
        return self._kept(mount_path)

    def now(self) -> float:
        """Unix seconds."""
        return self._clock.now()

    def close(self) -> None:
        """Let go of everything."""
        for one in self._running:
            one.sink.close()


class Witnesses:
    """The devices as they were when a call came, for its request and its answer."""

    def __init__(self, devices: Devices, running: tuple[Running, ...], call: Call) -> None:
        self._devices = devices
        self._running = running
        self._call = call
        self._silent = False
        self._told: dict[Writer, Known] = {}

    def request(self, rule: str) -> None:
        """Before anything is done."""
        call, devices = self._call, self._devices
        if call.operation.caller is Caller.PUBLIC and not devices.admits(call.peer):
            self._silent = True
            return
        now = devices.now()
        devices.offer(self._running, call, lambda writer: writer.request(self._known(writer, rule), now))

    def refused(self, error: KmsError) -> None:
        """Who or what it was is not accepted; nothing was done."""
        call, devices = self._call, self._devices
        if call.principal is ANONYMOUS and not devices.admits(call.peer):
            return
        now = devices.now()
        devices.offer(
            self._running, call, lambda writer: writer.request(self._known(writer, ""), now, error.detail)
        )
        self.answer("", None, error.detail)

    def answer(self, rule: str, result: Result | None, error: str = "") -> None:
        """Before the answer leaves."""
        call, devices = self._call, self._devices
        if self._silent:
            return
        kept, now = devices.kept(call.mount.path), devices.now()

        def line(writer: Writer) -> bytes:
            return writer.response(self._known(writer, rule), call, now, kept, result, error)

        devices.offer(self._running, call, line)

    def _known(self, writer: Writer, rule: str) -> Known:
        """Made once for both lines, unless a login has told meanwhile who it is."""
        known = self._told.get(writer)
        if known is None or known.principal is not self._call.principal:
            kept = self._devices.kept(self._call.mount.path)
            known = self._told[writer] = writer.known(self._call, rule, kept)
        return known
