"""Is this token the one that was used before? Its label and PIN do not say: another can be given the same.

Asked of each new connection, before anybody uses it. A connection that was once made to another token would
otherwise stay with it: nothing fails there, the keys are just not found, and so nobody would look for the right one again
when it is back. Refused instead, it counts as a token that is away, which is tried again every 2 seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pkcs11 import types
from pkcs11.constants import Attribute

from kms.errors import KmsError
from kms.hsm.turns import turn
from kms.ids import CkaId


@dataclass(frozen=True)
class Ours:
    """How to tell the token of this server.

    Args:
        keys: objects of which it holds at least one; empty while nothing was made in it. Read anew each time.
        refusal: what to raise for a token that holds none; of the kind HSM_UNAVAILABLE.
    """

    keys: Callable[[], Sequence[CkaId]]
    refusal: Callable[[], KmsError]

    def demand(self, session: Any) -> None:
        """Return if the token is the one.

        Raises:
            KmsError(HSM_UNAVAILABLE): it is another.
        """
        keys = self.keys()
        if keys and not any(_holds(session, cka_id) for cka_id in keys):
            raise self.refusal()


def _holds(session: Any, cka_id: CkaId) -> bool:
    with turn(session):
        found = list(session.get_objects({Attribute.ID: cka_id}))
    return any(isinstance(each, types.SecretKey | types.PrivateKey) for each in found)
