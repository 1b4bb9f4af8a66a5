"""The end of every login: a token, in the commit that spends the proof.

A token of a method has no parent among the tokens, but it hangs on a row that stands for the mount ("issuer"), which
nobody can present. So removing the mount puts all its tokens out of force in one small commit, by the same walk
up the chain that makes children die with their parents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.entities.entrance import enter, follow
from kms.identity.entities.model import Standing
from kms.identity.entities.standing import standing_of
from kms.identity.keys import new_accessor
from kms.identity.lifetimes import Lifetime, lifetime
from kms.identity.methods.params import KeptParams, TokenParams, kind_of
from kms.identity.mfa.gate import SecondFactor, codes_of, passed, refused
from kms.identity.mfa.store import WAITING
from kms.identity.model import BATCH, ISSUER, NEVER, SERVICE, Token
from kms.identity.service import TokenService
from kms.identity.shown import auth_object, united
from kms.identity.store import TOKENS
from kms.identity.within import Writing
from kms.namespaces import scoped
from kms.operation import Call, Change, MountRef, NamespaceRef, Principal, Result
from kms.policy import DEFAULT
from kms.tables import Reader, Transaction

_WORLD: Final = "permission denied"


@dataclass(frozen=True)
class Proved:
    """Who logged in.

    Args:
        name: of the user or role.
        params: of the user or role.
        meta: what the token carries.
        display_name: for people.
        cidrs: networks that this proof is bound to; they replace the role's.
        alias: what the caller is called at this mount, in one spelling: the entity of this name is found or made, and
            the token is its. Every method gives it: the user, the role ID, the claim, the common name. "" for nobody.
        alias_metadata: what the method knows about the caller; templates and entity reads show it.
        groups: what the method says the caller is in (claim, search, certificate field), as the source spells it. Groups
            of identity with such an alias at this mount take the caller in, and let go of it at a login without.
        proof: see `Token.proof`.
        renewable: whether the token can be renewed at all; batch tokens never are.
    """

    name: str
    params: TokenParams
    meta: dict[str, str]
    display_name: str
    cidrs: tuple[str, ...] = ()
    alias: str = ""
    alias_metadata: dict[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    proof: str = ""
    renewable: bool = True


class Logins:
    """One per process. A method verifies its proof, says in a `Proved` whose it was, and calls `issue`.

    Args:
        mount_at: the auth mount with this id, as it is now; None when it is gone.
        params_of: (reader, mount, name) -> the parameters of that user or role as they are now; None when gone.
        above: a namespace -> itself and all above it.
        again: (type of mount, call, token): raises KmsError where the method wants its proof again and does not get it.
            Where it asked its source, the groups that the caller is in now; it has compared the policies then.
    """

    def __init__(
        self,
        tokens: TokenService,
        mount_at: Callable[[str], MountRef | None],
        params_of: Callable[[Reader, MountRef, str], TokenParams | None],
        above: Callable[[NamespaceRef], Iterable[NamespaceRef]],
        again: Callable[[str, Call, Token], tuple[str, ...] | None] = lambda _kind, _call, _token: None,
    ) -> None:
        self._tokens = tokens
        self.factor = SecondFactor(tokens.digest_of, tokens.now, above)
        self._mount_at = mount_at
        self._params_of = params_of
        self._again = again

    def issue(self, tx: Transaction, call: Call, who: Proved) -> Result:
        """The token of a login whose proof holds. The caller has made sure in `tx` that it still does."""
        issuer = ISSUER + call.mount.id
        if tx.get(TOKENS, issuer) is None:
            tx.insert(TOKENS, issuer, _issuer_row(call))
        params = who.params
        cidrs = who.cidrs or params.token_bound_cidrs
        if params.token_strictly_bind_ip:
            cidrs = (call.peer,)
        policies = set(params.token_policies)
        if not params.token_no_default_policy:
            policies.add(DEFAULT)
        granted = _granted(params, call.mount, wanted=0, explicit_max=params.token_explicit_max_ttl)
        now = self._tokens.now()
        standing = (
            enter(tx, call.mount, who.alias, who.alias_metadata, who.groups, now) if who.alias else None
        )
        service = kind_of(params, call.mount.token_type) == SERVICE
        born = Token(
            accessor=new_accessor(call.mount.namespace.id) if service else "",
            type=SERVICE if service else BATCH,
            parent=issuer,
            expires_at=now + granted.ttl,
            policies=tuple(sorted(policies)),
            path=call.path,
            display_name=who.display_name,
            created=now,
            meta=who.meta or None,
            creation_ttl=granted.ttl,
            lease_ttl=granted.ttl,
            explicit_max_ttl=params.token_explicit_max_ttl,
            period=params.token_period if service else 0,
            num_uses=params.token_num_uses,
            renewable=service and who.renewable,
            bound_cidrs=cidrs,
            login=f"{call.mount.id}/{who.name}",
            proof=who.proof,
            entity_id=standing.entity.id if standing is not None else "",
            namespace=call.mount.namespace.id,
        )
        names = self.factor.needed(tx, call.mount, standing)
        if not names:
            return self._hand_out(tx, born, standing, granted.warnings)
        if not call.mfa:
            return self.factor.put_away(call, tx, born, names, granted.warnings)
        if self.factor.failure(tx, born.entity_id, names, codes_of(call.mfa)):
            return self._failed(born, refused())
        return self._hand_out(tx, passed(born, now), standing, granted.warnings)

    def _hand_out(
        self, tx: Transaction, born: Token, standing: Standing | None, warnings: tuple[str, ...]
    ) -> Result:
        token = self._tokens.insert(tx, born)
        return Result(
            auth=auth_object(born, token, standing.policies if standing is not None else ()),
            warnings=warnings,
            subject={
                "accessor": born.accessor,
                "display_name": born.display_name,
                "ttl": born.lease_ttl,
                "entity": born.entity_id,
            },
        )

    @staticmethod
    def _failed(born: Token, refusal: KmsError) -> Result:
        subject: dict[str, str | int] = {"entity": born.entity_id, "display_name": born.display_name}
        return Result(refusal=refusal, subject=subject | {"mfa": "failed"})

    def validate(self, call: Call) -> Change:
        """The second step of a login: its token, for the codes of all second factors that it lacks."""
        request_id = str(call.args.get("mfa_request_id") or "")
        if not request_id:
            raise invalid("missing request ID")
        codes = _payload(call.args.get("mfa_payload"))

        def write(tx: Transaction) -> Result:
            own = Writing(tx, call.namespace)
            row = own.get(WAITING, self.factor.row_key(request_id))
            if row is None or row.value.expires_at <= self._tokens.now():
                raise invalid("invalid request ID")
            born = row.value.token
            why = self.factor.failure(tx, born.entity_id, row.value.enforcements, codes)
            if why:
                return self._failed(born, refused(why))
            own.delete(WAITING, row)
            standing = standing_of(tx, born.entity_id) if born.entity_id else None
            if born.entity_id and (standing is None or standing.entity.disabled):
                raise elsewhere()
            return self._hand_out(tx, passed(born, self._tokens.now()), standing, row.value.warnings)

        return Change(write)

    def without_token(self, mount: MountRef, alias: str, shown: str, policies: tuple[str, ...]) -> Principal:
        """Who has proved to be this alias and gets no token: for protocols that prove it with each request.

        An entity that the alias has adds its policies; none is made.

        Raises:
            KmsError(UNAUTHENTICATED): the entity is disabled.
        """
        standing = self._tokens.directory.of_alias(mount, alias)
        if self.factor.needed(self._tokens.reader(), mount, standing):
            raise elsewhere()  # such a protocol has no place for a second factor
        if standing is None:
            return Principal(
                accessor=shown,
                display_name=shown,
                policies=_within(mount, policies),
                namespace=mount.namespace,
            )
        if standing.entity.disabled:
            raise elsewhere()
        return Principal(
            accessor=shown,
            display_name=shown,
            policies=_within(mount, united(policies, standing.policies)),
            namespace=mount.namespace,
            entity_id=standing.entity.id,
            values=standing.values,
        )

    def prove_again(self, call: Call, token: Token) -> tuple[str, ...] | None:
        """Before a renewal, outside any transaction; for `renewal`. Raises KmsError when the token's method refuses."""
        mount = self._mount_at(token.login.partition("/")[0]) if token.login else None
        return self._again(mount.type, call, token) if mount is not None else None

    def renewal(
        self, tx: Transaction, token: Token, increment: int, groups: tuple[str, ...] | None = None
    ) -> Lifetime:
        """How long a renewal of a login's token lasts.

        Args:
            tx: of the renewal.
            token: as it is.
            increment: seconds that are asked for, 0 for the default.
            groups: what `prove_again` gave.

        Raises:
            KmsError(INVALID): its mount, user or role is gone, or grants other policies now.
        """
        mount_id, _, name = token.login.partition("/")
        mount = self._mount_at(mount_id)
        params = self._params_of(tx, mount, name) if mount is not None else None
        if mount is None or params is None:
            raise invalid(f"{name} does not exist any more; the token is not renewed")
        if isinstance(params, KeptParams):
            params = _kept(token)
        if groups is None and set(params.token_policies) | {DEFAULT} != set(token.policies) | {DEFAULT}:
            raise invalid("policies have changed, not renewing")
        if groups is not None and token.entity_id:
            follow(tx, mount, token.entity_id, groups)
        return _granted(
            params,
            mount,
            wanted=increment,
            explicit_max=token.explicit_max_ttl,
            age=self._tokens.now() - token.created,
        )

    def retire_mount(self, tx: Transaction, mount_id: str) -> str:
        """Put every token of a mount out of force. Returns the row key of its issuer."""
        self._tokens.revoke(tx, ISSUER + mount_id)
        return ISSUER + mount_id


