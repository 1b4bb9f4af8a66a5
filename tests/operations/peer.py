"""The real server beside ours: a harness that sends both the same requests and compares the answers.

Ours goes through the real routes, coercion and rendering, without the pipeline. Each deliberate
difference stands in a case with its reason; one that the request does not show any more fails the test.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kms.errors import KmsError
from kms.http.vault.errors import render_error
from kms.http.vault.render import render
from kms.http.vault.route import Rendered
from kms.http.vault.router import Router
from kms.http.vault.transit import ROUTES
from kms.keys.life import Life, shown
from tests.keys.rig import Rig

P = "aGVsbG8="
BAO = Path(sys.executable).parent / "bao"

# Where the peer answers 500 with a Go multierror for what the client did wrong, we answer 400 with a
# plain sentence: clients retry on 500, and a batch that cannot be parsed never gets better.
CLIENT_FAULT = "the peer blames itself for a fault of the client"
OWN_TEXT = "the peer's text shows its inside"
STRICTER = "we refuse what would be signed or made by mistake"
SUPERSET = "we accept or say more"
ACCEPTING = (SUPERSET,)
# Members of the key object, and of a mount's settings, that the peer does not know.
OURS = ("protection", "aliases", *shown(Life(), 0.0, 0.0), "allowed_types", "min_strength")


@dataclass(frozen=True)
class Case:
    """One request; `allowed` is the reason for a known difference."""

    verb: str
    path: str
    body: dict[str, Any] | None = None
    allowed: str = ""


def post(path: str, body: dict[str, Any] | None = None, allowed: str = "", **fields: Any) -> Case:
    return Case("POST", path, {**(body or {}), **fields}, allowed)


# What no two servers can have in common: masked by length, so that the layout still counts.
_VARYING = re.compile(
    r'"(ciphertext|signature|hmac|random_bytes|plaintext|public_key|publickey|backup|csr|certificate_chain)":"([^"]*)"|"(?:creation_time|time)":"[^"]*"'
)


def _mask(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if name is None:
        return '"time":"T"'
    if value == "":
        return match[0]
    length = 0 if name == "signature" and len(value) < 200 else len(value)  # DER integers vary in length
    if name in ("csr", "certificate_chain"):
        length = 0  # they hold such a signature
    version = re.match(r"vault:v\d+:", value)
    return f'"{name}":"{version[0] if version else ""}#{length}"'


def _shape(value: Any) -> Any:
    """A version's time, or an exported key: its first line and its length."""
    if isinstance(value, str):
        first = value.partition("\n")[0]
        # RSA integers and ECDSA signatures vary in length.
        varies = "PRIVATE" in first or "CERTIFICATE" in first or len(value) > 1000
        length = 0 if varies else len(value)
        return f"{first if first.startswith('---') else ''}#{length}{value[-1:] == chr(10)}"
    return 0 if isinstance(value, int) else value


def _comparable(status: int, text: str) -> tuple[int, Any]:
    if not text.strip():
        return status, None
    document = json.loads(_VARYING.sub(_mask, json.dumps(json.loads(text), separators=(",", ":"))))
    document.pop("request_id", None)
    data = document.get("data")
    if isinstance(data, dict):
        for ours in OURS:
            data.pop(ours, None)
        if isinstance(data.get("keys"), dict):
            data["keys"] = {name: _shape(value) for name, value in data["keys"].items()}
    return status, document


class Ours:
    """Routes, coercion, operation and rendering; no pipeline."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._router = Router(ROUTES, rig.table)

    def ask(self, case: Case) -> tuple[int, Any]:
        try:
            rendered = self._render(case)
            return _comparable(rendered.status, rendered.body.decode())
        except KmsError as error:
            rendered = render_error(error)
            return _comparable(rendered.status, rendered.body.decode())

    def data(self, case: Case) -> dict[str, Any]:
        """The data of a good answer, unmasked."""
        return dict(json.loads(self._render(case).body)["data"])

    def _render(self, case: Case) -> Rendered:
        path = f"{case.path}/" if case.verb == "LIST" else case.path
        match = self._router.match(case.verb, path)
        if isinstance(match, str):
            body = b'{"errors":["1 error occurred:\\n\\t* unsupported operation\\n\\n"]}'
            return Rendered(405, body)
        args, given, warnings = match.compiled.plan.arguments(case.body or {}, match.arguments())
        operation = match.compiled.operation
        named = {name: value for name, value in args.items() if name in given}
        result = self._rig.result(operation.name.removeprefix("transit."), **named)
        return render(match.compiled.route, result, "id", warnings)


@pytest.fixture(scope="module")
def peer() -> Iterator[httpx.Client]:
    """A real server with an empty transit mount."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (
        subprocess.Popen(
            [BAO, "server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address={address}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
        httpx.Client(
            base_url=f"http://{address}/v1/", headers={"X-Vault-Token": "root"}, trust_env=False
        ) as client,
    ):
        try:
            _mount(client)
            yield client
        finally:
            process.terminate()


def _mount(client: httpx.Client) -> None:
    for _ in range(200):
        try:
            answer = client.post("sys/mounts/transit", json={"type": "transit"})
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code == httpx.codes.NO_CONTENT:
            return
        time.sleep(0.05)
    raise AssertionError("the real server did not start")


def ask(client: httpx.Client, case: Case) -> tuple[int, Any]:
    path = f"transit/{case.path}"
    if case.verb == "POST" or case.body is None:
        body = None if case.body is None else json.dumps(case.body)
        answer = client.request(case.verb, path, content=body)
    else:
        answer = client.request(case.verb, path, params=case.body)
    return _comparable(answer.status_code, answer.text)


Pair = tuple[Case, Case]


def compare(
    client: httpx.Client, rig: Rig, setup: Sequence[Case | Pair], cases: Sequence[Case | Pair]
) -> None:
    """Send everything to both; fail with all differences at once.

    A pair is what goes to the real server and what goes to ours, where the two cannot be the same.
    """
    ours = Ours(rig)
    for each in setup:
        theirs_case, case = each if isinstance(each, tuple) else (each, each)
        assert ours.ask(case) == ask(client, theirs_case), case
    different, stale = [], []
    for each in cases:
        theirs_case, case = each if isinstance(each, tuple) else (each, each)
        theirs, mine = ask(client, theirs_case), ours.ask(case)
        if theirs != mine and not case.allowed:
            different.append(f"{case.verb} {case.path} {case.body}\n  theirs {theirs}\n  ours   {mine}")
        if theirs == mine and case.allowed:
            stale.append(f"{case.verb} {case.path} {case.body}: {case.allowed}")
        if case.allowed and case.allowed not in ACCEPTING:
            assert mine[0] == 400, (case, mine)
    assert not different, "\n".join(different)
    assert not stale, "\n".join(stale)
