"""T-48: an error at each step of each way to log in, and never a token.

A good login is run once to count the calls of functions of `kms.identity`; then it is run again for each of them, which
fails instead of running. In this process, on a real store, with the real counterparts.
"""

from __future__ import annotations

import inspect
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from kms.app.methods import methods
from kms.cel import Sandbox
from kms.clock import Clock, SystemClock
from kms.errors import KmsError, invalid
from kms.identity.cert.store import LISTS
from kms.identity.methods.lockout import Lockouts
from kms.identity.store import TOKENS
from kms.namespaces import NamespaceTable
from kms.operation import Call, Change, External, MountRef, Operation, Result
from tests.auth.papers import authority, crl, leaf
from tests.harness.cluster import DEFAULT, Cluster
from tests.harness.documents import Documents
from tests.harness.google import ACCOUNT, ADMIN, MACHINE, Google
from tests.harness.issuer import Issuer
from tests.harness.oidc import Liar
from tests.harness.slapd import GROUPS, PEOPLE, SEARCHER, Slapd
from tests.identity.wire import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
IDENTITY = str(Path("kms") / "identity") + "/"
HERE = "http://127.0.0.1/cb"
Attempt = Callable[[], Callable[[], Result]]
"""Prepares what one login needs, and gives the login."""


class _NoMounts:
    def rows(self) -> dict[str, Any]:
        return {}


