"""Sends the vectors of one file to a server: imports their keys as versions, asks in batches, compares."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.harness.api import Api
from tests.vectors.cases import REFUSED, Case, Excluded, Key

BATCH = 200
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
# What a batch's result holds, by operation; those absent here have the version in the request, not in the item.
RESULTS = {"decrypt": "plaintext", "unwrap": "plaintext", "verify": "valid"}
ONE_BY_ONE = {"wrap": "ciphertext", "sign": "signature", "hmac": "hmac", "cmac": "cmac"} | {
    "shared-secret": "shared_secret"
}


@dataclass
class Tally:
    """What became of one file's vectors."""

    used: int = 0
    refused: int = 0  # those of the used ones that had to be refused, and were
    excluded: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)  # of errors, of those that decrypt or unwrap

    def line(self, name: str) -> str:
        """For people."""
        reasons = "; ".join(f"{number} {reason}" for reason, number in self.excluded.most_common())
        verdict = f"{len(self.wrong)} WRONG" if self.wrong else "all right"
        used = f"{self.used} used ({self.refused} to be refused), {verdict}"
        return f"{name}: {used}" + (f"; excluded: {reasons}" if reasons else "")


class Runner:
    """One transit mount of one server."""

    def __init__(self, api: Api, mount: str) -> None:
        self._api = api
        self._mount = mount
        pem = api.ok("GET", f"{mount}/wrapping_key")["public_key"]
        wrapping = load_pem_public_key(pem.encode())
        assert isinstance(wrapping, rsa.RSAPublicKey)
        self._wrapping = wrapping

    def run(self, read: Iterable[Case | Excluded], stride: int = 1) -> Tally:
        """Ask every `stride`-th vector that can be asked.

        Vectors of one key type become versions of one key; their order is that of the import.
        """
        tally = Tally()
        usable = []
        for each in read:
            if isinstance(each, Excluded):
                tally.excluded[each.reason] += 1
            else:
                usable.append(each)
        chosen = usable[::stride]
        if left := len(usable) - len(chosen):
            tally.excluded[f"one in {stride} is a sample; scripts/vectors asks all"] = left
        for type_ in sorted({case.key.type for case in chosen}):
            self._type([case for case in chosen if case.key.type == type_], tally)
        return tally

    def _type(self, cases: list[Case], tally: Tally) -> None:
        name = f"v-{secrets.token_hex(4)}"
        versions: dict[Key, int] = {}
        failed: set[Key] = set()
        for case in cases:
            if case.key in versions or case.key in failed:
                continue
            if self._import(name, case.key, first=not versions):
                versions[case.key] = len(versions) + 1
            else:
                failed.add(case.key)
        for case in cases:
            if case.key in failed or case.operation == "import":
                _note(tally, case, "imported" if case.key in versions else REFUSED)
        rest = [case for case in cases if case.key in versions and case.operation != "import"]
        for case, got in self._ask(name, rest, versions, tally):
            _note(tally, case, got)

    def _import(self, name: str, key: Key, *, first: bool) -> bool:
        body: dict[str, Any] = {"type": key.type} if first else {}
        body |= {"ciphertext": self.wrap(key.private)} if key.private else {"public_key": key.public}
        path = f"{self._mount}/keys/{name}/{'import' if first else 'import_version'}"
        answer = self._api.post(path, body)
        assert answer.status in {200, 204, 400}, (answer.status, answer.content)
        return answer.status != 400

    def wrap(self, private: bytes) -> str:
        """A key as `import` takes it."""
        ephemeral = secrets.token_bytes(32)
        wrapped = self._wrapping.encrypt(ephemeral, OAEP)
        return b64encode(wrapped + keywrap.aes_key_wrap_with_padding(ephemeral, private)).decode()

    def _ask(
        self, name: str, cases: list[Case], versions: dict[Key, int], tally: Tally
    ) -> Iterator[tuple[Case, Any]]:
        for case in cases:
            if case.operation in ONE_BY_ONE:
                yield case, self._one(name, case, versions[case.key])
        requests = sorted(
            (case for case in cases if case.operation in RESULTS),
            key=lambda case: (case.operation, case.path, repr(case.common)),
        )
        while requests:
            first = requests[0]
            same = [
                case
                for case in islice(requests, BATCH)
                if (case.operation, case.path, case.common) == (first.operation, first.path, first.common)
            ]
            requests = requests[len(same) :]
            yield from self._batch(name, same, versions, tally)

    def _batch(
        self, name: str, cases: list[Case], versions: dict[Key, int], tally: Tally
    ) -> Iterator[tuple[Case, Any]]:
        first = cases[0]
        items = [_item(case, versions[case.key]) for case in cases]
        body = {"batch_input": items, **dict(first.common)}
        answer = self._api.post(f"{self._mount}/{first.operation}/{name}{first.path}", body)
        results = answer.json["data"]["batch_results"]
        for case, result in zip(cases, results, strict=True):
            got = result.get(RESULTS[case.operation])
            if result.get("error") and case.operation != "verify":
                tally.texts.add(result["error"])
            yield case, REFUSED if result.get("error") or got is False else got

    def _one(self, name: str, case: Case, version: int) -> Any:
        body = {**_item(case, version), **dict(case.common), "key_version": version}
        answer = self._api.post(f"{self._mount}/{case.operation}/{name}{case.path}", body)
        if answer.status != 200:
            return REFUSED
        return str(answer.data[ONE_BY_ONE[case.operation]]).replace(f"vault:v{version}:", "{v}")


def _item(case: Case, version: int) -> dict[str, str]:
    return {name: value.replace("{v}", f"vault:v{version}:") for name, value in case.item.items()}


def _note(tally: Tally, case: Case, got: Any) -> None:
    tally.used += 1
    tally.refused += case.expect == REFUSED
    if got != case.expect:
        tally.wrong.append(f"{case.id}: {case.operation} gave {got!r}, not {case.expect!r}")
