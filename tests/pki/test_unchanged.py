"""passthrough_request_headers and allowed_response_headers of a pki mount: what has not changed is not sent again."""

from __future__ import annotations

import contextlib
import time
from email.utils import formatdate, parsedate_to_datetime

import httpx
import pytest

from tests.differential.sides import Side, ours, theirs
from tests.harness.dev import DevServer

ROOT = {"common_name": "Root", "key_type": "ec", "ttl": "8760h"}
DOCUMENTS = (
    "ca", "ca/pem", "ca_chain", "crl", "crl/pem", "crl/delta", "cert/ca", "cert/crl", "cert/ca_chain", "cert/ca/raw",
    "issuer/default/json", "issuer/default/der", "issuer/default/crl", "issuer/default/crl/der", "issuer/default",
)  # fmt: skip
FUTURE, PAST = "Fri, 01 Jan 2100 00:00:00 GMT", "Fri, 01 Jan 2010 00:00:00 GMT"
TUNINGS: tuple[tuple[list[str], list[str]], ...] = (
    (["If-Modified-Since"], ["Last-Modified"]),
    (["if-modified-since"], ["last-modified"]),
    (["If-Modified-Since"], []),
    ([], ["Last-Modified"]),
    ([], []),
)


def _get(side: Side, path: str, since: str = "") -> httpx.Response:
    return side.client.get(f"{side.mount}/{path}", headers={"If-Modified-Since": since} if since else {})


def _tune(side: Side, passes: list[str], allowed: list[str]) -> None:
    settings = {"passthrough_request_headers": passes, "allowed_response_headers": allowed}
    side.system("POST", f"sys/mounts/{side.mount}/tune", settings)


@pytest.mark.slow
def test_conditional_requests_get_the_real_servers_answers(server: DevServer) -> None:
    mine = ours(server, "pki")
    asked = 0
    with contextlib.closing(mine.client), theirs("pki") as other:
        for side in (other, mine):
            side.system("POST", f"{side.mount}/root/generate/internal", ROOT)
        for passes, allowed in TUNINGS:
            for side in (other, mine):
                _tune(side, passes, allowed)
            for path in DOCUMENTS:
                for since in (FUTURE, PAST, ""):
                    answers = [_get(side, path, since) for side in (other, mine)]
                    statuses = [answer.status_code for answer in answers]
                    assert statuses[0] == statuses[1], (passes, path, since, statuses)
                    if statuses[0] == 304:
                        told = ["last-modified" in answer.headers for answer in answers]
                        assert told == [bool(allowed)] * 2, (passes, allowed, path, answers[0].headers)
                        assert answers[1].content == b""
                    asked += 1
    assert asked == len(TUNINGS) * len(DOCUMENTS) * 3


def test_what_changed_is_never_called_unchanged(server: DevServer) -> None:
    """Not even within one second, nor when another issuer becomes the default, nor for a name that moved."""
    mine = ours(server, "pki")
    with contextlib.closing(mine.client):
        first = mine.system("POST", f"{mine.mount}/root/generate/internal", {**ROOT, "issuer_name": "a"})[
            "data"
        ]
        second = mine.system("POST", f"{mine.mount}/root/generate/internal", {**ROOT, "issuer_name": "b"})[
            "data"
        ]
        _tune(mine, ["If-Modified-Since"], ["Last-Modified"])
        mine.system("POST", f"{mine.mount}/roles/r", {"allow_any_name": True, "key_type": "ec"})
        for _ in range(3):
            before = _get(mine, "crl")
            known, fetched = before.headers["last-modified"], formatdate(time.time(), usegmt=True)
            assert _get(mine, "crl", known).status_code == 304
            leaf = mine.system("POST", f"{mine.mount}/issue/r", {"common_name": "x.example.com"})["data"]
            mine.system("POST", f"{mine.mount}/revoke", {"serial_number": leaf["serial_number"]})
            for since in (known, fetched):
                after = _get(mine, "crl", since)
                assert after.status_code == 200
                assert after.content != before.content
        for issuer in (second, first, second):
            ca = _get(mine, "ca")
            mine.system("POST", f"{mine.mount}/config/issuers", {"default": issuer["issuer_id"]})
            now = _get(mine, "ca", ca.headers["last-modified"])
            if now.status_code == 304:
                assert _get(mine, "ca").content == ca.content
            for path in ("ca", "crl"):
                fresh = _get(mine, path)
                again = _get(mine, path, fresh.headers["last-modified"])
                assert again.status_code == 304
        assert _get(mine, "issuer/a/der", FUTURE).status_code == 200
        for nonsense in ("yesterday", "2026-01-01", "-1", "Fri, 99 Foo 2026 00:00:00 GMT"):
            assert _get(mine, "ca", nonsense).status_code == 200
        moment = parsedate_to_datetime(_get(mine, "ca").headers["last-modified"]).timestamp()
        assert abs(moment - time.time()) < 600
