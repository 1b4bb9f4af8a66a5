"""Acts: tokens, policies, leases and wrapped answers of one namespace used in another."""

from __future__ import annotations

from tests.namespaces.play import Play
from tests.namespaces.sides import PLACES

OWN_READ = 'path "transit/keys/k" { capabilities = ["read"] }'


def tokens(play: Play) -> None:
    """Tokens of one namespace used in another."""
    side = play.side
    held = {ns: side.token(ns, "own") for ns in PLACES}
    reach = {ns: side.token(ns, "all") for ns in PLACES}
    for ns, auth in held.items():
        who = f"own of {ns or '-'}"
        play.each("GET", "auth/token/lookup-self", token=auth["client_token"], who=who)
        play.each("GET", "transit/keys/k", token=auth["client_token"], who=who)
        play.each("GET", "sys/mounts/transit", token=auth["client_token"], who=who)
        play.each("LIST", "auth/token/roles", token=auth["client_token"], who=who)
        play.each("GET", "cubbyhole/x", token=auth["client_token"], who=who)
        play.each(
            "POST",
            "sys/capabilities-self",
            {"paths": ["transit/keys/k", "kid/transit/keys/k"]},
            token=auth["client_token"],
            who=who,
        )
        play.each("GET", "sys/internal/ui/namespaces", token=auth["client_token"], who=who)
    for ns, auth in reach.items():
        who = f"all of {ns or '-'}"
        play.each("GET", "transit/keys/k", token=auth["client_token"], who=who)
        play.each("POST", "auth/token/renew-self", {"increment": "1h"}, token=auth["client_token"], who=who)
        play.each("GET", "sys/internal/ui/namespaces", token=auth["client_token"], who=who)
    for ns, auth in held.items():
        play.each("POST", "auth/token/lookup-accessor", {"accessor": auth["accessor"]})
        play.each(
            "POST", "sys/capabilities-accessor", {"accessor": auth["accessor"], "paths": ["transit/keys/k"]}
        )
        play.each("POST", "sys/capabilities", {"token": auth["client_token"], "paths": ["transit/keys/k"]})
        sibling = reach["t2" if ns != "t2" else "t1"]["client_token"]
        play.ask(
            "POST",
            "auth/token/revoke",
            {"token": auth["client_token"]},
            ns=ns,
            token=sibling,
            who="a sibling",
        )
        play.ask(
            "GET", "auth/token/lookup-self", ns=ns, token=auth["client_token"], who="whom a sibling revoked"
        )
    for body in (
        {"policies": ["root"]},
        {"policies": ["own"], "id": "chosen"},
        {"policies": ["nothing"]},
        {},
    ):
        play.ask("POST", "auth/token/create", body, ns="t1")
    play.ask(
        "POST",
        "auth/token/create",
        {"policies": ["own"]},
        ns="t1/kid",
        token=reach["t1"]["client_token"],
        who="all of t1",
    )
    play.ask(
        "POST",
        "auth/token/create",
        {"policies": ["own"]},
        ns="t2",
        token=reach["t1"]["client_token"],
        who="all of t1",
    )
    for ns in ("t1", ""):
        made = side.ok(
            "POST", "auth/token/create", {"policies": ["own"]}, ns="t1/kid", token=reach[ns]["client_token"]
        )
        side.call("POST", "auth/token/revoke-self", {}, token=reach[ns]["client_token"])
        play.ask(
            "GET",
            "auth/token/lookup-self",
            ns="t1/kid",
            token=made["client_token"],
            who="child of a revoked one",
        )
    token = side.token("t1", "own")["client_token"]
    other = side.token("t2", "own")["client_token"]
    play.ask("GET", "sys/mounts/transit", ns="t1", token=token[:-7], who="a token cut short")
    play.ask(
        "GET", "sys/mounts/transit", ns="t1", token=token[:-7] + other[-7:], who="a token with another's end"
    )


