"""Revocation lists: given by the operator, or fetched from a distribution point and fetched again when they end.

A list counts for certificates of its own issuer only. One that is fetched must be signed by an authority that is trusted at this
mount, because plain HTTP is the custom there. A list that cannot be renewed stays as it is: nobody is unrevoked.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.cert.store import CERTS, LISTS, RevocationList
from kms.identity.cert.trust import Chain, certificates
from kms.identity.model import NEVER
from kms.identity.outward import UnreachableError, ask, check_signed_url, trusting
from kms.ids import check_name
from kms.operation import Call, Change, Result
from kms.tables import Cache, Reader, Row, Store, Transaction

MAX_BYTES: Final = 32 * 1024 * 1024
REFRESH: Final = "cert.crl.refresh"
_AGAIN_SECONDS: Final = 3600.0  # for lists that do not say when they end, and between two tries
_CACHED: Final = 64
_AT_ONCE: Final = 20

Record = Callable[[str, str, Change], None]
"""Records and commits a change of background work: (registered operation, resource, change)."""


class RevocationLists:
    """Handlers, and the periodic work. One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._cache = Cache(store, LISTS, _CACHED)
        self._fetching = threading.Lock()

    def revoked(self, mount_id: str, chain: Chain) -> bool:
        """Whether a list of the mount names a certificate of the chain."""
        for key in self._store.reader().keys(LISTS, f"{mount_id}/"):
            row = self._cache.get(key)
            if row is not None and any(_named(row.value, each) for each in chain):
                return True
        return False

    # -- handlers ----------------------------------------------------------------------------------------

    def listing(self, call: Call) -> Result:
        prefix = f"{call.mount.id}/"
        names = [key.removeprefix(prefix) for key in self._store.reader().keys(LISTS, prefix)]
        if not names:
            raise KmsError(ErrorKind.NOT_FOUND, "")
        return Result(data={"keys": names})

    def read(self, call: Call) -> Result:
        held = self._row(self._store.reader(), call).value
        data: dict[str, Any] = {"serials": {serial: {} for serial in sorted(held.serials, key=int)}}
        if held.url:
            data["cdp"] = {"url": held.url, "valid_until": _rfc3339(held.valid_until)}
        return Result(data=data)

    def write(self, call: Call) -> Change:
        """A list as it is given, or as it is fetched now: outside the transaction."""
        if "crl" in call.given:
            made = _kept(_parsed(_der(str(call.args["crl"] or ""))), "", NEVER)
        elif "url" in call.given:
            url = str(call.args["url"] or "")
            if not url:
                raise invalid("empty CRL url")
            made = self._fetched(call.mount.id, url)
        else:
            raise invalid("one of 'crl' or 'url' must be provided")

        def write(tx: Transaction) -> Result:
            row = tx.get(LISTS, _key(call))
            if row is None:
                tx.insert(LISTS, _key(call), made)
            else:
                tx.replace(LISTS, row, made)
            return Result(subject={"crl": _name(call), "serials": len(made.serials)})

        return Change(write)

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            tx.delete(LISTS, self._row(tx, call))
            return Result(subject={"crl": _name(call)})

        return Change(write)

    def retire(self, tx: Transaction, mount_id: str) -> None:
        """Delete all lists of a mount that is being removed."""
        for row in tx.scan(LISTS, f"{mount_id}/"):
            tx.delete(LISTS, row)

    def _row(self, reader: Reader, call: Call) -> Row[RevocationList]:
        row = reader.get(LISTS, _key(call))
        if row is None:
            raise invalid(f"no such CRL {_name(call)}")
        return row

    # -- fetching ----------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether a list that was fetched has ended."""
        return bool(self._ended(1))

    def refresh(self, record: Record) -> None:
        """Fetch what has ended, in a thread: other servers may take their time."""
        threading.Thread(target=self._refresh, args=(record,), daemon=True).start()

    def _refresh(self, record: Record) -> None:
        if not self._fetching.acquire(blocking=False):
            return
        try:
            for row in self._ended(_AT_ONCE):
                self._again(row, record)
        finally:
            self._fetching.release()

    def _again(self, row: Row[RevocationList], record: Record) -> None:
        try:
            fresh = self._fetched(row.key.partition("/")[0], row.value.url)
        except KmsError:
            # Not asked again at each round; the list that is there goes on counting.
            fresh = RevocationList(
                issuer=row.value.issuer,
                serials=row.value.serials,
                url=row.value.url,
                valid_until=self._clock.now() + _AGAIN_SECONDS / 60,
            )

        def write(tx: Transaction) -> Result:
            tx.replace(LISTS, row, fresh)
            return Result(subject={"crl": row.key.partition("/")[2], "serials": len(fresh.serials)})

        try:
            record(REFRESH, row.key, Change(write))
        except KmsError as error:
            if error.kind is not ErrorKind.CONFLICT:  # an operator was first
                raise

    def _ended(self, limit: int) -> list[Row[RevocationList]]:
        below = ("valid_until", self._clock.now())
        return self._store.reader().find(LISTS, {}, below=below, limit=limit)

    def _fetched(self, mount_id: str, url: str) -> RevocationList:
        """The list that is at a URL now. Raises KmsError(INVALID)."""
        check_signed_url(url)
        try:
            answer = ask(
                url, context=trusting(""), headers={"Accept": "application/pkix-crl"}, most=MAX_BYTES
            )
        except UnreachableError as error:
            raise invalid(f"unexpected response while fetching the CRL: {error}") from None
        if answer.status != HTTPStatus.OK:
            raise invalid(f"unexpected response code {answer.status} fetching CRL from {url}")
        crl = _parsed(answer.body)
        if not self._signed(mount_id, crl):
            raise invalid(
                "the CRL is signed by nobody who is trusted at this mount: write its authority to certs/ first, or"
                " the list itself to 'crl'"
            )
        ends = crl.next_update_utc
        until = ends.timestamp() if ends is not None else self._clock.now() + _AGAIN_SECONDS
        return _kept(crl, url, max(until, self._clock.now() + 60.0))

    def _signed(self, mount_id: str, crl: x509.CertificateRevocationList) -> bool:
        for row in self._store.reader().scan(CERTS, f"{mount_id}/"):
            for authority in certificates(row.value.certificate):
                if authority.subject == crl.issuer and _verifies(crl, authority):
                    return True
        return False


def _verifies(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # others raise TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _named(held: RevocationList, certificate: x509.Certificate) -> bool:
    return str(certificate.serial_number) in held.serials and held.issuer == certificate.issuer.public_bytes()


def _kept(crl: x509.CertificateRevocationList, url: str, until: float) -> RevocationList:
    serials = frozenset(str(each.serial_number) for each in crl)
    return RevocationList(issuer=crl.issuer.public_bytes(), serials=serials, url=url, valid_until=until)


def _der(text: str) -> bytes:
    raw = text.strip().encode("utf-8", "surrogatepass")
    if b"-----BEGIN X509 CRL-----" in raw:
        body = raw.partition(b"-----BEGIN X509 CRL-----")[2].partition(b"-----END X509 CRL-----")[0]
        raw = b"".join(body.split())
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error:
        raise invalid("failed to parse CRL: PEM, or DER in base64, is expected") from None


def _parsed(der: bytes) -> x509.CertificateRevocationList:
    try:
        if der.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_crl(der)
        return x509.load_der_x509_crl(der)
    except ValueError:
        raise invalid("failed to parse CRL") from None


def _rfc3339(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _name(call: Call) -> str:
    return check_name(str(call.args["name"]), "CRL name").lower()


def _key(call: Call) -> str:
    return f"{call.mount.id}/{_name(call)}"
