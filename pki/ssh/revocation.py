"""Revoking, the KRL, and what was issued and revoked."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.listing import listed, page
from pki.model import DAY
from pki.ssh import krl, ledger
from pki.ssh.authorities import SshAuthorities
from pki.ssh.model import DEFAULT, NEVER, SERIAL_DIGITS, By, SshCertificate, SshRevocation, wire_serial
from pki.ssh.store import CERTIFICATES, REVOCATIONS, mount_config
from pki.ssh.wire import parse_public_key

KRL_TYPE = "application/octet-stream"
_SERIAL = re.compile(r"[0-9a-f]{1,16}\Z")
_MAX_KEY_ID = 1024
_TIDY_BATCH = 10_000


def parse_serial(text: str) -> str:
    """Storage form of a serial number in hex. Raises KmsError(INVALID)."""
    plain = text.strip().lower()
    if not _SERIAL.match(plain) or int(plain, 16) == 0:
        raise invalid("serial_number must be the hexadecimal number of a certificate, as sign answered it")
    return plain.zfill(SERIAL_DIGITS)


@dataclass(frozen=True)
class SshRevocations:
    """One per process."""

    store: Store
    authorities: SshAuthorities
    # mount -> (KRL version, bytes): rendering reads all rows, so once for each change in each process.
    _rendered: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def revoke(self, call: Call) -> Change:
        """Exactly one of serial_number, key_id, public_key and fingerprint. Idempotent."""
        ways = {
            "serial_number": self._by_serial,
            "key_id": self._by_key_id,
            "public_key": self._by_key,
            "fingerprint": self._by_fingerprint,
        }
        given = [name for name in ways if call.args[name]]
        if len(given) != 1:
            raise invalid(f"give exactly one of {', '.join(ways)}")
        revocation = ways[given[0]](call)
        now = int(call.now)

        def write(tx: Transaction) -> Result:
            self._apply(tx, revocation, now)
            config = mount_config(tx, call.mount.id)
            subject: dict[str, str | int] = {"by": revocation.by, "krl_version": config.krl_version}
            if revocation.by == By.SERIAL:
                subject["serial"] = revocation.value
            data = {"krl_version": config.krl_version, "revocation_time": now}
            return Result(data=data, subject=subject)

        return Change(write)

    def _apply(self, tx: Transaction, revocation: SshRevocation, now: int) -> None:
        if revocation.by == By.SERIAL:
            row = tx.get(CERTIFICATES, ledger.certificate_key(revocation.mount_id, revocation.value))
            if row is not None and row.value.issuer_id == revocation.issuer_id:
                if not row.value.revoked_at:
                    ledger.revoke_serial(tx, row, revocation.ca, now)
                return
        ledger.revoke(tx, revocation, now)

    def _by_serial(self, call: Call) -> SshRevocation:
        """One that is on record knows its issuer; any other needs to be told which."""
        serial = parse_serial(str(call.args["serial_number"]))
        row = self.store.reader().get(CERTIFICATES, ledger.certificate_key(call.mount.id, serial))
        if row is None and "issuer_ref" not in call.given:
            raise KmsError(
                ErrorKind.NOT_FOUND,
                f"no certificate {wire_serial(serial)} is on record here; to revoke it nevertheless, name issuer_ref",
            )
        ref = row.value.issuer_id if row is not None else str(call.args["issuer_ref"])
        return self._of_issuer(call, By.SERIAL, serial, ref, row.value if row is not None else None)

    def _by_key_id(self, call: Call) -> SshRevocation:
        value = str(call.args["key_id"])
        if len(value) > _MAX_KEY_ID:
            raise invalid(f"a key_id has at most {_MAX_KEY_ID} characters")
        return self._of_issuer(call, By.KEY_ID, value, str(call.args["issuer_ref"]), None)

    def _of_issuer(
        self, call: Call, by: By, value: str, ref: str, known: SshCertificate | None
    ) -> SshRevocation:
        issuer = self.authorities.issuer(call.mount.id, ref or DEFAULT)
        return SshRevocation(
            mount_id=call.mount.id,
            by=by,
            value=value,
            revoked_at=int(call.now),
            issuer_id=issuer.id,
            ca=issuer.public_key,
            valid_before=known.valid_before if known is not None else NEVER,
        )

    def _by_key(self, call: Call) -> SshRevocation:
        value = base64.b64encode(parse_public_key(str(call.args["public_key"])).blob).decode("ascii")
        return SshRevocation(mount_id=call.mount.id, by=By.KEY, value=value, revoked_at=int(call.now))

    def _by_fingerprint(self, call: Call) -> SshRevocation:
        text = str(call.args["fingerprint"]).removeprefix("SHA256:")
        try:
            digest = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:  # of base64, or of its text
            digest = b""
        if len(digest) != 32:
            raise invalid("fingerprint must be SHA256:... as ssh-keygen -l shows it")
        return SshRevocation(
            mount_id=call.mount.id, by=By.FINGERPRINT, value=digest.hex(), revoked_at=int(call.now)
        )

    # -- public --------------------------------------------------------------------------------------

    def krl(self, call: Call) -> Result:
        """The current list."""
        config = self.authorities.config(call.mount.id)
        known = self._rendered.get(call.mount.id)
        if known is None or known[0] != config.krl_version:
            rows = ledger.revocations(self.store.reader(), call.mount.id)
            known = (config.krl_version, krl.render(config.krl_version, config.krl_time, rows))
            self._rendered[call.mount.id] = known
        return Result(raw=(known[1], KRL_TYPE))

    # -- looking -------------------------------------------------------------------------------------

    def certificate(self, call: Call) -> Result:
        """One certificate and what became of it."""
        serial = parse_serial(str(call.args["serial"]))
        row = self.store.reader().get(CERTIFICATES, ledger.certificate_key(call.mount.id, serial))
        if row is None:
            raise not_found()
        return Result(data=_certificate_data(row.value))

    def list(self, call: Call) -> Result:
        """Serial numbers of all certificates on record."""
        after = str(call.args.get("after") or "")
        args = {**call.args, "after": parse_serial(after) if after else ""}
        found = page(self.store.reader(), CERTIFICATES, f"{call.mount.id}/", args)
        return listed([wire_serial(serial) for serial in found])

    def revoked(self, call: Call) -> Result:
        """What the KRL holds."""
        rows = ledger.revocations(self.store.reader(), call.mount.id)
        info: dict[str, dict[str, Any]] = {}
        for row in sorted(rows, key=lambda row: (row.by, row.value)):
            value = wire_serial(row.value) if row.by == By.SERIAL else row.value
            info[value] = {"by": row.by, "issuer_id": row.issuer_id, "revocation_time": row.revoked_at}
        return listed(list(info), key_info=info)

    # -- tidying -------------------------------------------------------------------------------------

    def tidy(self, call: Call) -> Change:
        """Forget certificates, and revocations of them, that ended more than `safety_buffer` ago."""
        until = int(call.now) - int(call.args["safety_buffer"] or 3 * DAY)

        def write(tx: Transaction) -> Result:
            where = {"mount_id": call.mount.id}
            below = ("valid_before", float(until))
            certificates = tx.find(CERTIFICATES, where, below=below, limit=_TIDY_BATCH)
            for row in certificates:
                tx.delete(CERTIFICATES, row)
            ended = tx.find(REVOCATIONS, where, below=below, limit=_TIDY_BATCH)
            for revocation in ended:
                tx.delete(REVOCATIONS, revocation)
            if ended:
                ledger.changed(tx, call.mount.id, int(call.now))
            data = {"certificates_deleted": len(certificates), "revocations_deleted": len(ended)}
            return Result(data=data, items=len(certificates) + len(ended))

        return Change(write)


def _certificate_data(certificate: SshCertificate) -> dict[str, Any]:
    return {
        "serial_number": wire_serial(certificate.serial),
        "signed_key": f"{certificate.certificate}\n" if certificate.certificate else "",
        "issuer_id": certificate.issuer_id,
        "state": certificate.state,
        "role": certificate.role,
        "cert_type": certificate.kind,
        "key_id": certificate.key_id,
        "valid_principals": list(certificate.principals),
        "valid_after": certificate.valid_after,
        "valid_before": certificate.valid_before,
        "revocation_time": certificate.revoked_at,
    }
