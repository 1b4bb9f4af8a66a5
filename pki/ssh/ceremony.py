"""Making a CA: a key born in the HSM, or one that an operator brings along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.errors import ErrorKind, KmsError, integrity, invalid
from kms.hsm import KeySpec, Purpose
from kms.ids import CkaId, new_cka_id, new_uuid
from kms.operation import Call, Change, External, Result
from kms.tables import Store, Transaction
from pki import goodkey
from pki.cakeys import NewKey, key_intent
from pki.goodkey import Blocklist, spki_hash
from pki.hsmkey import CaToken
from pki.issuers import NAME
from pki.model import CaKey, KeyState
from pki.ssh.model import DEFAULT, SshIssuer
from pki.ssh.signers import load_private
from pki.ssh.store import ISSUERS, MOUNTS, issuers, mount_config
from pki.ssh.wire import PublicKey, of_key, parse_public_key
from pki.store import KEYS, put

EXISTS = "An issuer with the provided public key already exists, returning the existing issuer"
_RSA = {0: KeySpec.RSA_4096, 2048: KeySpec.RSA_2048, 3072: KeySpec.RSA_3072, 4096: KeySpec.RSA_4096}
_EC = {0: KeySpec.EC_P256, 256: KeySpec.EC_P256, 384: KeySpec.EC_P384, 521: KeySpec.EC_P521}
_CURVES = {
    "ecdsa-sha2-nistp256": KeySpec.EC_P256,
    "ecdsa-sha2-nistp384": KeySpec.EC_P384,
    "ecdsa-sha2-nistp521": KeySpec.EC_P521,
}


def ca_spec(key_type: str, bits: int) -> KeySpec:
    """The HSM's name for what the API calls key_type and key_bits (0: the default).

    Raises:
        KmsError(INVALID): not one of the CA key types.
    """
    if key_type in _CURVES:
        return _CURVES[key_type]
    if key_type in {"ssh-ed25519", "ed25519"}:
        return KeySpec.ED25519
    sizes = {"ssh-rsa": _RSA, "rsa": _RSA, "ec": _EC}.get(key_type)
    if sizes is None:
        raise invalid(f"unknown ssh key pair algorithm: {key_type}")
    if bits not in sizes:
        if key_type == "ec":
            raise invalid(f"unknown ECDSA key pair algorithm and bits: {key_type} / {bits}")
        raise invalid(f"refusing to generate {key_type} key: {bits} bits; use 2048, 3072 or 4096")
    return sizes[bits]


def check_name(known: list[SshIssuer], name: str) -> None:
    """Refuse a name that is reserved, malformed or taken.

    Raises:
        KmsError(INVALID): in the peer's words.
    """
    if not name:
        raise invalid("expected non-empty issuer name")
    if name.lower() == DEFAULT:
        raise invalid(f"reserved keyword '{DEFAULT}' can not be used as issuer name")
    if not NAME.match(name):
        raise invalid("issuer name contained invalid characters")
    if any(name in {issuer.name, issuer.id} for issuer in known):
        raise invalid("issuer name already in use")


def issuer_data(issuer: SshIssuer) -> dict[str, Any]:
    """As the API shows it."""
    line = f"{issuer.public_key}\n"
    return {"issuer_id": issuer.id, "issuer_name": issuer.name, "public_key": line}


@dataclass(frozen=True)
class SshCeremonies:
    """One per process.

    Args:
        demand: "hsm" when no key may be a software one.
    """

    store: Store
    token: CaToken
    blocklist: Blocklist
    demand: str

    def default_ca(self, call: Call) -> External[tuple[bytes, PublicKey]] | Change:
        """POST config/ca: a CA that becomes the default."""
        return self._make(call, "", default=True)

    def issuer(self, call: Call) -> External[tuple[bytes, PublicKey]] | Change:
        """POST issuers/import: one more; the first is the default whatever it says."""
        name = str(call.args["issuer_name"] or "").strip()
        if "issuer_name" in call.given:
            check_name(issuers(self.store.reader(), call.mount.id), name)
        return self._make(call, name, default=bool(call.args["set_default"]))

    def _make(self, call: Call, name: str, *, default: bool) -> External[tuple[bytes, PublicKey]] | Change:
        if not _generates(call.args, call.given):
            return self._import(call, name, default=default)
        spec = ca_spec(str(call.args["key_type"]), int(call.args["key_bits"]))
        key = CaKey(
            id=new_uuid(),
            name=name,
            spec=spec,
            cka_id=bytes(new_cka_id()),
            state=KeyState.PLANNED,
            created_at=int(call.now),
        )
        act = IssuerAct(NewKey(self.token, call.mount.id, key), name, default)
        return External(key_intent(act.new), act.begin, act.perform, act.conclude, act.abandon)

    def _import(self, call: Call, name: str, *, default: bool) -> Change:
        issuer = self._imported(call, name)

        def write(tx: Transaction) -> Result:
            known = issuers(tx, call.mount.id)
            same = next((one for one in known if one.public_key == issuer.public_key), None)
            if same is not None:
                if default:
                    set_default(tx, call.mount.id, same.id)
                return Result(data=issuer_data(same), warnings=(EXISTS,))
            install(tx, call.mount.id, issuer, default=default)
            return Result(data=issuer_data(issuer), subject={"issuer": issuer.id, "protection": "software"})

        return Change(write)

    def _imported(self, call: Call, name: str) -> SshIssuer:
        if self.demand == "hsm":
            raise invalid(
                "keys.protection demands keys born in the HSM: leave private_key out to make one there"
            )
        try:
            public = parse_public_key(str(call.args["public_key"]))
        except KmsError as error:
            raise invalid(f"could not parse public_key provided value: {error.detail}") from None
        private = str(call.args["private_key"])
        if load_private(private).public_key() != public.key or of_key(public.key).kind != public.kind:
            raise invalid("private_key and public_key do not belong together")
        goodkey.check(public.key, self.blocklist, lambda _: False)
        return SshIssuer(
            id=new_uuid(),
            name=name,
            public_key=public.line,
            created_at=int(call.now),
            private=private.encode("ascii"),
        )


def _generates(args: Mapping[str, Any], given: frozenset[str]) -> bool:
    """Whether a key is to be made. Raises KmsError(INVALID) for half a pair."""
    public, private = bool(args["public_key"]), bool(args["private_key"])
    asked = "generate_signing_key" in given
    if asked and args["generate_signing_key"]:
        if public or private:
            raise invalid(
                "public_key and private_key must not be set when generate_signing_key is set to true"
            )
        return True
    if public and private:
        return False
    if not public and not private:
        if asked:
            raise invalid("missing public_key")
        return True
    raise invalid(
        "only one of public_key and private_key set; both must be set to use, or both must be blank to auto-generate"
    )


@dataclass
class IssuerAct:
    """The steps of one CA whose key is born in the HSM."""

    new: NewKey
    name: str
    default: bool
    issuer_id: str = field(default_factory=new_uuid)

    def begin(self, tx: Transaction) -> None:
        self.new.plan(tx)

    def perform(self) -> tuple[bytes, PublicKey]:
        """SPKI, and the key in SSH's form."""
        key = self.new.key
        try:
            spki = self.new.token.generate(
                Purpose.CA_SIGN, KeySpec(key.spec), CkaId(key.cka_id), self.new.label
            )
            public = load_der_public_key(spki)
            if not isinstance(
                public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
            ):
                raise integrity("the HSM made a key of another type than asked for")
            return spki, of_key(public)
        except KmsError:
            self.new.discard()
            raise

    def conclude(self, tx: Transaction, made: tuple[bytes, PublicKey]) -> Result:
        spki, public = made
        mount_id, key = self.new.mount_id, self.new.key
        row = tx.get(KEYS, f"{mount_id}/{key.id}")
        if row is None or row.value.state != KeyState.PLANNED:
            raise KmsError(ErrorKind.CONFLICT, "the making of this key was given up meanwhile; start again")
        if self.name:
            check_name(issuers(tx, mount_id), self.name)
        changed = msgspec.structs.replace(
            row.value, state=KeyState.ACTIVE, spki=spki, spki_hash=spki_hash(spki)
        )
        tx.replace(KEYS, row, changed)
        issuer = SshIssuer(
            id=self.issuer_id,
            name=self.name,
            public_key=public.line,
            created_at=key.created_at,
            key_id=key.id,
        )
        install(tx, mount_id, issuer, default=self.default)
        subject = {**key_intent(self.new), "issuer": issuer.id, "sha256": public.sha256.hex()}
        return Result(data=issuer_data(issuer), subject=subject)

    def abandon(self, tx: Transaction, error: KmsError) -> None:
        del error
        self.new.abandon(tx)


def install(tx: Transaction, mount_id: str, issuer: SshIssuer, *, default: bool) -> None:
    """Store a new CA; a first one is the default."""
    tx.insert(ISSUERS, f"{mount_id}/{issuer.id}", issuer)
    if default or not mount_config(tx, mount_id).default_issuer:
        set_default(tx, mount_id, issuer.id)


def set_default(tx: Transaction, mount_id: str, issuer_id: str) -> None:
    """Which CA signs when none is named."""
    config = mount_config(tx, mount_id)
    put(tx, MOUNTS, mount_id, msgspec.structs.replace(config, default_issuer=issuer_id))
