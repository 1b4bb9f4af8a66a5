"""What a rule makes of a listing: pages of a bounded length, and only keys that the caller could read.

Operations that know `limit` and `after` page themselves; for all others it is done here, so that a bound holds
everywhere that a rule sets one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Capability, Result
from kms.policy.decide import Arguments, page_size
from kms.policy.filtering import fill
from kms.policy.union import Decision

MaySee = Callable[[str, Capability], bool]


def bound(call: Call, decision: Decision) -> None:
    """Before the act: the longest page that the rule allows, where the caller asked for no shorter one."""
    if decision.limit and _pages(call) and not call.args.get("limit"):
        call.args["limit"] = decision.limit
        call.given |= {"limit"}


def shown(call: Call, decision: Decision, result: Result, may_see: MaySee) -> Result:
    """After the act: what the caller is shown of it.

    Raises:
        KmsError(INTERNAL): the answer is no plain listing, so that nobody can say what may be shown of it.
    """
    data = result.data
    if data is None or "keys" not in data:
        return result
    keys = [str(key) for key in data["keys"]]
    if decision.filter_path:
        if set(data) - {"keys", "key_info"}:
            raise KmsError(
                ErrorKind.INTERNAL, "this listing cannot be filtered; the rule that filters it is too wide"
            )
        keys = [key for key in keys if _visible(decision.filter_path, call, key, may_see)]
    if decision.limit and not _pages(call):
        keys = _page(call, decision, keys)
    return replace(result, data=_cut(data, keys), items=len(keys))


def _pages(call: Call) -> bool:
    return any(field.name == "limit" for field in call.operation.fields)


def _visible(template: str, call: Call, key: str, may_see: MaySee) -> bool:
    # A template is text of a policy, so what it says is said inside of that one's namespace, the caller's.
    here = call.principal.namespace.path
    path = here + fill(template, call.path.removeprefix(here), key)
    return may_see(path, Capability.LIST if key.endswith("/") else Capability.READ)


def _page(call: Call, decision: Decision, keys: list[str]) -> list[str]:
    after = call.extra.get("after")
    later = [key for key in keys if key > after] if isinstance(after, str) and after else keys
    return later[: page_size(Arguments(extra=call.extra)) or decision.limit]


def _cut(data: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    cut = {**data, "keys": keys}
    if isinstance(data.get("key_info"), Mapping):
        wanted = set(keys)
        cut["key_info"] = {key: info for key, info in data["key_info"].items() if key in wanted}
    return cut
