"""Every path of identity tokens, each parameter wrong in turn: the real server's answers, or allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.differential.rules import Comparison, load
from tests.differential.run import run
from tests.differential.sides import Side, ours, theirs
from tests.entities import forms
from tests.entities.oidc_requests import PROVIDER, Requests

ALLOWED = Path(__file__).parent / "oidc_allowed.toml"
REQUESTS = 1_605  # may not fall


def prepared(side: Side) -> Side:
    """The same server's identity store."""
    return Side(side.client, "identity", side.denied)


def form(document: Any) -> Any:
    """Without random client IDs, and without what is ours alone."""
    masked = forms.form(document)
    data = masked.get("data") if isinstance(masked, dict) else None
    if isinstance(data, dict):
        data.pop("protection", None)
        info = data.get("key_info")
        for each in (data, *(info.values() if isinstance(info, dict) else ())):
            _mask(each)
    return masked


def _mask(data: dict[str, Any]) -> None:
    if len(str(data.get("client_id", ""))) >= 26:
        data["client_id"] = "<client id>"
    if str(data.get("client_secret", "")).startswith("hvo_secret_"):
        data["client_secret"] = len(data["client_secret"])
    if "issuer" in data:
        data["issuer"] = re.sub(r"127\.0\.0\.1:\d+", "<address>", data["issuer"])
    for name in (
        "redirect_uris",
        "allowed_client_ids",
        "assignments",
        "scopes_supported",
        "entity_ids",
        "group_ids",
    ):
        if name in data:
            data[name] = data[name] or None


@pytest.mark.slow
def test_requests_get_the_real_servers_answers(fresh_server: ServerFactory) -> None:
    compared = Comparison(load(ALLOWED))
    server = fresh_server(workers=1)
    our_side = ours(server, "transit")
    with theirs("transit") as their_side:
        try:
            for requests in (Requests(), Requests(PROVIDER)):
                run(prepared(their_side), prepared(our_side), requests.all(), compared, form=form)
        finally:
            our_side.client.close()
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:20])
    assert not compared.unused, f"entries of the list that no request needs: {compared.unused}"
    assert compared.requests >= REQUESTS
