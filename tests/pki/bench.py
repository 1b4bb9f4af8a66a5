"""A CA on a real database and a real token, driven as the pipeline drives it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509

from kms.cel import Sandbox
from kms.errors import KmsError
from kms.hsm import Hsm, KeyRef, KeySpec, Purpose, Scheme
from kms.ids import CkaId, new_id
from kms.leases import LeaseBook
from kms.operation import Call, Capability, Change, External, MountRef, Operation, Principal, Result
from kms.storage import SqliteStore
from pki.goodkey import Blocklist
from pki.lint import Pkilint
from pki.operations import operations
from pki.service import PkiService
from tests.harness.gathered import GATHERED

PROGRAMS = Sandbox()  # one process for all CAs of the tests
START = 1_795_300_000  # 2026-11-21
YEAR = 365 * 86_400


class StepClock:
    """A clock that tests move."""

    def __init__(self, now: float = START) -> None:
        self.seconds = now

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class WatchedToken:
    """The real HSM, with a count of calls and a place to inject failures."""

    def __init__(self, hsm: Hsm) -> None:
        self._hsm = hsm
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda _: None
        self.after: Callable[[str], None] = lambda _: None
        self.spoil = False

    def generate(self, purpose: Purpose, spec: KeySpec, cka_id: CkaId, label: str) -> bytes:
        self._enter("generate")
        made = self._hsm.generate(purpose, spec, cka_id, label)
        self.after("generate")
        return made

    def sign(self, ref: KeyRef, scheme: Scheme, payload: bytes) -> bytes:
        self._enter("sign")
        signature = self._hsm.sign(ref, scheme, payload)
        self.after("sign")
        if self.spoil:
            return bytes([signature[0] ^ 1]) + signature[1:]
        return signature

    def exists(self, cka_id: CkaId) -> bool:
        self._enter("exists")
        return self._hsm.exists(cka_id)

    def destroy(self, cka_id: CkaId) -> None:
        self._enter("destroy")
        self._hsm.destroy(cka_id)

    def _enter(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)


class Killed(BaseException):
    """kill -9: nothing catches it."""


@dataclass
class Bench:
    """One process. `steps` is called before each step of an external act; tests raise in it.

    Args:
        engine: whose operations those are.
    """

    store: SqliteStore
    token: WatchedToken
    clock: StepClock
    service: PkiService
    operations: dict[str, Operation]
    mounts: dict[str, MountRef] = field(default_factory=dict)
    step: Callable[[str], None] = lambda _: None
    intents: dict[str, tuple[str, Mapping[str, str | int]]] = field(default_factory=dict)
    display_name: str = "tester"
    accessor: str = "accessor-of-the-tester"
    subjects: list[Mapping[str, str | int]] = field(default_factory=list)
    engine: str = "pki"

    def mount(self, path: str, default_ttl: int = 0, max_ttl: int = 10 * YEAR) -> MountRef:
        if path not in self.mounts:
            self.mounts[path] = MountRef(
                id=new_id(),
                path=f"{path}/",
                type="pki",
                accessor=f"pki_{path}",
                default_lease_ttl=default_ttl,
                max_lease_ttl=max_ttl,
            )
        return self.mounts[path]

    def result(
        self,
        name: str,
        mount: str = "pki",
        /,
        *,
        idempotency_key: str = "",
        chain: Any = (),
        **given: Any,
    ) -> Result:
        """Run an operation as the pipeline does."""
        operation = self.operations[f"{self.engine}.{name}"]
        self.store.refresh()
        call = Call(
            operation=operation,
            path=f"{mount}/x",
            mount=self.mount(mount),
            args={**{f.name: f.default for f in operation.fields}, **given},
            request_id=new_id(),
            peer="127.0.0.1",
            door="test",
            given=frozenset(given),
            principal=Principal(accessor=self.accessor, display_name=self.display_name),
            idempotency_key=idempotency_key,
            unverified_chain=chain,
            capability=Capability.UPDATE,
            now=self.clock.now(),
        )
        outcome = operation.act(call)
        if isinstance(outcome, Result):
            result = outcome
        elif isinstance(outcome, Change):
            with self.store.transaction() as tx:
                result = outcome.write(tx)
        else:
            result = self.run(operation, outcome)
        self.subjects.append(result.subject)
        GATHERED.data(result.data or {}, self.clock.now())
        if result.raw is not None:
            GATHERED.document(*result.raw, self.clock.now())
        return result

    def do(self, name: str, mount: str = "pki", /, **given: Any) -> dict[str, Any]:
        """The data of the answer."""
        return dict(self.result(name, mount, **given).data or {})

    def raw(self, name: str, mount: str = "pki", /, **given: Any) -> bytes:
        """The document of the answer."""
        document = self.result(name, mount, **given).raw
        assert document is not None
        return document[0]

    def run(self, operation: Operation, external: External[Any]) -> Result:
        """An external act with its steps, as the pipeline takes them."""
        intent_id = new_id()
        self.step("begin")
        if external.begin is None:
            self.step("begin-commit")
        else:
            with self.store.transaction() as tx:
                external.begin(tx)
                self.step("begin-commit")
        self.intents[intent_id] = (operation.name, external.intent)
        self.step("perform")
        try:
            done = external.perform()
            self.step("conclude")
            result = self._conclude(external, done)
        except KmsError as error:
            self.step("abandon")
            with self.store.transaction() as tx:
                external.abandon(tx, error)
            del self.intents[intent_id]
            raise
        del self.intents[intent_id]
        self.step("answer")
        return result

    def _conclude(self, external: External[Any], done: Any) -> Result:
        if external.answer is not None:
            result = external.answer(done)
            self.step("conclude-commit")
            return result
        with self.store.transaction() as tx:
            result = external.conclude(tx, done)
            self.step("conclude-commit")
        return result

    def resolve_all(self) -> list[Result | None]:
        """What a start, or the jobs process, does with open intents."""
        results: list[Result | None] = []
        self.store.refresh()
        for intent_id, (name, intent) in list(self.intents.items()):
            resolve = self.operations[name].resolve
            assert resolve is not None
            external = resolve(intent)
            if external is None:
                results.append(None)
            else:
                done = external.perform()
                with self.store.transaction() as tx:
                    results.append(external.conclude(tx, done))
            del self.intents[intent_id]
        return results

    def chores(self) -> int:
        """Run the background work that is due."""
        self.store.refresh()
        due = list(self.service.chores(self.clock.now()))
        for chore in due:
            self.run(self.operations[chore.operation], chore.external)
        return len(due)

    def transaction(self) -> Any:
        return self.store.transaction()

    # -- shortcuts ----------------------------------------------------------------------------------

    def root(self, mount: str = "pki", /, **args: Any) -> dict[str, Any]:
        wanted = {"common_name": "Test Root", "key_type": "ec", "ttl": YEAR, "exported": "internal"}
        return self.do("root-generate", mount, **{**wanted, **args})

    def intermediate(self, below: str = "pki", mount: str = "int", /, **args: Any) -> dict[str, Any]:
        """An intermediate mount under another one; returns sign-intermediate's data."""
        csr = self.do(
            "intermediate-generate",
            mount,
            common_name="Test Intermediate",
            key_type="ec",
            exported="internal",
        )
        signed = self.do("sign-intermediate", below, csr=csr["csr"], ttl=YEAR // 2, **args)
        chain = "\n".join(signed["ca_chain"])
        self.do("intermediate-set-signed", mount, certificate=chain)
        return signed

    def role(self, name: str = "web", mount: str = "pki", /, **args: Any) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "name": name,
            "allowed_domains": ["example.com"],
            "allow_subdomains": True,
            "key_type": "ec",
        }
        return self.do("role-write", mount, **{**wanted, **args})

    def issue(self, mount: str = "pki", /, **args: Any) -> dict[str, Any]:
        return self.do("issue", mount, **{"role": "web", "common_name": "a.example.com", **args})

    def crl(self, mount: str = "pki") -> x509.CertificateRevocationList:
        return x509.load_der_x509_crl(self.raw("crl", mount))

    def crl_number(self, mount: str = "pki") -> int:
        return self.crl(mount).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def listed(self, mount: str = "pki") -> set[str]:
        """Serials on the published CRL, as aa:bb."""
        return {wire(entry.serial_number) for entry in self.crl(mount)}