def _payload(given: object) -> dict[str, list[str]]:
    """Method -> codes; a single code may stand for a list of one."""
    found: dict[str, list[str]] = {}
    for name, codes in (given or {}).items() if isinstance(given, dict) else ():
        listed = codes if isinstance(codes, list) else [codes]
        found[str(name)] = [code for code in listed if isinstance(code, str)]
    return found


def _issuer_row(call: Call) -> Token:
    return Token(
        accessor="",
        parent="",
        expires_at=NEVER,
        policies=(),
        path=call.mount.path,
        display_name="",
        created=call.now,
    )


def _kept(token: Token) -> TokenParams:
    """The terms that a token has, as if a role had them."""
    return TokenParams(token_policies=token.policies, token_period=token.period, token_ttl=token.creation_ttl)


def _within(mount: MountRef, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(scoped(mount.namespace, name) for name in names)


def _granted(
    params: TokenParams, mount: MountRef, *, wanted: int, explicit_max: int, age: float = 0.0
) -> Lifetime:
    bounds = (params.token_max_ttl, mount.max_lease_ttl)
    return lifetime(
        wanted or params.token_ttl or mount.default_lease_ttl,
        period=params.token_period,
        explicit_max=explicit_max,
        most=min((bound for bound in bounds if bound), default=0),
        age=age,
    )


def elsewhere() -> KmsError:
    """The proof is good and comes from an address that may not use it."""
    return KmsError(ErrorKind.UNAUTHENTICATED, _WORLD)
