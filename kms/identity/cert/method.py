"""Login by a client certificate; and renewal, which demands the very same one again."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import invalid
from kms.identity.cert import trust
from kms.identity.cert.crls import REFRESH, RevocationLists
from kms.identity.cert.fields import FIELDS, changed, shown
from kms.identity.cert.ocsp import Responders, Verdict
from kms.identity.cert.store import CERTS, CONFIGS, CertConfig, Trusted
from kms.identity.methods.logins import Logins, Proved, elsewhere
from kms.identity.methods.params import TokenParams
from kms.identity.methods.shelf import Shelf
from kms.identity.model import Token
from kms.identity.networks import permits
from kms.ids import check_name
from kms.operation import (
    Call,
    Caller,
    Capability,
    Change,
    Effect,
    Field,
    MountRef,
    Operation,
    Outcome,
    Record,
    Result,
    Type,
)
from kms.tables import Reader, Row, Store, Transaction

_NOBODY: Final = "invalid certificate or no client certificate supplied"
_NO_CHAIN: Final = "no chain matching all constraints could be found for this login certificate"
_CACHE_BOUNDS: Final = (2, 100_000)
Matched = tuple[str, Row[Trusted], trust.Chain]


class Certificates:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, store: Store, logins: Logins, clock: Clock) -> None:
        self._store = store
        self._logins = logins
        self._entries: Shelf[Trusted] = Shelf(
            store, CERTS, changed, shown, spelled=lambda name: check_name(name, "certificate name").lower()
        )
        self.lists = RevocationLists(store, clock)
        self._responders = Responders()

    # -- configuration -----------------------------------------------------------------------------------

    def _config(self, mount_id: str) -> CertConfig:
        row = self._store.reader().get(CONFIGS, mount_id)
        return row.value if row is not None else CertConfig()

    def read_config(self, call: Call) -> Result:
        held = self._config(call.mount.id)
        return Result(
            data={
                "disable_binding": held.disable_binding,
                "enable_identity_alias_metadata": held.enable_identity_alias_metadata,
                "ocsp_cache_size": held.ocsp_cache_size,
            }
        )

    def write_config(self, call: Call) -> Change:
        given = {name: call.args[name] for name in CertConfig.__struct_fields__ if name in call.given}
        least, most = _CACHE_BOUNDS
        if not least <= given.get("ocsp_cache_size", least) <= most:
            raise invalid(f"invalid cache size, must be >= {least} and <= {most}")

        def write(tx: Transaction) -> Result:
            row = tx.get(CONFIGS, call.mount.id)
            if row is None:
                tx.insert(CONFIGS, call.mount.id, CertConfig(**given))
            else:
                tx.replace(CONFIGS, row, replace(row.value, **given))
            return Result()

        return Change(write)

    # -- login -------------------------------------------------------------------------------------------

    def login(self, call: Call) -> Change:
        """Path, names, lists and responders first; the token in the commit that finds the entry unchanged."""
        name, row, chain = self._matched(call, call.mount.id, str(call.args.get("name") or ""))
        if not permits(row.value.token_bound_cidrs, call.peer):
            raise elsewhere()
        who = self._who(call, name, row.value, chain[0])

        def write(tx: Transaction) -> Result:
            self._entries.unchanged(tx, row)
            return self._logins.issue(tx, call, who)

        return Change(write)

    def again(self, call: Call, token: Token) -> tuple[str, ...] | None:
        """Before a renewal: the certificate of the login is shown again, and is as good as it was.

        Raises:
            KmsError(INVALID): it is not, or another one is shown (CVE-2026-39388).
        """
        mount_id, _, name = token.login.partition("/")
        if self._config(mount_id).disable_binding:
            return None
        _, _, chain = self._matched(call, mount_id, name)
        if _fingerprint(chain[0]) != token.proof:
            raise invalid("client identity during renewal not matching client identity used during login")
        return None

    def _matched(self, call: Call, mount_id: str, wanted: str) -> Matched:
        """The first entry that trusts what the client shows. Raises KmsError(INVALID)."""
        shown_chain = trust.presented(call.unverified_chain)
        entries = self._entries.all(mount_id)
        if wanted:
            wanted = check_name(wanted, "certificate name").lower()
            entries = [(name, row) for name, row in entries if name == wanted]
        size = self._config(mount_id).ocsp_cache_size
        trusted, doubts = False, False
        for name, row in entries:
            chain = trust.path(row.value, shown_chain, call.now)
            if chain is None:
                continue
            trusted = True
            if not trust.constraints(row.value, chain[0]) or self.lists.revoked(mount_id, chain):
                continue
            verdict = self._ocsp(row.value, chain, call.now, size)
            if verdict is Verdict.GOOD:
                return name, row, chain
            doubts = doubts or verdict is Verdict.UNKNOWN
        if not trusted:
            raise invalid(_NOBODY)
        raise invalid(f"{_NO_CHAIN}; additionally no OCSP responder vouched for it" if doubts else _NO_CHAIN)

    def _ocsp(self, entry: Trusted, chain: trust.Chain, now: float, size: int) -> Verdict:
        if not entry.ocsp_enabled:
            return Verdict.GOOD
        issuer = trust.issuer_of(entry, chain)
        verdict = Verdict.UNKNOWN
        if issuer is not None:
            verdict = self._responders.verdict(entry, chain[0], issuer, now, size)
        return Verdict.GOOD if verdict is Verdict.UNKNOWN and entry.ocsp_fail_open else verdict

    def _who(self, call: Call, name: str, entry: Trusted, leaf: x509.Certificate) -> Proved:
        about = {
            "cert_name": name,
            "common_name": trust.common_name(leaf),
            "serial_number": str(leaf.serial_number),
            "subject_key_id": trust.key_id(leaf, x509.SubjectKeyIdentifier),
            "authority_key_id": trust.key_id(leaf, x509.AuthorityKeyIdentifier),
        }
        texts = trust.extension_texts(leaf)
        about |= {
            oid.replace(".", "-"): texts[oid] for oid in entry.allowed_metadata_extensions if oid in texts
        }
        mount = call.mount.path.removeprefix("auth/").strip("/").replace("/", "-")
        tells = self._config(call.mount.id).enable_identity_alias_metadata
        return Proved(
            name,
            entry,
            about,
            f"{mount}-{entry.display_name or name}"[:256],
            alias=about["common_name"],
            alias_metadata=about if tells else {},
            proof=_fingerprint(leaf),
        )

    # -- the mount ---------------------------------------------------------------------------------------

    def params_of(self, reader: Reader, mount: MountRef, name: str) -> TokenParams | None:
        """For renewals (`Logins`)."""
        row = self._entries.row(reader, mount, name)
        return row.value if row is not None else None

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Delete what a mount that is being removed holds, and end its tokens; how many entries."""
        self._logins.retire_mount(tx, mount_id)
        config = tx.get(CONFIGS, mount_id)
        if config is not None:
            tx.delete(CONFIGS, config)
        self.lists.retire(tx, mount_id)
        return self._entries.retire(tx, mount_id)

    def table(self) -> list[Operation]:
        """The operations of the method."""
        update, state = Capability.UPDATE, Effect.STATE
        name = Field("name", record=Record.CLEAR)
        config = (
            Field("disable_binding", Type.BOOL, record=Record.CLEAR),
            Field("enable_identity_alias_metadata", Type.BOOL, record=Record.CLEAR),
            Field("ocsp_cache_size", Type.INT, record=Record.CLEAR),
        )
        lists = (name, Field("crl"), Field("url", record=Record.CLEAR))
        return [
            Operation("cert.config.read", Capability.READ, self.read_config),
            Operation("cert.config.write", update, self.write_config, effect=state, fields=config),
            *self._entries.operations("cert.certs", FIELDS, creates=False),
            Operation("cert.crls.list", Capability.LIST, self.lists.listing),
            Operation("cert.crls.read", Capability.READ, self.lists.read, fields=(name,)),
            Operation("cert.crls.write", update, self.lists.write, effect=state, fields=lists),
            Operation("cert.crls.delete", Capability.DELETE, self.lists.delete, effect=state, fields=(name,)),
            Operation(REFRESH, update, _not_by_request, effect=state),
            Operation("cert.login", update, self.login, effect=state, caller=Caller.PROOF, fields=(name,)),
        ]


def _not_by_request(_call: Call) -> Outcome:
    raise invalid("lists are renewed by the server itself")


def _fingerprint(certificate: x509.Certificate) -> str:
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
