"""Answering OCSP (RFC 6960, RFC 5019, RFC 9654) for the issuers of a mount.

    good      a certificate on record that is not revoked
    revoked   one that is, from the answer to its revocation on
    unknown   any other serial, those of roles that say no_store among them: what is not on record may not exist

Each answer begins with what the database says at that moment, so a revocation needs to drop nothing. Before
a signature the answer is linted (pki.lint). The signature over an answer without a nonce is kept and used again while it says the same and is fresh; only a change, or a
nonce, makes the HSM sign. Answers are counted, not recorded one by one: anybody may ask, and nothing that anybody
may do can fill the log. What the issuer signs, the responder's certificate, is recorded.

Refusals are OCSP answers too, with the code 200: clients look inside (RFC 5019 2.2.3 says so of `unauthorized`).
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections import OrderedDict
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha256
from urllib.parse import unquote_to_bytes

from cryptography import x509

from kms.errors import ErrorKind, KmsError, integrity
from kms.operation import Call, Result
from kms.tables import Store
from pki import ocspder, schemes
from pki.authority import Authorities, key_ref
from pki.crlder import reason_code, signature_algorithm
from pki.goodkey import spki_der
from pki.hsmkey import CaToken, DrySigner, HsmSigner
from pki.issuerhashes import IssuerHashes, key_hash
from pki.lint import Linter
from pki.lintocsp import WantedAnswer
from pki.model import CaKey, CertificateState, Responder, serial_hex
from pki.ocspder import Asked, CertId, MalformedRequestError, Single, Status
from pki.responders import Responders
from pki.store import CERTIFICATES, REVOCATIONS
from pki.validity import parse_go_duration

RESPONSE = "application/ocsp-response"
REQUEST = "application/ocsp-request"
CACHED_SECONDS = (
    300  # how long proxies may keep an answer (RFC 5019 6.2), and hide a revocation from those behind them
)
_KEPT = 4096
_SCHEME = "sha256"
_LATER = frozenset(
    {
        ErrorKind.SEALED,
        ErrorKind.UNINITIALIZED,
        ErrorKind.HSM_UNAVAILABLE,
        ErrorKind.AUDIT_UNAVAILABLE,
        ErrorKind.STORAGE_UNAVAILABLE,
        ErrorKind.RATE_LIMITED,
        ErrorKind.CONFLICT,
    }
)


@dataclass(frozen=True, slots=True)
class _Answer:
    der: bytes
    at: int
    until: int  # 0: no nextUpdate


@dataclass(frozen=True, slots=True)
class _Signer:
    """A responder with what does not change between two answers."""

    responder: Responder
    key: CaKey
    public: schemes.CaPublicKey
    key_hash: bytes
    algorithm: bytes


class Ocsp:
    """One per process. Safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        token: CaToken,
        authorities: Authorities,
        responders: Responders,
        linter: Linter,
    ) -> None:
        self._store = store
        self._token = token
        self._authorities = authorities
        self._responders = responders
        self._linter = linter
        self._issuers = IssuerHashes(store)
        self._signers: dict[str, _Signer] = {}
        self._answers: OrderedDict[tuple[object, ...], _Answer] = OrderedDict()
        self._lock = threading.Lock()

    def post(self, call: Call) -> Result:
        """ocsp: the request is the body."""
        return self._answered(call, str(call.args.get("request") or "").encode("latin-1"), cached=False)

    def get(self, call: Call) -> Result:
        """ocsp/:request, in base64, as it stands in the URL (RFC 6960 A.1)."""
        text = unquote_to_bytes(str(call.args.get("request") or "")).strip(b"/")
        try:
            # Clients leave the padding out, or in; others line breaks.
            data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            return refusal(Status.MALFORMED_REQUEST)
        return self._answered(call, data, cached=True)

    def _answered(self, call: Call, data: bytes, *, cached: bool) -> Result:
        try:
            asked = ocspder.parse(data)
        except MalformedRequestError:
            return refusal(Status.MALFORMED_REQUEST)
        try:
            off = self._authorities.config(call.mount.id).ocsp_disable
            answer = None if off else self._answer(call.mount.id, asked, int(call.now))
        except KmsError as error:
            if error.kind not in _LATER:
                raise
            return refusal(Status.TRY_LATER)
        if answer is None:
            return refusal(Status.UNAUTHORIZED)
        headers = _caching(answer, int(call.now)) if cached and not asked.nonce else ()
        return Result(raw=(answer.der, RESPONSE), items=len(asked.certificates), headers=headers)

    def _answer(self, mount_id: str, asked: Asked, now: int) -> _Answer | None:
        """None when it is not for us to say."""
        meant = [self._issuers.find(mount_id, certificate) for certificate in asked.certificates]
        # One answer has one signature, by one who may speak for all that it names.
        common = frozenset.intersection(*meant)
        found = next(filter(None, (self._responders.get(mount_id, id_) for id_ in sorted(common))), None)
        if found is None:
            return None
        said = tuple(self._said(mount_id, certificate, common) for certificate in asked.certificates)
        life = parse_go_duration(self._authorities.config(mount_id).ocsp_expiry)
        kept = (mount_id, found[0].serial, life, said)
        if not asked.nonce:
            answer = self._answers.get(kept)
            if (
                answer is not None
                and answer.at <= now < answer.at + max(1, (answer.until or now) - answer.at) // 2
            ):
                return answer
        signer = self._signer(mount_id, *found)
        until = min(now + life, signer.responder.not_after) if life else 0
        life_of = (signer.responder.not_before, signer.responder.not_after)
        wanted = WantedAnswer(
            signer.key_hash, signer.responder.certificate, life_of, now, until, said, asked.nonce
        )
        answer = _Answer(self._sign(mount_id, signer, wanted), now, until)
        if not asked.nonce:
            with self._lock:
                self._answers[kept] = answer
                while len(self._answers) > _KEPT:
                    self._answers.popitem(last=False)
        return answer

    def _said(self, mount_id: str, certificate: CertId, issuer_ids: frozenset[str]) -> Single:
        reader = self._store.reader()
        serial = serial_hex(certificate.serial)
        row = reader.get(CERTIFICATES, f"{mount_id}/{serial}") if certificate.serial else None
        if row is None or row.value.issuer_id not in issuer_ids:
            return Single(certificate, known=False)
        if row.value.revoked_at:
            revocation = reader.get(REVOCATIONS, f"{mount_id}/{row.value.issuer_id}/{serial}")
            reason = reason_code(revocation.value.reason) if revocation is not None else 0
            return Single(certificate, True, row.value.revoked_at, reason)
        return Single(certificate, known=row.value.state == CertificateState.ISSUED)

    def _signer(self, mount_id: str, responder: Responder, key: CaKey) -> _Signer:
        known = self._signers.get(mount_id + responder.serial)
        if known is not None:
            return known
        public = x509.load_der_x509_certificate(responder.certificate).public_key()
        if not isinstance(public, schemes.CaPublicKey):
            raise integrity("a responder has a key of a type that none here has")
        algorithm = signature_algorithm(public, _SCHEME)
        made = _Signer(responder, key, public, key_hash(spki_der(public)), algorithm)
        if len(self._signers) >= _KEPT:
            self._signers.clear()
        self._signers[mount_id + responder.serial] = made
        return made

    def _sign(self, mount_id: str, signer: _Signer, wanted: WantedAnswer) -> bytes:
        """Render, lint a copy without a signature, and have the HSM sign those bytes and no others."""
        tbs = ocspder.response_data(
            wanted.key_hash, wanted.produced_at, wanted.until, wanted.said, wanted.nonce
        )
        filler = DrySigner(signer.public).sign(tbs, _SCHEME)
        self._linter.ocsp(ocspder.answered(tbs, signer.algorithm, filler, wanted.certificate), wanted)
        ref = key_ref(self._store, mount_id, signer.key)
        signature = HsmSigner(self._token, ref, only=tbs).sign(tbs, _SCHEME)
        if not schemes.verifies(signer.public, signature, tbs, _SCHEME):
            raise integrity("the HSM's signature over an OCSP answer does not verify")
        return ocspder.answered(tbs, signer.algorithm, signature, wanted.certificate)


def _caching(answer: _Answer, now: int) -> tuple[tuple[str, str], ...]:
    """RFC 5019 6.2. An answer without nextUpdate is not cached."""
    if not answer.until:
        return ()
    age = max(0, min(CACHED_SECONDS, answer.until - now))
    return (
        ("Cache-Control", f"max-age={age}, public, no-transform, must-revalidate"),
        ("Last-Modified", formatdate(answer.at, usegmt=True)),
        ("Expires", formatdate(answer.until, usegmt=True)),
        ("ETag", f'"{sha256(answer.der).hexdigest()}"'),
    )


def refusal(status: Status) -> Result:
    """An answer that says nothing about any certificate."""
    return Result(raw=(ocspder.refused(status), RESPONSE))


def refusal_of(error: KmsError) -> Status:
    """What an OCSP client is told about a failure."""
    return Status.TRY_LATER if error.kind in _LATER else Status.INTERNAL_ERROR
