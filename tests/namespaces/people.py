"""Acts: who somebody is in one namespace, named in another."""

from __future__ import annotations

from tests.namespaces.play import ELSEWHERE, Play
from tests.namespaces.sides import PLACES


def entities(play: Play) -> None:
    """Entities and their aliases of one namespace named in another."""
    side = play.side
    login = {"password": "pw-of-ann"}
    logins = {ns: side.ok("POST", "auth/up/login/ann", login, ns=ns, token="") for ns in PLACES}
    entities = {ns: auth["entity_id"] for ns, auth in logins.items()}
    accessors = {ns: side.ok("GET", "sys/auth", ns=ns)["up/"]["accessor"] for ns in PLACES}
    play.each("LIST", "identity/entity/id")
    play.each("LIST", "identity/entity-alias/id")
    for entity in entities.values():
        play.each("GET", f"identity/entity/id/{entity}")
        play.each("POST", "identity/lookup/entity", {"id": entity})
    for ns, of in ELSEWHERE:
        own, entity = entities[ns], entities[of]
        alias = {"name": "x", "mount_accessor": accessors[ns], "canonical_id": entity}
        at_mount = {"alias_name": "ann", "alias_mount_accessor": accessors[of]}
        play.ask("POST", f"identity/entity/id/{entity}", {"metadata": {"a": "b"}}, ns=ns)
        play.ask("DELETE", f"identity/entity/id/{entity}", ns=ns)
        play.ask("POST", "identity/entity/batch-delete", {"entity_ids": [entity]}, ns=ns)
        for source, target in ((entity, own), (own, entity)):
            merge = {"from_entity_ids": [source], "to_entity_id": target}
            play.ask("POST", "identity/entity/merge", merge, ns=ns)
        play.ask("POST", "identity/entity-alias", alias, ns=ns)
        play.ask("POST", "identity/lookup/entity", at_mount, ns=ns)
    play.each("POST", "identity/entity", {"name": "bob"})
    play.each("GET", "identity/entity/name/bob")
    play.ask("DELETE", "identity/entity/name/bob", ns="t1")
    play.each("GET", "identity/entity/name/bob")
    aliases = {ns: side.ok("LIST", "identity/entity-alias/id", ns=ns)["keys"][0] for ns in PLACES}
    for alias_id in aliases.values():
        play.each("GET", f"identity/entity-alias/id/{alias_id}")
    for ns, of in ELSEWHERE:
        play.ask("POST", f"identity/entity-alias/id/{aliases[of]}", {"name": "q"}, ns=ns)
        play.ask("DELETE", f"identity/entity-alias/id/{aliases[of]}", ns=ns)


def groups(play: Play) -> None:
    """Groups, and who is in them."""
    side = play.side
    login = {"password": "pw-of-ann"}
    logins = {ns: side.ok("POST", "auth/up/login/ann", login, ns=ns, token="") for ns in PLACES}
    accessors = {ns: side.ok("GET", "sys/auth", ns=ns)["up/"]["accessor"] for ns in PLACES}
    for of, auth in logins.items():
        name = f"of-{of.replace('/', '-')}"
        group = {"name": name, "member_entity_ids": [auth["entity_id"]], "policies": ["own"]}
        play.each("POST", "identity/group", group)
    made = {ns: side.ok("POST", "identity/group", {"name": "g", "type": "external"}, ns=ns) for ns in PLACES}
    for group in made.values():
        play.each("GET", f"identity/group/id/{group['id']}")
        play.each("POST", "identity/lookup/group", {"id": group["id"]})
    for ns, of in ELSEWHERE:
        group_id = made[of]["id"]
        alias = {"name": "x", "mount_accessor": accessors[ns], "canonical_id": group_id}
        play.ask("POST", f"identity/group/id/{group_id}", {"metadata": {"a": "b"}}, ns=ns)
        play.ask("DELETE", f"identity/group/id/{group_id}", ns=ns)
        play.ask("POST", "identity/group", {"name": "in", "member_group_ids": [group_id]}, ns=ns)
        play.ask("POST", "identity/group-alias", alias, ns=ns)
    play.each("LIST", "identity/group/name")
    for ns in PLACES:
        token = side.ok("POST", "auth/up/login/ann", login, ns=ns, token="")["client_token"]
        play.ask("GET", "auth/token/lookup-self", ns=ns, token=token, who=f"ann of {ns}")


