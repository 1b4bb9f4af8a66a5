"""The drills of scripts/ca-rollover and scripts/ca-compromise, small, on an offline root of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drills.compromise import Compromise
from tests.drills.rollover import Rollover, begin
from tests.harness.api import Api
from tests.harness.nginx import Nginx


@pytest.mark.timeout(300)
def test_a_rollover_under_load_fails_no_request_and_every_certificate_verifies(
    api: Api, mount: Callable[[str], str], tmp_path: Path
) -> None:
    drill = Rollover(begin(api, mount("pki"), tmp_path / "offline"), tmp_path, rate=12, seconds=3)
    assert drill.run() == []
    print("\n" + drill.summary())
    assert len(drill.issued) > 12


@pytest.mark.timeout(300)
def test_a_compromised_issuer_is_replaced_and_nginx_refuses_all_below_it(
    api: Api, mount: Callable[[str], str], nginx: Nginx, tmp_path: Path
) -> None:
    drill = Compromise(begin(api, mount("pki"), tmp_path / "offline"), tmp_path, leaves=3)
    assert drill.run(nginx) == []
    print("\n" + drill.summary())
