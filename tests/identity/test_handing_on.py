"""Which policies a child gets; how long it lives; what a role says."""

from __future__ import annotations

from typing import Any

import pytest

from kms.errors import KmsError
from kms.identity.handing_on import handed_on, matches
from kms.identity.lifetimes import DEFAULT_TTL, MAX_TTL, go_duration, lifetime
from kms.identity.model import TokenRole
from tests.identity.wire import FakeClock, Server

PARENT = ("app", "default")
BARE = ("app",)
ROOT = ("root",)

REFUSED: dict[str, dict[str, Any]] = {
    "beyond the parent": {"wanted": ["ops"], "parent": PARENT},
    "partly beyond the parent": {"wanted": ["app", "ops"], "parent": PARENT},
    "default, which the parent lacks": {"wanted": ["default"], "parent": BARE},
    "root": {"wanted": ["root"], "parent": PARENT},
    "root with sudo": {"wanted": ["root"], "parent": PARENT, "sudo": True},
    "root in capitals": {"wanted": ["ROOT"], "parent": PARENT, "sudo": True},
    "root with a blank": {"wanted": ["root "], "parent": ROOT, "sudo": True},
    "root beside others": {"wanted": ["app", "root"], "parent": PARENT, "sudo": True},
    "wide letters": {"wanted": ["\uff52\uff4f\uff4f\uff54"], "parent": ROOT, "sudo": True},
    "internal": {"wanted": ["response-wrapping"], "parent": ROOT, "sudo": True},
    "not in the role's list": {
        "wanted": ["ops"], "parent": ("ops",), "role": TokenRole(name="r", allowed_policies=("app",)),
    },
    "not in the role's globs": {
        "wanted": ["ops"], "parent": ("ops",), "role": TokenRole(name="r", allowed_policies_glob=("app-*",)),
    },
    "on the role's black list": {
        "wanted": ["ops"], "parent": ROOT, "role": TokenRole(name="r", disallowed_policies=("ops",)),
    },
    "inherited, on the role's black list": {
        "wanted": [], "parent": ("ops",), "role": TokenRole(name="r", disallowed_policies=("ops",)),
    },
    "on the role's black globs": {
        "wanted": ["ops-1"], "parent": ROOT, "role": TokenRole(name="r", disallowed_policies_glob=("ops*",)),
    },
    "root by a role": {
        "wanted": ["root"], "parent": PARENT, "role": TokenRole(name="r", allowed_policies=("root",)),
    },
    "root by a role's star": {
        "wanted": ["root"], "parent": PARENT, "role": TokenRole(name="r", allowed_policies_glob=("*",)),
    },
    "root inherited through a role": {
        "wanted": [], "parent": PARENT, "role": TokenRole(name="r", allowed_policies=("root",)),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_not_handed_on(name: str) -> None:
    with pytest.raises(KmsError):
        handed_on(**REFUSED[name])


GRANTED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "inherited": ({"wanted": [], "parent": PARENT}, PARENT),
    "inherited without default": ({"wanted": [], "parent": BARE}, BARE),
    "inherited, default declined": ({"wanted": [], "parent": PARENT, "no_default": True}, BARE),
    "blank names ask for none": ({"wanted": [""], "parent": ROOT, "sudo": True}, ("default",)),
    "blank names without sudo": ({"wanted": [""], "parent": BARE}, ()),
    "subset": ({"wanted": ["App"], "parent": PARENT}, PARENT),
    "subset, parent without default": ({"wanted": ["app"], "parent": BARE}, BARE),
    "beyond the parent with sudo": ({"wanted": ["ops"], "parent": PARENT, "sudo": True}, ("default", "ops")),
    "root by root": ({"wanted": ["root", "x"], "parent": ROOT, "sudo": True}, ROOT),
    "root inherited": ({"wanted": [], "parent": ROOT}, ROOT),
    "doubled": ({"wanted": ["ops", "OPS"], "parent": ROOT, "sudo": True}, ("default", "ops")),
    "role's list": (
        {"wanted": [], "parent": BARE, "role": TokenRole(name="r", allowed_policies=("ops",))},
        ("default", "ops"),
    ),
    "role's globs alone": (
        {"wanted": [], "parent": BARE, "role": TokenRole(name="r", allowed_policies_glob=("ops*",))},
        ("default",),
    ),
    "role's list, default declined there": (
        {
            "wanted": [], "parent": BARE,
            "role": TokenRole(name="r", allowed_policies=("ops",), token_no_default_policy=True),
        },
        ("ops",),
    ),
    "wish by the role's globs": (
        {"wanted": ["ops-1"], "parent": BARE, "role": TokenRole(name="r", allowed_policies_glob=("ops-*",))},
        ("default", "ops-1"),
    ),
    "role without lists": ({"wanted": ["app"], "parent": PARENT, "role": TokenRole(name="r")}, PARENT),
}  # fmt: skip


@pytest.mark.parametrize("name", GRANTED)
def test_handed_on(name: str) -> None:
    request, policies = GRANTED[name]
    # A default that a role's own list does not hold is added to the wish and so must fit the list.
    assert handed_on(**request) == policies


@pytest.mark.parametrize(
    ("glob", "name", "fits"),
    [
        ("a", "a", True), ("a", "b", False), ("*", "", True), ("a*", "abc", True), ("*c", "abc", True),
        ("a*c", "abc", True), ("a*c", "ab", False), ("a*a", "a", False), ("*b*", "abc", True),
        ("a**c", "ac", True), ("*a*b*c*", "xaxbxcx", True), ("*a*b*c*", "xcxbxax", False),
        ("*" * 50 + "x", "y" * 128, False),
    ],
)  # fmt: skip
def test_globs(glob: str, name: str, *, fits: bool) -> None:
    assert matches(glob, name) is fits


@pytest.mark.parametrize(
    ("arguments", "ttl", "warned"),
    [
        ({"wanted": 0}, DEFAULT_TTL, 0),
        ({"wanted": 60}, 60, 0),
        ({"wanted": MAX_TTL + 1}, MAX_TTL, 1),
        ({"wanted": 3600, "explicit_max": 1800}, 1800, 1),
        ({"wanted": 3600, "explicit_max": MAX_TTL * 2}, 3600, 0),
        ({"wanted": 3600, "age": MAX_TTL - 60}, 60, 1),
        ({"wanted": 3600, "explicit_max": 7200, "age": 7100}, 100, 1),
        ({"wanted": 1, "period": 3600}, 3600, 0),
        ({"wanted": 1, "period": 3600, "age": MAX_TTL * 9}, 3600, 0),
        ({"wanted": 0, "period": MAX_TTL + 1}, MAX_TTL, 1),
        ({"wanted": 0, "period": 3600, "explicit_max": 1800}, 1800, 1),
        ({"wanted": 0, "period": 3600, "explicit_max": 7200, "age": 7000}, 200, 1),
    ],
)
def test_lifetime(arguments: dict[str, int], ttl: int, warned: int) -> None:
    granted = lifetime(**arguments)
    assert granted.ttl == ttl
    assert len(granted.warnings) == warned


@pytest.mark.parametrize(
    "arguments",
    [
        {"wanted": 60, "age": MAX_TTL},
        {"wanted": 60, "explicit_max": 100, "age": 100},
        {"wanted": 60, "period": 60, "explicit_max": 100, "age": 101},
    ],
)
def test_past_its_end(arguments: dict[str, int]) -> None:
    with pytest.raises(KmsError, match="past the max TTL"):
        lifetime(**arguments)


def test_durations_as_go_writes_them() -> None:
    assert [go_duration(s) for s in (0, 59, 60, 3600, 5400, 5401)] == [
        "0s",
        "59s",
        "1m",
        "1h",
        "1h30m",
        "1h30m1s",
    ]


# -- renewal over the wire ----------------------------------------------------------------------------


def renew(server: Server, token: str, increment: int = 0) -> tuple[int, Any]:
    return server.call("POST", "auth/token/renew", {"token": token, "increment": increment})


def test_renewing_never_passes_the_explicit_maximum(server: Server, clock: FakeClock) -> None:
    token = server.token(ttl="1h", explicit_max_ttl="90m", policies=["default"])
    clock.time += 3_599.5
    status, answer = renew(server, token, 36_000)
    assert (status, answer["auth"]["lease_duration"]) == (200, 1_801)
    clock.time += 1_800.4
    assert server.works(token)
    clock.time += 0.1
    assert not server.works(token)
    assert renew(server, token)[0] == 400


def test_a_periodic_token_lives_on_while_it_is_renewed(server: Server, clock: FakeClock) -> None:
    token = server.token(period="1h", policies=["default"])
    for _ in range(1_000):
        clock.time += 3_500
        assert renew(server, token)[0] == 200
    clock.time += 3_600
    assert not server.works(token)


def test_a_renewal_without_increment_repeats_the_last(server: Server, clock: FakeClock) -> None:
    token = server.token(ttl="1h", policies=["default"])
    assert renew(server, token, 60)[1]["auth"]["lease_duration"] == 60
    assert renew(server, token)[1]["auth"]["lease_duration"] == 60
    lookup = server.call("POST", "auth/token/lookup", {"token": token})[1]["data"]
    assert (lookup["creation_ttl"], lookup["ttl"], lookup["last_renewal_time"]) == (3600, 60, int(clock.time))


def test_a_token_whose_role_is_gone_is_not_renewed(server: Server) -> None:
    assert server.call("POST", "auth/token/roles/r", {"token_period": "1h"})[0] == 204
    answer = server.call("POST", "auth/token/create/r", {})[1]["auth"]
    assert renew(server, answer["client_token"])[0] == 200
    assert server.call("DELETE", "auth/token/roles/r")[0] == 204
    assert renew(server, answer["client_token"])[0] == 400
    assert server.works(answer["client_token"])


@pytest.mark.parametrize(
    "fields",
    [
        {"token_bound_cidrs": ["10.0.0.0/99"]},
        {"bound_cidrs": ["nowhere"]},
        {"allowed_entity_aliases": ["x\u200b"]},
        {"token_type": "batch"},
        {"allowed_policies": ["ro ot"]},
        {"allowed_policies_glob": ["\uff52*"]},
        {"path_suffix": "a/b"},
        {"path_suffix": ".."},
    ],
)
def test_a_role_that_would_not_be_kept_is_refused(server: Server, fields: dict[str, Any]) -> None:
    status, answer = server.call("POST", "auth/token/roles/r", fields)
    assert status == 400, answer
    assert server.call("GET", "auth/token/roles/r")[0] == 404


def test_updating_a_role_changes_only_what_is_given(server: Server) -> None:
    assert server.call("POST", "auth/token/roles/r", {"orphan": True, "period": "1h"})[0] == 204
    assert server.call("POST", "auth/token/roles/r", {"token_num_uses": 3})[0] == 204
    shown = server.call("GET", "auth/token/roles/r")[1]["data"]
    assert (shown["orphan"], shown["period"], shown["token_period"], shown["token_num_uses"]) == (
        True,
        3600,
        3600,
        3,
    )
    status, answer = server.call("POST", "auth/token/roles/r", {"token_period": "2h", "period": "3h"})
    assert status == 200
    assert "deprecated 'period'" in answer["warnings"][0]
    shown = server.call("GET", "auth/token/roles/r")[1]["data"]
    assert (shown["period"], shown["token_period"]) == (0, 7200)


# -- accessors over the wire --------------------------------------------------------------------------


def test_an_accessor_looks_renews_and_revokes_but_never_shows_the_token(server: Server) -> None:
    made = server.call("POST", "auth/token/create", {"ttl": "1h", "policies": ["default"]})[1]["auth"]
    body = {"accessor": made["accessor"]}
    status, answer = server.call("POST", "auth/token/lookup-accessor", body)
    assert (status, answer["data"]["id"], answer["data"]["accessor"]) == (200, "", made["accessor"])
    status, answer = server.call("POST", "auth/token/renew-accessor", body)
    assert (status, answer["auth"]["client_token"]) == (200, "")
    assert server.call("POST", "sys/capabilities-accessor", body | {"paths": ["cubbyhole/x"]})[0] == 200
    assert made["accessor"] in server.call("LIST", "auth/token/accessors")[1]["data"]["keys"]
    assert server.call("POST", "auth/token/revoke-accessor", body)[0] == 204
    assert not server.works(made["client_token"])
    for path in ("lookup-accessor", "renew-accessor"):
        assert server.call("POST", f"auth/token/{path}", body)[1] == {"errors": ["invalid accessor"]}
    assert made["accessor"] not in server.call("LIST", "auth/token/accessors")[1]["data"]["keys"]


def test_capabilities_of_another_token(server: Server) -> None:
    token = server.token(policies=["default"])
    status, answer = server.call("POST", "sys/capabilities", {"token": token, "paths": ["cubbyhole/x"]})
    assert (status, answer["capabilities"]) == (200, ["create", "delete", "list", "read", "update"])
    for other in ("", "nope"):
        assert server.call("POST", "sys/capabilities", {"token": other, "paths": ["a"]})[0] == 400