def wire(serial: int) -> str:
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex(":")


def make_bench(
    store: SqliteStore, hsm: Hsm, blocklist: Blocklist | None = None, lint_sample: int = 1
) -> Bench:
    """A process that lints every certificate with pkilint, or one in so many of a known shape."""
    token, clock = WatchedToken(hsm), StepClock()
    service = PkiService(
        store,
        lambda: token,
        clock,
        LeaseBook(store, clock),
        derive=store.derived,
        blocklist=blocklist,
        lint_sample=lint_sample,
        programs=PROGRAMS,
    )
    table = {operation.name: operation for operation in operations(service)}
    made = Bench(store, token, clock, service, table)
    service.travel(lambda name, _mount, work: made.run(table[name], work))
    return made


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def make_csr(folder: Path, subject: str, key: str = "ec", **options: str) -> str:
    """A CSR by the OpenSSL command, as a client makes it. `san` is OpenSSL's subjectAltName syntax."""
    key_args = {
        "ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "p384": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        "p224": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-224"],
        "rsa": ["-newkey", "rsa:2048"],
        "rsa1024": ["-newkey", "rsa:1024"],
        "ed25519": ["-newkey", "ed25519"],
    }[key]
    stem = folder / secrets.token_hex(4)
    command = ["openssl", "req", "-new", *key_args, "-nodes", "-keyout", f"{stem}.key", "-subj", subject]
    for extension in options.values():
        command += ["-addext", extension]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return done.stdout


def pkilint(der: bytes) -> list[str]:
    return Pkilint().certificate(der)