class World:
    """The methods of one process, and a short road to them."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.server = Server(folder, clock or SystemClock())
        self.store, self.tokens = self.server.first.store, self.server.first.tokens
        namespaces = NamespaceTable(self.store, lambda: True, lambda: None)
        made, _ = methods(self.store, self.tokens, _NoMounts(), namespaces, Sandbox())  # type: ignore[arg-type]  # no mount is looked up
        self.errands = {errand.name: errand for method in made for errand in method.errands}
        self.operations: dict[str, Operation] = {op.name: op for method in made for op in method.operations}

    def run(self, name: str, mount: str, chain: tuple[bytes, ...] = (), /, **given: Any) -> Result:
        """What the pipeline does for one call, less the records."""
        outcome = self.operations[name].act(self.call(name, mount, chain, **given))
        if isinstance(outcome, Change):
            with self.store.transaction() as tx:
                return outcome.write(tx)
        return self._external(outcome) if isinstance(outcome, External) else outcome

    def call(self, name: str, mount: str, chain: tuple[bytes, ...] = (), /, **given: Any) -> Call:
        """One call, as a door builds it."""
        self.store.refresh()
        operation = self.operations[name]
        args = {field.name: field.default for field in operation.fields} | given
        return Call(
            operation=operation,
            path=f"auth/{mount}/login",
            mount=MountRef(f"m-{mount}", f"auth/{mount}/", mount, f"auth_{mount}_0"),
            args=args,
            request_id="r",
            peer="127.0.0.1",
            door="test",
            given=frozenset(given),
            now=time.time(),
            unverified_chain=chain,
        )

    def _external(self, outcome: External[Any]) -> Result:
        if outcome.begin is not None:
            with self.store.transaction() as tx:
                outcome.begin(tx)
        try:
            done = outcome.perform()
            with self.store.transaction() as tx:
                return outcome.conclude(tx, done)
        except KmsError as error:
            with self.store.transaction() as tx:
                outcome.abandon(tx, error)
            raise

    def count(self) -> int:
        """How many tokens there are."""
        return self.store.reader().count(TOKENS, {})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    yield made
    made.server.close()


def _stepping(action: Callable[[], Result], at: int, error: BaseException) -> tuple[Result | None, int]:
    """(the result, calls seen); the call number `at` fails with `error`. No result where an error came out."""
    seen = 0

    def tracer(frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal seen
        code = frame.f_code
        # Not generators: they are entered for their end, too, where an error is nobody's.
        if event == "call" and IDENTITY in code.co_filename and not code.co_flags & inspect.CO_GENERATOR:
            seen += 1
            if seen == at:
                raise error

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        return action(), seen
    except (RuntimeError, KmsError):
        return None, seen
    finally:
        sys.settrace(before)


def _check(world: World, prepare: Attempt, most: int) -> None:
    """Fail every step once, as a defect and as a refusal."""
    prepare()()  # makes the entity and fills caches
    good, steps = _stepping(prepare(), 0, RuntimeError())
    assert good is not None
    assert good.auth is not None
    assert 20 < steps < most, steps
    allowed = set(good.auth["policies"])
    for number in range(1, steps + 1):
        for error in (RuntimeError(f"step {number}"), invalid(f"step {number}")):
            attempt = prepare()
            before = world.count()
            result, seen = _stepping(attempt, number, error)
            if result is not None and seen < number:
                continue  # a cache made the way shorter this time
            if result is not None:
                # A refusal may mean less here and there (a group that is of no interest), and never more.
                assert isinstance(error, KmsError), f"a defect at step {number} was swallowed"
                assert result.auth is not None
                assert set(result.auth["policies"]) <= allowed
                continue
            assert seen >= number
            assert world.count() == before, f"step {number} failed and left a token"
    after, _ = _stepping(prepare(), 0, RuntimeError())
    assert after is not None, "and it still works"


def test_userpass(world: World) -> None:
    world.run("userpass.users.write", "userpass", username="ann", password="right", token_policies=["p"])

    def prepare() -> Callable[[], Result]:
        return lambda: world.run("userpass.login", "userpass", username="ann", password="right")

    _check(world, prepare, 500)


def test_approle(world: World) -> None:
    world.run("approle.role.write", "approle", role_name="app", token_policies=["p"])
    data = world.run("approle.role-id.read", "approle", role_name="app").data
    assert data is not None

    def prepare() -> Callable[[], Result]:
        made = world.run("approle.secret-id.create", "approle", role_name="app").data
        assert made is not None
        return lambda: world.run(
            "approle.login", "approle", role_id=data["role_id"], secret_id=made["secret_id"]
        )

    _check(world, prepare, 500)


def test_jwt(world: World) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    world.run("jwt.config.write", "jwt", jwt_validation_pubkeys=[pem])
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "groups_claim": "groups",
        "claim_mappings": {"sub": "who"},
    }
    bounds: dict[str, Any] = {
        "bound_audiences": ["us"],
        "bound_claims": {"env": ["pro*"]},
        "bound_claims_type": "glob",
    }
    world.run("jwt.role.write", "jwt", name="ci", **role, **bounds, token_policies=["p"])

    def prepare() -> Callable[[], Result]:
        claims = {"sub": "job", "aud": "us", "env": "prod", "groups": ["g"], "iat": int(time.time())}
        token = jwt.encode(claims, key, "RS256")
        return lambda: world.run("jwt.login", "jwt", role="ci", jwt=token)

    _check(world, prepare, 500)


def test_jwt_by_a_program(world: World) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    world.run("jwt.config.write", "jwt", jwt_validation_pubkeys=[pem])
    groups = "group_aliases: claims.groups.map(g, logical.Alias{name: g})"
    expression = f"pb.Auth{{policies: ['p'], alias: logical.Alias{{name: claims.sub}}, {groups}}}"
    world.run("jwt.cel-role.write", "jwt", name="ci", cel_program={"expression": expression})

    def prepare() -> Callable[[], Result]:
        claims = {"sub": "job", "groups": ["g"], "iat": int(time.time()), "exp": int(time.time()) + 300}
        token = jwt.encode(claims, key, "RS256")
        return lambda: world.run("jwt.cel-login", "jwt", role="ci", jwt=token)

    _check(world, prepare, 500)


def test_oidc(world: World, tmp_path: Path) -> None:
    liar = Liar(tmp_path)
    liar.userinfo = {"sub": "ann", "team": "red"}
    config: dict[str, Any] = {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca}
    world.run("jwt.config.write", "jwt", **config, oidc_client_id="client", oidc_client_secret="secret")
    role: dict[str, Any] = {"user_claim": "sub", "allowed_redirect_uris": [HERE], "token_policies": ["p"]}
    world.run("jwt.role.write", "jwt", name="people", **role)

    def prepare() -> Callable[[], Result]:
        data = world.run("jwt.oidc.auth-url", "jwt", role="people", redirect_uri=HERE).data
        assert data is not None
        state = liar.visit(data["auth_url"])
        return lambda: world.run("jwt.oidc.callback", "jwt", state=state, code="code")

    try:
        _check(world, prepare, 500)
    finally:
        liar.stop()


def test_oidc_with_groups_in_graph(world: World, tmp_path: Path) -> None:
    liar = Liar(tmp_path)
    source = {"endpoint": f"{liar.url}/v1.0/users/ann/getMemberObjects"}
    liar.change = {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": source}}
    liar.graph = (200, {"value": ["ops"]})
    config: dict[str, Any] = {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca}
    client = {"oidc_client_id": "client", "oidc_client_secret": "secret"}
    world.run("jwt.config.write", "jwt", **config, **client, provider_config={"provider": "azure"})
    role: dict[str, Any] = {"user_claim": "sub", "allowed_redirect_uris": [HERE], "token_policies": ["p"]}
    bounds: dict[str, Any] = {"groups_claim": "groups", "bound_claims": {"groups": "ops"}}
    world.run("jwt.role.write", "jwt", name="people", **role, **bounds)

    def prepare() -> Callable[[], Result]:
        data = world.run("jwt.oidc.auth-url", "jwt", role="people", redirect_uri=HERE).data
        assert data is not None
        state = liar.visit(data["auth_url"])
        return lambda: world.run("jwt.oidc.callback", "jwt", state=state, code="code")

    try:
        _check(world, prepare, 500)
    finally:
        liar.stop()


@pytest.mark.parametrize("own", [True, False])
def test_jwt_with_groups_of_a_workspace(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, own: bool
) -> None:
    (tmp_path / "issuer").mkdir()
    google, issuer = Google(tmp_path), Issuer(tmp_path / "issuer")
    issuer.add("one")
    google.groups, google.schemas = {"ann": ["ops"], "ops": []}, {"ann": {"Job": {"title": "t"}}}
    account = {"gsuite_service_account": google.account(), "gsuite_admin_impersonate": ADMIN}
    if not own:  # by the machine's account, which may sign for the other
        (tmp_path / "machine.json").write_text(google.account(client_email=MACHINE))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "machine.json"))
        del account["gsuite_service_account"]
        account |= {"impersonate_principal": ACCOUNT, "iam_credentials_url": google.address}
    wanted = {"fetch_groups": True, "fetch_user_info": True, "user_custom_schemas": "Job"}
    settings = {"provider": "gsuite", "directory_url": google.directory, **account, **wanted}
    keys: dict[str, Any] = {"jwks_url": f"{issuer.url}/jwks", "jwks_ca_pem": issuer.ca}
    config = {**keys, "oidc_discovery_ca_pem": google.ca, "provider_config": settings}
    world.run("jwt.config.write", "jwt", **config)
    role: dict[str, Any] = {"role_type": "jwt", "user_claim": "sub", "groups_claim": "groups"}
    bounds: dict[str, Any] = {"bound_claims": {"groups": "ops", "/Job/title": "t"}, "token_policies": ["p"]}
    world.run("jwt.role.write", "jwt", name="ci", **role, **bounds)

    def prepare() -> Callable[[], Result]:
        token = issuer.sign("one", {"sub": "ann"})
        return lambda: world.run("jwt.login", "jwt", role="ci", jwt=token)

    try:
        _check(world, prepare, 500)
    finally:
        google.stop()
        issuer.stop()


def test_jwt_with_keys_of_two_places(world: World, tmp_path: Path) -> None:
    issuers = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        issuers.append(Issuer(tmp_path / name, "keys.example.test"))
        issuers[-1].add(name)
    pairs = [{"jwks_url": f"{each.url}/jwks", "jwks_ca_pem": each.ca} for each in issuers]
    role: dict[str, Any] = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["us"]}
    world.run("jwt.role.write", "jwt", name="ci", **role, token_policies=["p"])
    counted = itertools.count()

    def prepare() -> Callable[[], Result]:
        config = {"jwks_pairs": pairs, "override_allowed_server_names": ["keys.example.test"]}
        # Another configuration each time, so that keys are fetched in each login.
        world.run("jwt.config.write", "jwt", **config, default_role=f"r{next(counted)}")
        token = issuers[1].sign("second", {"sub": "job", "aud": "us"})
        return lambda: world.run("jwt.login", "jwt", role="ci", jwt=token)

    try:
        _check(world, prepare, 500)
    finally:
        for issuer in issuers:
            issuer.stop()


def test_kubernetes(world: World, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.account("prod", "app")
    cluster.labels["prod"]["team"] = "red"
    config: dict[str, Any] = {"kubernetes_host": cluster.url, "kubernetes_ca_cert": cluster.ca}
    world.run("kubernetes.config.write", "kubernetes", **config, token_reviewer_jwt=cluster.reviewer())
    selector = json.dumps({"matchLabels": {"team": "red"}})
    bounds: dict[str, Any] = {
        "bound_service_account_names": ["app"],
        "bound_service_account_namespace_selector": selector,
    }
    world.run("kubernetes.role.write", "kubernetes", name="app", **bounds, token_policies=["p"])

    def prepare() -> Callable[[], Result]:
        token = cluster.token("prod", "app", audiences=[DEFAULT])
        return lambda: world.run("kubernetes.login", "kubernetes", role="app", jwt=token)

    try:
        _check(world, prepare, 500)
    finally:
        cluster.stop()


def test_cert(world: World) -> None:
    root = authority("Root")
    middle = authority("Middle", root)
    client = leaf(middle, "app")
    chain = tuple(one.public_bytes(Encoding.DER) for one in (client.certificate, *client.chain))
    entry: dict[str, Any] = {
        "certificate": root.pem,
        "allowed_common_names": ["app"],
        "token_policies": ["p"],
    }
    world.run("cert.certs.write", "cert", name="root", **entry)

    def prepare() -> Callable[[], Result]:
        return lambda: world.run("cert.login", "cert", chain)

    _check(world, prepare, 500)


def test_ldap(world: World, tmp_path: Path) -> None:
    slapd = Slapd(tmp_path)
    config: dict[str, Any] = {
        "url": slapd.url,
        "userdn": PEOPLE,
        "groupdn": GROUPS,
        "userattr": "uid",
        "token_policies": ["p"],
    }
    world.run("ldap.config.write", "ldap", **config, binddn=SEARCHER, bindpass="searcher-password")
    world.run("ldap.groups.write", "ldap", name="devs", policies=["dev"])

    def prepare() -> Callable[[], Result]:
        # A refusal at the bind counts as a guess; the name may not lock while others are tried.
        with world.store.transaction() as tx:
            Lockouts.forget(tx, "m-ldap", "ann")
        return lambda: world.run("ldap.login", "ldap", username="ann", password="ann-password")

    try:
        _check(world, prepare, 500)
    finally:
        slapd.stop()


def test_a_list_that_ended_is_fetched_by_the_server_itself(world: World) -> None:
    """Not a login's step, and here for its tools: the periodic work of `cert`, and a place that is gone."""
    root = authority("Root")
    first, second = leaf(root, "first"), leaf(root, "second")
    documents = Documents()
    errand = world.errands["cert.crls"]
    committed = threading.Event()

    def record(operation: str, resource: str, change: Change) -> None:
        assert operation in world.operations
        assert resource == "m-cert/one"
        with world.store.transaction() as tx:
            change.write(tx)
        committed.set()

    def end() -> None:
        with world.store.transaction() as tx:
            row = tx.get(LISTS, "m-cert/one")
            assert row is not None
            tx.replace(LISTS, row, replace(row.value, valid_until=time.time() - 1))

    def work() -> frozenset[str]:
        assert errand.due()
        committed.clear()
        errand.work(record)
        assert committed.wait(30)
        row = world.store.reader().get(LISTS, "m-cert/one")
        assert row is not None
        assert not errand.due(), "and not at each round"
        return row.value.serials

    try:
        world.run("cert.certs.write", "cert", name="root", certificate=root.pem)
        documents.content = crl(root, first).encode()
        world.run("cert.crls.write", "cert", name="one", url=documents.url)
        assert not errand.due()
        documents.content = crl(root, first, second).encode()
        end()
        both = frozenset(str(paper.certificate.serial_number) for paper in (first, second))
        assert work() == both
        documents.content = crl(authority("Root"), first).encode()
        end()
        assert work() == both, "signed by somebody else of that name: nobody is unrevoked"
    finally:
        documents.stop()
    end()
    assert work() == both