def policies(play: Play) -> None:
    """Policies belong to one namespace."""
    side = play.side
    play.each("LIST", "sys/policies/acl")
    play.each("GET", "sys/policies/acl/own")
    play.ask("DELETE", "sys/policies/acl/default", ns="t1")
    play.ask("DELETE", "sys/policies/acl/root", ns="t1")
    play.ask("PUT", "sys/policies/acl/root", {"policy": OWN_READ}, ns="t1")
    play.ask("PUT", "sys/policies/acl/mine", {"policy": OWN_READ}, ns="t1")
    play.each("GET", "sys/policies/acl/mine")
    for name, text in (
        ("kid", 'path "kid/transit/keys/k" { capabilities = ["read"] }'),
        ("up", 'path "../t2/transit/keys/k" { capabilities = ["read"] }'),
        ("side", 'path "t2/transit/keys/k" { capabilities = ["read"] }'),
        ("plus", 'path "+/transit/keys/k" { capabilities = ["read"] }'),
        ("star", 'path "*" { capabilities = ["read"] }'),
        ("slash", 'path "/transit/keys/k" { capabilities = ["read"] }'),
    ):
        for ns in ("", "t1"):
            side.ok("PUT", f"sys/policies/acl/{name}", {"policy": text}, ns=ns)
            token = side.token(ns, name)["client_token"]
            play.each("GET", "transit/keys/k", token=token, who=f"{name} of {ns or '-'}")
    password = 'length = 20\nrule "charset" { charset = "ab" }'
    play.ask("PUT", "sys/policies/password/pp", {"policy": password}, ns="t1")
    play.each("LIST", "sys/policies/password")
    play.each("GET", "sys/policies/password/pp")


def leases(play: Play) -> None:
    """Leases of one namespace asked for in another."""
    side = play.side
    everyone = {ns: side.token(ns, "all")["client_token"] for ns in PLACES}

    def login(ns: str) -> tuple[str, str]:
        auth = side.ok("POST", "auth/up/login/ann", {"password": "pw-of-ann"}, ns=ns, token="")
        below = "auth/up/login/ann"
        keys = side.ok("LIST", f"sys/leases/lookup/{below}", ns=ns)["keys"]
        return auth["client_token"], f"{below}/{keys[0]}"

    leases = {ns: login(ns)[1] for ns in PLACES}
    for prefix in ("", "/auth", "/auth/up/login/ann", "/t1", "/t1/auth", "/kid"):
        play.each("LIST", f"sys/leases/lookup{prefix}")
    for lease in leases.values():
        play.each("POST", "sys/leases/lookup", {"lease_id": lease})
        play.each("POST", "sys/leases/renew", {"lease_id": lease})
        for ns in PLACES:
            play.ask(
                "POST",
                "sys/leases/lookup",
                {"lease_id": lease},
                ns=ns,
                token=everyone[ns],
                who=f"all of {ns}",
            )
    for lease in ("auth/up/login/ann/h" + "0" * 64, "auth/up/login/ann/x.abcdef", "t1/" + leases["t1"]):
        play.ask("POST", "sys/leases/lookup", {"lease_id": lease}, ns="t1")
    play.ask(
        "POST",
        "sys/leases/revoke",
        {"lease_id": leases["t1"]},
        ns="t2",
        token=everyone["t2"],
        who="a sibling",
    )
    play.ask("POST", "sys/leases/lookup", {"lease_id": leases["t1"]}, ns="t1")
    play.ask("POST", "sys/leases/revoke", {"lease_id": leases["t1"]}, ns="t1")
    play.ask("POST", "sys/leases/lookup", {"lease_id": leases["t1"]}, ns="t1")
    for verb in ("revoke-prefix", "revoke-force"):
        tokens = {ns: login(ns)[0] for ns in PLACES}
        for ns in ("t1", "", "t2"):
            play.ask("POST", f"sys/leases/{verb}/auth/up", {}, ns=ns)
            for of, token in tokens.items():
                status, _ = side.call("GET", "auth/token/lookup-self", token=token, ns=of)
                play.told.append((f"token of {of or '-'} after {verb} in {ns or '-'}", status))
    side.ok("POST", "auth/up/users/ann", {"token_policies": "own"}, ns="t1")


def wrapping(play: Play) -> None:
    """What was wrapped in one namespace and comes out in another."""
    side = play.side
    reach = {ns: side.token(ns, "all")["client_token"] for ns in PLACES}
    for ns in PLACES:
        for at in PLACES:
            made = side.wrapped("sys/wrapping/wrap", {"a": "b"}, ns=ns)
            play.ask("POST", "sys/wrapping/lookup", {"token": made["token"]}, ns=at)
            play.ask(
                "POST",
                "sys/wrapping/unwrap",
                {"token": made["token"]},
                ns=at,
                token=reach[at],
                who=f"all of {at}",
            )
