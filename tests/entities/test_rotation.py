"""Named keys in this process: rotation when it comes due, the end of old keys, and a crash at each step of a birth."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from kms.errors import KmsError
from kms.identity.oidc.keyadmin import ROTATE, OidcKeys, named
from kms.identity.oidc.model import KEYS, OidcKey
from kms.identity.oidc.signing import MOUNT, SigningKeys
from kms.identity.remains import signing_keys
from kms.identity.within import Within
from kms.keys.model import VersionState
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS
from kms.operation import Call, Change, External, NamespaceRef, Result
from tests.keys.rig import Rig

CLAIMS = {"sub": "entity"}


class Named:
    """Named keys on a rig."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.signing = SigningKeys(rig.service)
        self.keys = OidcKeys(rig.store, rig.clock, self.signing)

    def call(self, **args: Any) -> Call:
        return _call(self.rig, args)

    def run(self, outcome: Any) -> Result:
        """As the pipeline does, but for the log."""
        if isinstance(outcome, Change):
            with self.rig.store.transaction() as tx:
                return outcome.write(tx)
        assert isinstance(outcome, External)
        with self.rig.store.transaction() as tx:
            assert outcome.begin is not None
            outcome.begin(tx)
        done = outcome.perform()
        with self.rig.store.transaction() as tx:
            return outcome.conclude(tx, done)

    def write(self, name: str, **args: Any) -> Result:
        return self.run(self.keys.write(self.call(name=name, **args)))

    def chores(self) -> int:
        """Run what has come due; how many."""
        due = self.keys.chores(self.rig.clock.now())
        for chore in due:
            assert chore.operation == ROTATE
            self.run(chore.external)
        return len(due)

    def get(self, name: str) -> OidcKey:
        key = named(self.rig.store.reader(), name)
        assert key is not None
        return key

    def documents(self, name: str) -> dict[str, Any]:
        found = self.signing.documents(self.rig.store.reader(), self.get(name), self.rig.clock.now())
        return {one["kid"]: one for one in found}

    def verifies(self, name: str, token: str) -> bool:
        held = self.documents(name).get(jwt.get_unverified_header(token)["kid"])
        if held is None:
            return False
        jwt.PyJWS().decode(token, jwt.PyJWK(held), algorithms=[held["alg"]])
        return True


def _call(rig: Rig, args: dict[str, Any]) -> Call:
    call = rig.call("keys.read", name=args["name"])
    call.args, call.given = args, frozenset(args)
    return call


@pytest.fixture
def soft(rig: Rig) -> Named:
    return Named(rig)


def test_a_key_rotates_when_its_period_is_over_and_the_old_one_ends_later(soft: Named) -> None:
    settings = {
        "algorithm": "ES256",
        "protection": "software",
        "rotation_period": 600,
        "verification_ttl": 1200,
    }
    soft.write("k", **settings)
    first, announced = soft.get("k").signing, soft.get("k").next
    token = soft.signing.sign(soft.get("k"), CLAIMS)
    assert soft.chores() == 0
    soft.rig.clock.sleep(601)
    assert soft.chores() == 1
    assert soft.get("k").signing == announced
    assert set(soft.documents("k")) == {first, announced, soft.get("k").next}
    assert soft.verifies("k", token)
    # Twice more, then its verification time is over: it is out of the documents, and its material goes.
    for _ in range(2):
        soft.rig.clock.sleep(601)
        assert soft.chores() >= 1
    soft.chores()
    assert not soft.verifies("k", token)
    assert first not in {entry.kid for entry in soft.get("k").ring}
    assert soft.rig.store.reader().get(NAMED_KEYS, f"{MOUNT}/{first}") is None
    # What signs now verifies, and its name is not reachable below any mount of the API.
    assert soft.verifies("k", soft.signing.sign(soft.get("k"), CLAIMS))


def test_keys_of_one_name_in_two_namespaces_rotate_each_for_itself(soft: Named) -> None:
    team = NamespaceRef("Ab3dEf", "team/")
    settings: dict[str, Any] = {"algorithm": "ES256", "protection": "software", "rotation_period": 600}
    soft.write("k", **settings, verification_ttl=600)
    call = soft.call(name="k", **settings | {"rotation_period": 3600}, verification_ttl=600)
    call.namespace = team
    soft.run(soft.keys.write(call))
    own = Within(soft.rig.store.reader(), team)
    before, announced = own.get(KEYS, "k"), soft.get("k").next
    assert before is not None
    assert before.value.signing not in set(soft.documents("k"))
    soft.rig.clock.sleep(601)
    assert soft.chores() == 1
    assert own.get(KEYS, "k") == before
    assert soft.get("k").signing == announced
    soft.rig.clock.sleep(3000)
    while soft.chores():
        pass
    after = own.get(KEYS, "k")
    assert after is not None
    assert after.value.signing == before.value.next
    # The namespace goes, and its signing keys with it; those of the same name elsewhere stay.
    with soft.rig.store.transaction() as tx:
        assert signing_keys(soft.signing.retire)(tx, team, 100) == 1
        assert signing_keys(soft.signing.retire)(tx, team, 100) == 0
    reader = soft.rig.store.reader()
    assert [reader.get(NAMED_KEYS, f"{MOUNT}/{entry.kid}") for entry in after.value.ring] == [None] * len(
        after.value.ring
    )
    assert soft.verifies("k", soft.signing.sign(soft.get("k"), CLAIMS))


