"""A slow second opinion on whole decisions, written from the documentation and nothing of kms.policy.

Rules are plain dictionaries as `tests.policy.fuzz` makes them; patterns are compared by `tests.policy.reference`.
"""

from __future__ import annotations

from typing import Any

from tests.policy import reference

Plain = dict[str, Any]


def allowed(rules: list[Plain], asked: Plain) -> bool:
    """Whether the request may go on."""
    living = [rule for rule in rules if not rule["expiration"] or rule["expiration"] > asked["now"]]
    listing = asked["capability"] == "list"
    path = asked["path"] + ("/" if listing and not asked["path"].endswith("/") else "")
    pattern = _deciding(living, path, listing=listing)
    counted = [rule for rule in living if rule["path"] == pattern and _counts(rule, asked)]
    grants = {grant for rule in counted for grant in rule["grants"]}
    if "deny" in grants or asked["capability"] not in grants or (asked["sudo"] and "sudo" not in grants):
        return False
    return _wrapped(counted, asked) and _parameters(counted, asked)


def _deciding(rules: list[Plain], path: str, *, listing: bool) -> str | None:
    triples = [(rule["policy"], rule["path"], frozenset(rule["grants"])) for rule in rules]
    plain = {one for _, one, _ in triples if not reference.has_segments(one) and not one.endswith("*")}
    if listing and path not in plain and path[:-1] in plain:
        return path[:-1]
    found = reference.deciding(triples, path)
    return found if found or not listing else reference.deciding(triples, path[:-1])


def _counts(rule: Plain, asked: Plain) -> bool:
    wanted = {"mfa": rule["mfa"], "tag": rule["tag"]}
    known = {"mfa": asked["mfa"], "tag": asked["tag"]}
    unsure = [name for name, value in wanted.items() if value and known[name] is None]
    wrong = [name for name, value in wanted.items() if value and known[name] not in {None, value}]
    return not wrong if "deny" in rule["grants"] else not wrong and not unsure


def _wrapped(rules: list[Plain], asked: Plain) -> bool:
    least = min([rule["least"] for rule in rules if rule["least"]], default=0)
    most = min([rule["most"] for rule in rules if rule["most"]], default=0)
    if not least and not most:
        return True
    return bool(asked["wrap"]) and asked["wrap"] >= least and not (most and asked["wrap"] > most)


def _parameters(rules: list[Plain], asked: Plain) -> bool:
    sent = asked["parameters"]
    if asked["capability"] in {"delete", "list"}:
        return True
    if any(name not in sent for rule in rules for name in rule["required"]):
        return False
    denied, permitted = _united(rules, "denied"), _united(rules, "allowed")
    if sent and "*" in denied:
        return False
    for name, value in sent.items():
        if name in denied and (not denied[name] or any(_like(entry, value) for entry in denied[name])):
            return False
    others = not permitted or "*" in permitted
    return all(
        others
        if name not in permitted
        else not permitted[name] or any(_like(e, value) for e in permitted[name])
        for name, value in sent.items()
    )


def _united(rules: list[Plain], which: str) -> dict[str, list[str]]:
    names = {name for rule in rules for name in rule[which]}
    lists = {name: [rule[which][name] for rule in rules if name in rule[which]] for name in names}
    return {name: [] if [] in found else [v for one in found for v in one] for name, found in lists.items()}


def _like(entry: str, value: str) -> bool:
    head, tail = entry[:1] == "*" and len(entry) > 1, entry[-1:] == "*" and len(entry) > 1
    bare = entry[1 if head else 0 : len(entry) - 1 if tail else None]
    if head and tail:
        return bare in value
    return value.endswith(bare) if head else value.startswith(bare) if tail else value == bare