def test_a_crash_between_intent_and_outcome_of_a_browser_login_leaves_nothing(
    world: World, tmp_path: Path
) -> None:
    """The attempt went with the intent; what the next start finds is closed as undone, and the state is spent."""
    liar = Liar(tmp_path)
    config: dict[str, Any] = {"oidc_discovery_url": liar.url, "oidc_discovery_ca_pem": liar.ca}
    world.run("jwt.config.write", "jwt", **config, oidc_client_id="client", oidc_client_secret="secret")
    role: dict[str, Any] = {"user_claim": "sub", "allowed_redirect_uris": [HERE]}
    world.run("jwt.role.write", "jwt", name="people", **role)
    data = world.run("jwt.oidc.auth-url", "jwt", role="people", redirect_uri=HERE).data
    assert data is not None
    state = liar.visit(data["auth_url"])
    operation = world.operations["jwt.oidc.callback"]
    assert operation.resolve is not None

    before = world.count()
    callback = operation.act(world.call("jwt.oidc.callback", "jwt", state=state, code="code"))
    assert isinstance(callback, External)
    assert callback.begin is not None
    with world.store.transaction() as tx:
        callback.begin(tx)  # and here the process dies
    liar.stop()
    found = operation.resolve({"role": "people"})
    assert found is not None
    with world.store.transaction() as tx:
        assert found.conclude(tx, found.perform()).partial
    assert world.count() == before
    with pytest.raises(KmsError, match="Expired or missing OAuth state"):
        world.run("jwt.oidc.callback", "jwt", state=state, code="code")
