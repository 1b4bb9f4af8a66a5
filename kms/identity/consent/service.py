"""Consents: requests put away, consented to, and brought back (`kms.policy.release.Consents`)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import msgspec
from msgspec.structs import replace

from kms.clock import rfc3339
from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.consent.counting import concerns, lifetime, missing
from kms.identity.consent.demands import OperatorDemands
from kms.identity.consent.model import CONSENTS, Approval, Waiting
from kms.identity.consent.people import groups_of, known, persons
from kms.identity.keys import new_accessor
from kms.identity.model import Token
from kms.identity.service import TokenService
from kms.identity.store import TOKENS
from kms.operation import Call, MountRef, NamespaceRef, Operation, Result
from kms.policy import RESPONSE_WRAPPING, Decision, PolicyService
from kms.policy.model import ControlGroup
from kms.policy.release import Demand, Released
from kms.tables import Reader, Row, Store, Transaction

NOT_VALID: Final = "wrapping token is not valid or does not exist"
# What consent itself needs must not wait for consent.
_FREE: Final = ("sys.wrapping.", "sys.control_group.")
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def refused(detail: str) -> KmsError:
    """403 with a reason: whoever reads it knows of the request anyway, and has to know what it lacks."""
    return KmsError(ErrorKind.INVALID, detail, status=403)


class Consents:
    """One per process, safe to use from several threads.

    Args:
        operation: by name; None when this server has none of that name.
        resolve: path -> the mount that it lies below.
        operator: what the operator's configuration demands.
    """

    def __init__(
        self,
        store: Store,
        tokens: TokenService,
        policies: PolicyService,
        *,
        operation: Callable[[str], Operation | None],
        resolve: Callable[[str], tuple[MountRef, str] | None],
        operator: OperatorDemands,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._policies = policies
        self._operation = operation
        self._resolve = resolve
        self._operator = operator

    # -- for the road --------------------------------------------------------------------------------

    def demanded(self, call: Call, decision: Decision) -> Demand | None:
        """Whose consent a request needs: by its rule, by the operator and, for root, by any policy on the path."""
        name = call.operation.name
        if name.startswith(_FREE):
            return None
        groups = decision.control + self._operator.of(name, call.path)
        # Root could lift a policy anyway, and on record; so no policy shuts root out of the policies themselves.
        if call.principal.root and not name.startswith("policy."):
            groups += self._policies.guards(call.path, call.capability)
        return Demand(tuple(dict.fromkeys(groups))) if groups else None

    def defer(self, tx: Transaction, call: Call, demand: Demand) -> Result:
        """Put a request away; its wrapping token goes out."""
        now, principal = self._tokens.now(), call.principal
        if tx.get(TOKENS, principal.token_id) is None:
            raise refused("this request needs the consent of others, and a batch token cannot wait for it")
        ttl = lifetime(demand.groups, self._operator.max_ttl)
        born = Token(
            accessor=new_accessor(call.namespace.id),
            parent="",
            expires_at=now + ttl,
            policies=(RESPONSE_WRAPPING,),
            path=call.path,
            display_name=principal.display_name,
            created=now,
            creation_ttl=ttl,
            lease_ttl=ttl,
            explicit_max_ttl=ttl,
            namespace=call.namespace.id,
        )
        token = self._tokens.insert(tx, born)
        waiting = Waiting(
            accessor=born.accessor,
            operation=call.operation.name,
            path=call.path,
            capability=call.capability.value,
            mount_id=call.mount.id,
            arguments=_encoder.encode({"args": call.args, "extra": call.extra}),
            given=tuple(sorted(call.given)),
            bound=tuple(sorted(call.bound)),
            wrap_ttl=call.wrap_ttl,
            idempotency_key=call.idempotency_key,
            token=principal.token_id,
            token_accessor=principal.accessor,
            entity_id=principal.entity_id,
            shown=principal.display_name,
            persons=persons(self._tokens, tx, principal.token_id),
            groups=demand.groups,
            created=now,
            expires_at=born.expires_at,
        )
        tx.insert(CONSENTS, self._tokens.key_of(token), waiting)
        info = {
            "token": token,
            "accessor": born.accessor,
            "ttl": ttl,
            "creation_time": rfc3339(now),
            "creation_path": call.place,
        }
        return Result(wrap=info, subject={"wrapped_in": born.accessor})

    def released(self, call: Call) -> Released | None:
        """The request that an unwrapping stands for, made by whoever asked; None when it stands for an answer."""
        key = self._tokens.key_of(str(call.args.get("token") or call.credential))
        row = self._store.reader().get(CONSENTS, key)
        if row is None or self._tokens.live(key) is None:
            return None
        waiting = row.value
        facts = {
            "accessor": waiting.accessor,
            "approved_by": [one.shown for one in waiting.approvals],
            "approvers": [one.accessor for one in waiting.approvals],
            "unwrapped_by": call.principal.accessor,
        }

        def settle(demand: Demand | None) -> None:
            lacking = self._lacking(waiting, (demand.groups if demand is not None else ()) + waiting.groups)
            if lacking:
                raise refused(f"the request needs further consent: {', '.join(lacking)}")

        def claim(tx: Transaction) -> None:
            # Compared with what was settled: nobody's consent is added or used in between.
            held = tx.get(CONSENTS, key)
            if held is None or held.revision != row.revision or self._tokens.live(key, tx) is None:
                raise invalid(NOT_VALID)
            self._tokens.revoke(tx, key)
            if (left := tx.get(CONSENTS, key)) is not None:
                tx.delete(CONSENTS, left)

        return Released(self._again(waiting, call.peer), facts, settle, claim)

    def _again(self, waiting: Waiting, peer: str) -> Call:
        """The request as it was made, by its token as that is now."""
        operation = self._operation(waiting.operation)
        found = self._resolve(waiting.path)
        # The system's own mount has no id yet where nothing was asked before.
        moved = found is None or (found[0].id != waiting.mount_id and found[0].place != "sys/")
        if operation is None or found is None or moved:
            raise refused("what the request was about is not there any more")
        principal = self._tokens.principal_at(waiting.token, peer)
        if principal is None:
            raise refused("the token that asked is not in force any more; ask again")
        sent = _decoder.decode(waiting.arguments)
        return Call(
            operation=operation,
            path=waiting.path,
            mount=found[0],
            args=sent["args"],
            request_id="",
            peer=peer,
            door="",
            given=frozenset(waiting.given),
            bound=frozenset(waiting.bound),
            extra=sent["extra"],
            principal=principal,
            wrap_ttl=waiting.wrap_ttl,
            idempotency_key=waiting.idempotency_key,
            namespace=found[0].namespace,
        )

    def _lacking(self, waiting: Waiting, groups: tuple[ControlGroup, ...]) -> list[str]:
        return missing(
            waiting,
            dict.fromkeys(groups),
            waiting.capability,
            self._tokens.now(),
            lambda entity_id: groups_of(self._tokens, entity_id),
        )

    # -- for those who are asked -----------------------------------------------------------------------

    def find(self, accessor: str, namespace: NamespaceRef, reader: Reader | None = None) -> Row[Waiting]:
        """The request, made in this namespace, whose wrapping token has this accessor.

        Raises:
            KmsError(INVALID): there is no such token, or it wraps no request.
        """
        if not accessor:
            raise invalid("missing accessor")
        key = self._tokens.key_of_accessor(accessor, namespace, reader)
        if key is None:
            raise invalid("invalid accessor")
        row = (reader or self._store.reader()).get(CONSENTS, key)
        if row is None:
            raise invalid("invalid wrapping token")
        return row

    def waiting(self, namespace: NamespaceRef) -> list[Waiting]:
        """All requests of a namespace that wait, the oldest first."""
        now = self._tokens.now()
        rows = [row.value for row in self._store.reader().scan(CONSENTS) if row.value.expires_at > now]
        own = (one for one in rows if one.accessor.partition(".")[2] == namespace.id)
        return sorted(own, key=lambda one: (one.created, one.accessor))

    def approved(self, waiting: Waiting) -> bool:
        """Whether it has all consent that was demanded of it when it was made."""
        return not self._lacking(waiting, waiting.groups)

    def approve(self, tx: Transaction, accessor: str, call: Call) -> tuple[Waiting, bool]:
        """Add somebody's consent.

        Returns:
            The request, and whether anybody asked for this person's consent.

        Raises:
            KmsError(INVALID): the one who asked, or a token that stands for nobody.
            KmsError(INVALID): no such request, or this person has consented already.
        """
        principal = call.principal
        row = self.find(accessor, call.namespace, tx)
        waiting, names = row.value, persons(self._tokens, tx, principal.token_id)
        if not known(names):
            raise KmsError(
                ErrorKind.DENIED, "only people consent: log in by an auth method, or use an entity's token"
            )
        groups = groups_of(self._tokens, principal.entity_id) or ()
        asked = [
            group
            for group in waiting.groups
            for factor in group.factors
            if concerns(factor, principal.policies, groups) and waiting.capability in factor.capabilities
        ]
        if not asked:
            return waiting, False
        if set(names) & set(waiting.persons) and not any(group.self_allowed for group in asked):
            raise refused("token owner cannot be approver")
        if any(set(names) & set(one.persons) for one in waiting.approvals):
            raise invalid("approver has already authorized")
        added = Approval(
            persons=names,
            entity_id=principal.entity_id,
            shown=principal.display_name,
            accessor=principal.accessor,
            groups=groups,
            policies=principal.policies,
            at=self._tokens.now(),
        )
        return tx.replace(CONSENTS, row, replace(waiting, approvals=(*waiting.approvals, added))).value, True
