"""Several tokens behind the one port that the service knows.

What is where is not written down: a token is asked once whether it holds an object, and objects never move. So the rows of the
service name CKA_IDs as before, and two relations are served alike: tokens with keys of their own, and copies.

    a use of a key      by a token that holds it; if that fails, once by another that does. Using a key twice does no harm
    a birth             in the first token that answers; never repeated: the caller plans it and asks afterwards
    a key nowhere       refused with the names of the tokens that are away (AwayError), as long as one is
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.hsm import vectors
from kms.hsm.forms import Form
from kms.hsm.hsm import Hsm, accepting
from kms.hsm.importing import Parcel
from kms.hsm.members import House, MemberGate, houses
from kms.hsm.model import HsmConfig, KeyRef, KeySpec, Purpose, Resident, Scheme, TokenInfo, Wrapped
from kms.hsm.module import unavailable
from kms.hsm.ours import Ours
from kms.ids import CkaId

T = TypeVar("T")


class AwayError(KmsError):
    """What was asked for is in a token that does not answer now. The detail names it and is for the caller."""

    def __init__(self, names: Iterable[str]) -> None:
        tokens = ", ".join(f'"{name}"' for name in names)
        detail = f"this key is in the HSM token {tokens}, which does not answer; try again"
        super().__init__(ErrorKind.HSM_UNAVAILABLE, detail)
        self.for_caller = True


class Names(Protocol):
    """Which tokens may be used, by name."""

    def names(self) -> Container[str]:
        """As far as this process has heard."""
        ...

    def clear(self) -> None:
        """Look again when asked the next time."""
        ...


@dataclass(frozen=True)
class Member:
    """One token: its name in the configuration, and the verbs for it alone."""

    name: str
    hsm: Hsm
    gate: MemberGate

    @property
    def up(self) -> bool:
        """Whether it answers, as far as is known."""
        return self.gate.up


def home_of(ref: KeyRef) -> CkaId:
    """The token object that a use of a key needs: itself, or what it is wrapped under."""
    return ref.cka_id if isinstance(ref, Resident) else ref.wrapping


class HsmGroup(Hsm):
    """Use `open_group`."""

    def __init__(
        self,
        members: Sequence[Member],
        built: Sequence[House],
        enrolled: Names,
        refuse: Callable[[KeyRef], None],
    ) -> None:
        super().__init__(members[0].gate)
        self._members = tuple(members)
        self._houses = tuple(built)
        self._enrolled = enrolled
        self._refuse = refuse
        self._seen: dict[CkaId, frozenset[str]] = {}
        self._lock = threading.Lock()

    # --- the tokens ---

    def at(self, name: str) -> Hsm:
        for member in self._members:
            if name in ("", member.name):
                return member.hsm
        raise KmsError(ErrorKind.INVALID, f'the configuration names no HSM token "{name}"')

    def away(self) -> dict[str, str]:
        return {
            member.name: member.gate.problem.detail if member.gate.problem else ""
            for member in self._ours()
            if not member.up
        }

    def order(self, ids: Sequence[CkaId]) -> list[CkaId]:
        if len(ids) == 1:
            return list(ids)
        here = [cka_id for member in self._here() for cka_id in ids if self._holds(member, cka_id)]
        return list(dict.fromkeys([*here, *ids]))

    def reachable(self, cka_id: CkaId) -> bool:
        return any(self._holds(member, cka_id) for member in self._here())

    def _ours(self) -> list[Member]:
        enrolled = self._enrolled.names()
        return [member for member in self._members if member.name in enrolled]

    def _here(self) -> list[Member]:
        """Tokens that answer, as far as is known, surely before perhaps; all of them when none does, so that one says why."""
        ours = self._ours()
        return sorted((member for member in ours if member.up), key=lambda member: member.gate.lost) or ours

    def _holds(self, member: Member, cka_id: CkaId) -> bool:
        """Whether it is known, or the token says, that it holds this object. False also when it does not answer."""
        if member.name in self._seen.get(cka_id, ()):
            return True
        try:
            if not member.hsm.exists(cka_id):
                return False
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise
            return False
        with self._lock:
            self._seen[cka_id] = self._seen.get(cka_id, frozenset()) | {member.name}
        return True

    def _holders(self, cka_id: CkaId) -> Iterator[Member]:
        """Tokens with this object, those first that are known to have it.

        Raises:
            AwayError: none that answers has it, and one is away.
        """
        known = self._seen.get(cka_id, frozenset())
        here = sorted(self._here(), key=lambda member: member.name not in known)
        found = False
        for member in here:
            if self._holds(member, cka_id):
                found = True
                yield member
        if found:
            return
        self._enrolled.clear()  # perhaps one was enrolled that this process has not heard of
        # What was not asked, or did not answer, is away, even if it is back by now: the next call will find it.
        away = [member.name for member in self._ours() if member not in here or member.gate.lost]
        if away:
            raise AwayError([name for name in away if name in known] or away)
        yield here[0]  # it says what is wrong

    def _anyone(self) -> Iterator[Member]:
        yield from self._here()

    def _try(self, members: Iterator[Member], act: Callable[[Hsm], T]) -> T:
        """Let the first of them do it, and once another, or the same if there is none and it is back at once."""
        failed: list[tuple[Member, KmsError]] = []
        for member in members:
            try:
                return act(member.hsm)
            except KmsError as error:
                if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                    raise
                failed.append((member, error))
            if len(failed) > 1:
                break
        if not failed:
            raise AwayError(self.away())
        member, reason = failed[-1]
        if len(failed) == 1 and member.gate.lost and member.gate.back():
            return act(member.hsm)
        if member.gate.lost:
            raise AwayError([member.name]) from reason
        raise reason

    def _ask(self, act: Callable[[Hsm], T | None]) -> T | None:
        """The first answer that is one; None only when all tokens were asked."""
        here = self._here()
        for member in here:
            found = act(member.hsm)
            if found is not None:
                return found
        if away := [member.name for member in self._ours() if member not in here]:
            raise AwayError(away)
        return None

    def _use(self, ref: KeyRef, act: Callable[[Hsm], T]) -> T:
        self._refuse(ref)
        return self._try(self._holders(home_of(ref)), act)

    # --- the verbs ---

    def close(self) -> None:
        for house in self._houses:
            house.close()

    @property
    def info(self) -> TokenInfo:
        return self._try(self._anyone(), lambda hsm: hsm.info)

    def mechanisms(self) -> frozenset[str]:
        return self._try(self._anyone(), Hsm.mechanisms)

    def check(self) -> None:
        """Use the sentinel of each token.

        Raises:
            KmsError(HSM_UNAVAILABLE): one does not answer, though the others may do its work.
        """
        for member in self._here():
            member.hsm.check()
        for name, why in self.away().items():
            raise unavailable(f'the HSM token "{name}" does not answer: {why or "it was lost just now"}')

    def self_test(self, *, thorough: bool = False) -> list[str]:
        return [line for member in self._here() for line in member.hsm.self_test(thorough=thorough)]

    def random(self, n: int) -> bytes:
        return self._try(self._anyone(), lambda hsm: hsm.random(n))

    def generate(self, purpose: Purpose, spec: KeySpec, cka_id: CkaId, label: str) -> bytes:
        return self._here()[0].hsm.generate(purpose, spec, cka_id, label)

    def public_key(self, cka_id: CkaId) -> bytes:
        return self._try(self._holders(cka_id), lambda hsm: hsm.public_key(cka_id))

    def exists(self, cka_id: CkaId) -> bool:
        """Whether a token holds the key. False only when all answered.

        Raises:
            AwayError: those that answer do not have it, and one is away.
        """
        return self._ask(lambda hsm: hsm.exists(cka_id) or None) is not None

    def adopt(self, purpose: Purpose, spec: KeySpec, cka_id: CkaId) -> bytes | None:
        return self._ask(lambda hsm: hsm.adopt(purpose, spec, cka_id))

    def bring(self, parcel: Parcel, ref: Resident, label: str) -> bytes:
        return next(self._holders(parcel.wrapping)).hsm.bring(parcel, ref, label)

    def adopt_import(self, ref: Resident, public: bytes) -> bytes | None:
        return self._ask(lambda hsm: hsm.adopt_import(ref, public))

    def oaep(self, purpose: Purpose, cka_id: CkaId | None = None) -> tuple[str, ...]:
        """Of the token that holds the key.

        Raises:
            AwayError: it does not answer.
        """
        members = self._anyone() if cka_id is None else self._holders(cka_id)
        return self._try(members, lambda hsm: hsm.oaep(purpose))

    def destroy(self, cka_id: CkaId) -> None:
        """Destroy a key in every token that holds it.

        Raises:
            AwayError: one is away, and may hold it. Those that answer have been asked.
        """
        here = self._here()
        for member in here:
            member.hsm.destroy(cka_id)
        known = self._seen.get(cka_id, frozenset())
        away = [member.name for member in self._ours() if member not in here]
        if away and (not known or known & set(away)):
            raise AwayError(away)

    def objects(self, label_prefix: str) -> list[tuple[CkaId, str]]:
        return list(dict.fromkeys(row for member in self._here() for row in member.hsm.objects(label_prefix)))

    def root_form(self, purpose: Purpose, spec: KeySpec) -> Form:
        """Each token has forms of its own: `at(name)` knows which is meant."""
        raise TypeError(f"the form of {purpose}, {spec} is asked of one token")

    def seal(self, root: CkaId, plaintext: bytes, aad: bytes) -> bytes:
        return self._try(self._holders(root), lambda hsm: hsm.seal(root, plaintext, aad))

    def unseal(self, root: CkaId, sealed: bytes, aad: bytes) -> bytes:
        return self._try(self._holders(root), lambda hsm: hsm.unseal(root, sealed, aad))

    def can_wrap(self, spec: KeySpec, wrapping: CkaId | None = None) -> bool:
        """Of the token that holds the root. Where none that answers does, of the one that makes resident keys then."""
        here = self._here()
        holders = [member for member in here if wrapping is not None and self._holds(member, wrapping)]
        return self._try(iter(holders or here), lambda hsm: hsm.can_wrap(spec))

    def generate_wrapped(
        self, purpose: Purpose, spec: KeySpec, wrapping: CkaId, context: bytes, *, joint: bool = False
    ) -> Wrapped:
        # Nothing of it stays in the token, so another that holds the root may do it.
        return self._try(
            self._holders(wrapping),
            lambda hsm: hsm.generate_wrapped(purpose, spec, wrapping, context, joint=joint),
        )

    def retire_unused(self, keep: int = 0) -> None:
        for member in self._here():
            member.hsm.retire_unused(keep)

    def encrypt(self, ref: KeyRef, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        return self._use(ref, lambda hsm: hsm.encrypt(ref, nonce, plaintext, aad))

    def decrypt(self, ref: KeyRef, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        return self._use(ref, lambda hsm: hsm.decrypt(ref, nonce, data, aad))

    def mac(self, ref: KeyRef, hash_name: str, data: bytes) -> bytes:
        return self._use(ref, lambda hsm: hsm.mac(ref, hash_name, data))

    def cmac(self, ref: KeyRef, data: bytes) -> bytes:
        return self._use(ref, lambda hsm: hsm.cmac(ref, data))

    def decrypt_oaep(self, ref: KeyRef, hash_name: str, block: bytes) -> bytes:
        return self._use(ref, lambda hsm: hsm.decrypt_oaep(ref, hash_name, block))

    def agree(self, ref: KeyRef, point: bytes) -> bytes:
        return self._use(ref, lambda hsm: hsm.agree(ref, point))

    def sign(self, ref: KeyRef, scheme: Scheme, payload: bytes, *, salt_length: int | None = None) -> bytes:
        return self._use(ref, lambda hsm: hsm.sign(ref, scheme, payload, salt_length=salt_length))


def open_group(
    configs: Sequence[tuple[str, HsmConfig]],
    clock: Clock,
    enrolled: Names,
    refuse: Callable[[KeyRef], None],
    ours: Callable[[str], Ours] | None = None,
) -> HsmGroup:
    """Open several tokens.

    Args:
        configs: the name and place of each, the one that is preferred first.
        clock: of the process.
        enrolled: the names of those that may be used.
        refuse: raises for a key that is known to be lost.
        ours: how to tell the token of this name from another under its label.

    Raises:
        KmsError(HSM_UNAVAILABLE): none of them is there.
    """
    vectors.check()
    accepts = [accepting(ours(name) if ours is not None else None) for name, _ in configs]
    built, gates = houses([config for _, config in configs], clock, accepts)
    members = [Member(name, Hsm(gate), gate) for (name, _), gate in zip(configs, gates, strict=True)]
    return HsmGroup(members, built, enrolled, refuse)
