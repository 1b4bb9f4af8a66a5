"""What a mount and the operator demand of new keys, on every way by which a key comes to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.keys import KeyService
from kms.operations import operations
from tests.keys.fixtures import Token
from tests.keys.rig import MOUNT, Rig

P = "aGVsbG8="


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.result(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


def limit(rig: Rig, **settings: Any) -> None:
    rig.run("settings.update", **settings)


REFUSED_SETTINGS = [
    ({"allowed_types": ["aes256-gcm96", "bogus"]}, "unknown key type bogus"),
    ({"min_strength": -1}, "0 to 256"),
    ({"min_strength": 257}, "0 to 256"),
    ({"protection": "software"}, "'hsm' to demand it"),
    ({"protection": "HSM"}, "'hsm' to demand it"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED_SETTINGS)
def test_a_limit_that_makes_no_sense_is_refused(rig: Rig, settings: dict[str, Any], text: str) -> None:
    assert text in refused(rig, "settings.update", **settings)


LIMITS = [  # settings, wish, text of the refusal or ""
    (
        {"allowed_types": ["aes256-gcm96"]},
        {"type": "aes128-gcm96"},
        "does not take keys of type aes128-gcm96",
    ),
    ({"allowed_types": ["rsa-4096", "ecdsa-p384"]}, {"type": "rsa-2048"}, "it takes ecdsa-p384, rsa-4096"),
    ({"min_strength": 128}, {"type": "rsa-2048"}, "strength of 112 bits"),
    ({"min_strength": 256}, {"type": "aes128-gcm96"}, "strength of 128 bits"),
    ({"min_strength": 256}, {"type": "ecdsa-p256", "protection": "software"}, "strength of 128"),
    ({"protection": "hsm"}, {"type": "aes256-gcm96", "protection": "software"}, "demands protection hsm"),
    ({"protection": "hsm"}, {"type": "chacha20-poly1305"}, "cannot have protection hsm"),
    ({"protection": "hsm"}, {"type": "aes256-gcm96", "exportable": True}, "exportable cannot be set"),
    ({"allowed_types": ["aes256-gcm96"]}, {"type": "aes256-gcm96"}, ""),
    ({"min_strength": 256}, {"type": "aes256-gcm96"}, ""),
    ({"min_strength": 256}, {"type": "hmac", "key_size": 32}, ""),
    ({"allowed_types": ["rsa-4096"], "min_strength": 0}, {"type": "hmac"}, "does not take keys of type hmac"),
]


@pytest.mark.parametrize(("settings", "wish", "text"), LIMITS)
def test_a_new_key_meets_its_mount(
    rig: Rig, settings: dict[str, Any], wish: dict[str, Any], text: str
) -> None:
    limit(rig, **settings)
    if text:
        assert text in refused(rig, "keys.create", name="k", **wish)
        assert rig.service.get(MOUNT.id, "k") is None
    else:
        rig.run("keys.create", name="k", **wish)


def test_every_way_to_a_key_is_limited(rig: Rig) -> None:
    rig.create("old", exportable=True, allow_plaintext_backup=True)
    rig.create("base", "ecdsa-p256", protection="software")
    rig.create("peer", "ecdsa-p256", protection="software")
    public = rig.run("keys.read", name="peer")["keys"]["1"]["public_key"]
    backup = rig.run("backup", name="old")["backup"]
    limit(rig, protection="hsm")
    ways: list[tuple[str, dict[str, Any]]] = [
        ("keys.create", {"protection": "software"}),
        ("encrypt", {"plaintext": P}),
        ("restore", {"backup": backup}),
        ("keys.import", {"public_key": public, "type": "ecdsa-p256"}),
        ("derive-key", {"base_key_name": "base", "peer_public_key": public}),
    ]
    for operation, args in ways:
        assert "this mount demands protection hsm" in refused(rig, operation, name="new", **args), operation
    rig.run("encrypt", name="old", plaintext=P)  # what is there goes on
    rig.run("keys.rotate", name="old")


def test_limits_are_kept_shown_and_lifted(rig: Rig) -> None:
    limit(rig, allowed_types=["rsa-4096", "hmac", "hmac"], min_strength=112)
    shown = rig.run("settings.read")
    assert shown == {
        "disable_upsert": False,
        "allowed_types": ["hmac", "rsa-4096"],
        "min_strength": 112,
        "protection": "",
    }
    other = rig.another()
    assert "does not take" in refused(other, "keys.create", name="k")
    limit(rig, allowed_types=[], min_strength=0)
    other.run("keys.create", name="k")


def test_the_operator_demands_what_no_mount_can_lift(rig: Rig) -> None:
    rig.service = KeyService(rig.store, rig.hsm, rig.roots, "instance-1", rig.clock, "hsm")
    rig.table = {o.name: o for o in operations(rig.service)}
    limit(rig, protection="")
    text = refused(rig, "keys.create", name="k", protection="software")
    assert "this server's configuration demands protection hsm" in text
    assert "demands" in refused(rig, "encrypt", name="k", plaintext=P)


def test_a_demand_is_the_default_too(tmp_path: Path, token: Token) -> None:
    rig = Rig(tmp_path / "db", lambda: token.hsm, token.roots)
    limit(rig, protection="hsm")
    assert rig.create("k")["protection"] == "hsm"