def provider(play: Play) -> None:
    """Identity tokens and the provider of each namespace."""
    side = play.side
    for path in (
        "identity/oidc/config",
        "identity/oidc/provider/default",
        "identity/oidc/.well-known/openid-configuration",
    ):
        play.each("GET", path)
    for kind in ("key", "provider", "assignment", "scope", "client", "role"):
        play.each("LIST", f"identity/oidc/{kind}")
    play.ask("POST", "identity/oidc/key/k", {"allowed_client_ids": "*", "algorithm": "ES256"}, ns="t1")
    play.ask("POST", "identity/oidc/role/r", {"key": "k"}, ns="t1")
    play.each("GET", "identity/oidc/role/r")
    play.each("GET", "identity/oidc/key/k")
    play.ask("POST", "identity/oidc/role/r", {"key": "k"}, ns="t2")
    auth = side.ok("POST", "auth/up/login/ann", {"password": "pw-of-ann"}, ns="t1", token="")
    token = side.ok("GET", "identity/oidc/token/r", ns="t1", token=auth["client_token"])["token"]
    play.told.append(("claims", side.claims(token)))
    for ns in PLACES:
        _, answer = side.call("POST", "identity/oidc/introspect", {"token": token}, ns=ns)
        play.told.append((f"introspected in {ns or '-'}", answer["active"]))


def factors(play: Play) -> None:
    """Methods of login MFA are seen below, enforcements hold below."""
    side = play.side
    methods = {
        ns: side.ok("POST", "identity/mfa/method/totp", {"issuer": "x"}, ns=ns)["method_id"] for ns in PLACES
    }
    for method in methods.values():
        play.each("GET", f"identity/mfa/method/totp/{method}")
        play.each("POST", f"identity/mfa/method/totp/{method}", {"issuer": "y"})
    for ns in PLACES:
        status, answer = side.call("LIST", "identity/mfa/method", ns=ns)
        seen = sorted(of for of, method in methods.items() if method in answer["data"]["keys"])
        play.told.append((f"methods listed in {ns or '-'}", (status, seen)))
        for method in methods.values():
            rule = {"mfa_method_ids": [method], "auth_method_types": ["userpass"]}
            play.ask("POST", "identity/mfa/login-enforcement/e", rule, ns=ns)
            status, _ = side.call("GET", "identity/mfa/login-enforcement/e", ns=ns)
            for at in PLACES if status == 200 else ():
                auth = side.ok("POST", "auth/up/login/ann", {"password": "pw-of-ann"}, ns=at, token="")
                play.told.append(
                    (f"enforced in {ns or '-'}, asked in {at or '-'}", bool(auth["mfa_requirement"]))
                )
            side.call("DELETE", "identity/mfa/login-enforcement/e", ns=ns)


def lockout(play: Play) -> None:
    """Locked names are a mount's, and so a namespace's."""
    side = play.side
    side.ok(
        "POST",
        "sys/auth/up/tune",
        {"user_lockout_config": {"lockout_threshold": "2", "lockout_duration": "5m"}},
        ns="t1",
    )
    for _ in range(3):
        side.call("POST", "auth/up/login/ann", {"password": "wrong"}, ns="t1", token="")
    for ns in PLACES:
        status, _ = side.call("POST", "auth/up/login/ann", {"password": "pw-of-ann"}, ns=ns, token="")
        play.told.append((f"ann logs in in {ns or '-'}", status))
    play.each("GET", "sys/locked-users")
    accessor = side.ok("GET", "sys/auth", ns="t1")["up/"]["accessor"]
    play.each("GET", f"sys/locked-users?mount_accessor={accessor}")
    for ns in ("t2", "", "t1/kid", "t1"):
        play.ask("POST", f"sys/locked-users/{accessor}/unlock/ann", {}, ns=ns)
        play.ask("GET", "sys/locked-users", ns="t1")
