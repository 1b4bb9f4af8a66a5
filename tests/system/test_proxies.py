"""nginx, HAProxy and Envoy serve mutual TLS, take renewed certificates without a failed request, and refuse revoked ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.api import Api
from tests.harness.proxies import PROXIES, Papers, Proxy, Visitor
from tests.system import authority as ca

RENEWALS = 3


class Visits(threading.Thread):
    """A client that visits again and again, and remembers what went wrong and which certificates it saw."""

    def __init__(self, visitor: Visitor) -> None:
        super().__init__(daemon=True)
        self._visitor = visitor
        self.over = threading.Event()
        self.failed: list[str] = []
        self.seen: list[int] = []

    def last_saw(self, serial: int) -> bool:
        """Whether the newest visit met this certificate."""
        return self.seen[-1:] == [serial]

    def run(self) -> None:
        while not self.over.wait(0.005):
            try:
                greeted, serial = self._visitor.visit()
            except OSError as error:
                self.failed.append(f"visit {len(self.seen)}: {error!r}")
                continue
            self.seen.append(serial)
            if not greeted:
                self.failed.append(f"visit {len(self.seen)}: no greeting")


@pytest.fixture(params=sorted(PROXIES))
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxy]:
    running: Proxy = PROXIES[request.param](tmp_path / "proxy")
    yield running
    running.stop()


def _papers(authority: ca.Authority) -> tuple[Papers, int]:
    """A new certificate for the proxy, and its serial."""
    made = authority.issue("x", common_name="localhost", ttl="1h")
    chain = made["certificate"].rstrip() + "\n" + made["issuing_ca"].rstrip() + "\n"
    key = made["private_key"].rstrip() + "\n"
    serial = int(made["serial_number"].replace(":", ""), 16)
    return Papers(chain, key, authority.roots(), authority.crls()), serial


@pytest.mark.timeout(300)
def test_renewal_fails_no_request_and_a_revoked_client_is_refused(
    proxy: Proxy, api: Api, tmp_path: Path
) -> None:
    authority = ca.build(api)
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.roots())
    good, bad = (ca.save(authority.issue(name), tmp_path, name) for name in ("good", "bad"))
    visitors = [Visitor(proxy.port, roots, who.certificate, who.key) for who in (good, bad)]
    stranger = ca.save(ca.build(api).issue("good"), tmp_path, "stranger")
    papers, serial = _papers(authority)
    proxy.start(papers)
    for visitor in visitors:
        assert visitor.visit() == (True, serial)
    assert Visitor(proxy.port, roots, stranger.certificate, stranger.key).refused()

    client = Visits(visitors[0])
    client.start()
    for _ in range(RENEWALS):
        papers, serial = _papers(authority)
        proxy.renew(papers)
        processes.wait_for(partial(client.last_saw, serial), 60, "the renewed certificate")

    authority.revoke(bad.serial)
    papers = Papers(papers.chain, papers.key, papers.clients, authority.crls())
    proxy.revoke(papers)
    processes.wait_for(visitors[1].refused, 60, "the refusal of the revoked client")
    before = len(client.seen)
    processes.wait_for(lambda: len(client.seen) > before + 5, 60, "further visits of the good client")
    client.over.set()
    client.join()
    assert client.failed == []
    assert len(set(client.seen)) == RENEWALS + 1
    assert visitors[1].refused()
