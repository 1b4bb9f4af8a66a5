"""Acts: namespaces, how they are named, their mounts, limits and locks."""

from __future__ import annotations

from tests.namespaces.play import Play
from tests.namespaces.sides import PLACES


def of_namespaces(play: Play) -> None:
    """sys/namespaces itself."""
    play.ask("LIST", "sys/namespaces")
    play.ask("LIST", "sys/namespaces", ns="t1")
    play.ask("LIST", "sys/namespaces", ns="t2")
    for name in ("t1", "t1/", "nothing", "t1/kid", "root"):
        play.ask("GET", f"sys/namespaces/{name}")
    play.ask("GET", "sys/namespaces/kid", ns="t1")
    play.ask("GET", "t1/sys/namespaces/kid")
    play.ask("POST", "sys/namespaces/t1", {"custom_metadata": {"team": "x", "b": "c"}})
    play.ask("PATCH", "sys/namespaces/t1", {"custom_metadata": {"team": None, "d": "e"}})
    play.ask("PATCH", "sys/namespaces/t1", {})
    play.ask("PATCH", "sys/namespaces/nothing", {"custom_metadata": {"a": "b"}})
    play.ask("POST", "sys/namespaces/t1", {"custom_metadata": {}})
    for value in (["b"], None, True, 1.5):
        play.ask("POST", "sys/namespaces/new", {"custom_metadata": {"a": value}})
    for name in (
        "root",
        "sys",
        "audit",
        "auth",
        "cubbyhole",
        "identity",
        "a%20b",
        "a+b",
        "a*b",
        "a/b",
        "transit",
    ):
        play.ask("POST", f"sys/namespaces/{name}", {})
    play.ask("POST", "sys/namespaces/transit", {}, ns="t1")
    play.ask("POST", "sys/namespaces", {})
    play.ask("DELETE", "sys/namespaces/nothing")
    play.ask("DELETE", "sys/namespaces/t1")
    play.ask("DELETE", "sys/namespaces/root")


def headers(play: Play) -> None:
    """How a namespace is named."""
    for header in (
        "t1",
        "/t1",
        "t1/",
        "/t1/",
        "t1/kid",
        "/",
        "root",
        "root/",
        "",
        "nothing",
        "t1/nothing",
        "T1",
        "root/t1",
    ):
        play.ask("GET", "sys/namespaces/kid", ns=header)
    for path in (
        "t1/sys/mounts/transit",
        "t1/kid/transit/keys/k",
        "t1/nothing",
        "t1",
        "t1/",
        "nothing/sys/mounts",
    ):
        play.ask("GET", path)
    play.ask("GET", "kid/transit/keys/k", ns="t1")
    play.ask("GET", "t1/transit/keys/k", ns="t1")
    play.ask("GET", "nothing", ns="t1")
    for path in ("sys/mounts", "sys/internal/ui/mounts", "identity/oidc/.well-known/keys"):
        play.ask("GET", path, ns="t1", token="", who="nobody")
        play.ask("GET", path, ns="nothing", token="", who="nobody")


def server_wide(play: Play) -> None:
    """What is the whole server's business, and what is not."""
    for verb, path in (
        ("GET", "sys/health"),
        ("GET", "sys/init"),
        ("POST", "sys/seal"),
        ("GET", "sys/in-flight-req"),
        ("GET", "sys/metrics"),
        ("GET", "sys/host-info"),
        ("GET", "sys/loggers"),
        ("GET", "sys/audit"),
        ("GET", "sys/config/cors"),
        ("GET", "sys/config/auditing/request-headers"),
        ("GET", "sys/config/state/sanitized"),
        ("GET", "sys/quotas/config"),
        ("LIST", "sys/quotas/rate-limit"),
        ("GET", "sys/generate-root/attempt"),
    ):
        play.ask(verb, path, {} if verb == "POST" else None, ns="t1")
        play.ask(verb, f"t1/{path}", {} if verb == "POST" else None)
    for verb, path, body in (
        ("GET", "sys/leader", None),
        ("POST", "sys/tools/hash", {"input": "YQ=="}),
        ("LIST", "sys/policies/password", None),
        ("GET", "sys/policy", None),
        ("GET", "sys/internal/ui/resultant-acl", None),
        ("GET", "sys/leases/count?type=irrevocable", None),
        ("GET", "sys/locked-users", None),
        ("LIST", "auth/token/roles", None),
    ):
        play.ask(verb, path, body, ns="t1")


