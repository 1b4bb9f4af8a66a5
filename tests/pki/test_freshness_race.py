"""Another thread publishes between the look at what is wanted and the look at what is published."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pki.marks import Scope
from pki.renewal import Renewals
from tests.pki.bench import Bench


def test_a_list_that_another_publishes_just_now_is_served(ca: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ca.listed()  # in memory
    serial = ca.issue()["serial_number"]
    ca.do("revoke", serial_number=serial)
    honest, here = Renewals.target, threading.get_ident()

    def target(self: Renewals, scope: Scope) -> Any:
        if threading.get_ident() == here:
            monkeypatch.setattr(Renewals, "target", honest)
            other = threading.Thread(target=ca.do, args=("crl-rotate",))
            with monkeypatch.context() as patch:
                patch.setattr(ca.store, "refresh", lambda **_: 0)  # nobody has told this process yet
                other.start()
                other.join()
        return honest(self, scope)

    monkeypatch.setattr(Renewals, "target", target)
    assert serial in ca.listed()
