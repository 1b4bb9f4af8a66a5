"""Who there is, for explanations of policies (`kms.policy.explaining.Holders`)."""

from __future__ import annotations

from collections.abc import Iterable

from kms.errors import ErrorKind, KmsError, invalid
from kms.identity import TokenService
from kms.identity.entities.model import ENTITIES, Standing
from kms.operation import Principal
from kms.policy.explaining import Holder
from kms.tables import Store


class KnownHolders:
    """Live tokens and entities. Reads them all; for people who ask, not for requests."""

    def __init__(self, store: Store, tokens: TokenService) -> None:
        self._store = store
        self._tokens = tokens

    def principal_of_accessor(self, accessor: str) -> Principal:
        """Who the live token with this accessor stands for."""
        return self._tokens.principal_of_accessor(accessor, None)

    def principal_of_entity(self, entity_id: str) -> Principal:
        """What an entity may do by itself."""
        standing = self._tokens.directory.standing(entity_id)
        if standing is None or standing.entity.disabled:
            raise invalid("there is no such entity, or it is disabled")
        return _principal(standing)

    def everybody(self) -> Iterable[Holder]:
        """Entities first: they are who people mean."""
        for row in self._store.reader().scan(ENTITIES):
            standing = self._tokens.directory.standing(row.key)
            if standing is not None and not standing.entity.disabled:
                yield Holder("entity", row.key, standing.entity.name, _principal(standing))
        for accessor in self._tokens.accessors(None):
            try:
                principal = self._tokens.principal_of_accessor(accessor, None)
            except KmsError as error:
                if error.kind not in {ErrorKind.INVALID, ErrorKind.UNAUTHENTICATED}:
                    raise
                continue  # it died meanwhile, or its entity is disabled
            yield Holder("token", accessor, principal.display_name, principal)


def _principal(standing: Standing) -> Principal:
    return Principal(
        display_name=standing.entity.name,
        policies=standing.policies,
        entity_id=standing.entity.id,
        values=standing.values,
    )