def mounts(play: Play) -> None:
    """Mounts and namespaces share one tree of paths."""
    for path, ns in (("kid/x", "t1"), ("kid", "t1"), ("t1", ""), ("t1/x", ""), ("transit", "t1")):
        play.ask("POST", f"sys/mounts/{path}", {"type": "transit"}, ns=ns)
    play.ask("GET", "sys/mounts/nothing", ns="t1")
    play.ask("DELETE", "sys/mounts/nothing", ns="t1")
    play.ask("POST", "sys/mounts/t1/transit/tune", {"description": "d"}, ns="t2")
    play.ask("POST", "sys/mounts/transit/tune", {"description": "d"}, ns="t1")
    play.ask("POST", "sys/auth/more", {"type": "userpass"}, ns="t1")
    play.ask("DELETE", "sys/auth/more", ns="t2")
    play.ask("GET", "sys/auth/more", ns="t1")
    play.ask("DELETE", "sys/auth/more", ns="t1")


def quotas(play: Play) -> None:
    """Rules for a namespace, a mount in it, and all below."""
    side = play.side
    for name, rule in (
        ("a", {"path": "t1/", "rate": 1000}),
        ("b", {"path": "t1", "rate": 1000}),
        ("c", {"path": "t1/transit", "rate": 1000}),
        ("d", {"path": "nothing/", "rate": 1000}),
        ("e", {"path": "t1/nothing/", "rate": 1000}),
        ("f", {"path": "t1/kid/transit/", "rate": 1000}),
        ("g", {"path": "t1/auth/up", "rate": 1000, "role": "ann"}),
    ):
        play.ask("POST", f"sys/quotas/rate-limit/{name}", rule)
        play.ask("GET", f"sys/quotas/rate-limit/{name}")
        play.ask("DELETE", f"sys/quotas/rate-limit/{name}")
    for inherits in (False, True):
        rule = {"path": "t1/", "rate": 2, "interval": "60s", "inheritable": inherits}
        side.ok("POST", f"sys/quotas/rate-limit/x-{inherits}", rule)
        for ns in ("t1", "t1/kid", "t2", ""):
            statuses = [side.call("GET", "sys/internal/ui/mounts", ns=ns)[0] for _ in range(4)]
            play.told.append((f"limited in t1, inheritable {inherits}, asked in {ns or '-'}", statuses))
        play.ask("GET", "transit/keys/k", ns="t1")
        side.ok("DELETE", f"sys/quotas/rate-limit/x-{inherits}")


def locks(play: Play) -> None:
    """A namespace that is locked."""
    side = play.side
    held = side.token("t1", "all")["client_token"]
    for at, below in (("", "/t1"), ("t1", "")):
        status, answer = side.call("POST", f"sys/namespaces/api-lock/lock{below}", {}, ns=at)
        play.told.append((f"lock {below} in {at}", (status, sorted(answer["data"]))))
        for ns in PLACES:
            play.ask("GET", "transit/keys/k", ns=ns)
            play.ask("GET", "sys/mounts/transit", ns=ns, token=held, who="all of t1")
        play.ask("POST", "auth/up/login/ann", {"password": "pw-of-ann"}, ns="t1", token="", who="nobody")
        play.ask("GET", "sys/namespaces/t1")
        play.ask("POST", "sys/namespaces/api-lock/lock/t1", {})
        play.ask("POST", "sys/namespaces/api-lock/unlock/t1", {"unlock_key": "wrong"})
        play.ask(
            "POST",
            "sys/namespaces/api-lock/unlock",
            {"unlock_key": answer["data"]["unlock_key"]},
            ns="t1",
            token=held,
            who="all of t1",
        )
        play.ask("POST", "sys/namespaces/api-lock/unlock/t1", {})
    play.ask("POST", "sys/namespaces/api-lock/lock/t1", {}, ns="t2")
    play.ask("POST", "sys/namespaces/api-lock/lock", {})
    play.ask("POST", "sys/namespaces/api-lock/lock/nothing", {})