def test_another_algorithm_has_new_keys_and_old_tokens_still_verify(soft: Named) -> None:
    soft.write("k", algorithm="RS256", protection="software")
    token = soft.signing.sign(soft.get("k"), CLAIMS)
    soft.write("k", algorithm="RS384")
    assert jwt.get_unverified_header(soft.signing.sign(soft.get("k"), CLAIMS))["alg"] == "RS384"
    assert soft.verifies("k", token)
    assert {one["alg"] for one in soft.documents("k").values()} == {"RS256", "RS384"}


def test_the_protection_of_a_key_is_not_changed_behind_its_back(soft: Named) -> None:
    soft.write("k", algorithm="ES256", protection="software")
    with pytest.raises(KmsError, match="another algorithm"):
        soft.write("k", protection="hsm")
    with pytest.raises(KmsError, match="must be 'software' or 'hsm'"):
        soft.write("other", protection="paper")


def test_keys_of_the_hsm_sign_and_their_private_halves_are_nowhere(hsm_rig: Rig) -> None:
    keys = Named(hsm_rig)
    keys.write("k", algorithm="ES256", protection="hsm")
    assert keys.verifies("k", keys.signing.sign(keys.get("k"), CLAIMS))
    rows = hsm_rig.store.reader().scan(NAMED_KEYS, f"{MOUNT}/")
    assert {row.value.protection.value for row in rows} == {"hsm"}


@pytest.mark.parametrize("after", ["begin", "perform"])
def test_a_birth_that_a_crash_cut_off_is_undone_and_can_be_had_again(hsm_rig: Rig, after: str) -> None:
    keys = Named(hsm_rig)
    outcome = keys.keys.write(keys.call(name="k", algorithm="EdDSA", protection="hsm"))
    if not isinstance(outcome, External):
        pytest.fail("this token makes such keys as its own objects")
    with hsm_rig.store.transaction() as tx:
        assert outcome.begin is not None
        outcome.begin(tx)
    if after == "perform":
        outcome.perform()
    # kill -9 here: the intent is in the log, and the next start resolves it.
    rest = keys.signing.resolve(outcome.intent)
    assert rest is not None
    assert keys.run(rest).partial
    assert named(hsm_rig.store.reader(), "k") is None
    states = {row.value.state for row in hsm_rig.store.reader().scan(KEY_VERSIONS)}
    assert states == {VersionState.ABANDONED}
    again = keys.signing.resolve(outcome.intent)
    assert again is not None
    assert not keys.run(again).partial  # closed once, closed for good
    keys.write("k", algorithm="EdDSA", protection="hsm")
    assert keys.verifies("k", keys.signing.sign(keys.get("k"), CLAIMS))
    assert hsm_rig.store.reader().get(KEYS, "k") is not None


def test_the_default_key_without_a_use_has_no_signing_key_and_its_rotation_is_put_off(soft: Named) -> None:
    soft.write("default", rotation_period=600, verification_ttl=600, algorithm="RS256")
    assert soft.get("default").signing == ""
    with pytest.raises(KmsError, match="rotate the key"):
        soft.signing.sign(soft.get("default"), CLAIMS)
    soft.rig.clock.sleep(601)
    assert soft.chores() == 1
    assert soft.get("default").next_rotation > soft.rig.clock.now()


def test_after_a_theft_of_the_keyring_the_new_version_signs_under_a_name_of_its_own(soft: Named) -> None:
    """Recovery gives every software key a new version; verifiers must tell the two apart."""
    soft.write("k", algorithm="ES256", protection="software")
    kid = soft.get("k").signing
    before = soft.signing.sign(soft.get("k"), CLAIMS)
    soft.run(soft.rig.service.rotate(MOUNT, kid))
    soft.rig.store.refresh()
    after = soft.signing.sign(soft.get("k"), CLAIMS)
    assert jwt.get_unverified_header(after)["kid"] == f"{kid}.2"
    assert soft.verifies("k", before)
    assert soft.verifies("k", after)
    for _ in range(2):
        soft.run(soft.keys.rotate(soft.call(name="k", verification_ttl=0)))
    soft.rig.clock.sleep(1)
    assert not soft.verifies("k", before)
    assert not soft.verifies("k", after)
    assert soft.verifies("k", soft.signing.sign(soft.get("k"), CLAIMS))
