"""Who there is, for explanations of policies (`kms.policy.explaining.Holders`)."""

from __future__ import annotations

from collections.abc import Iterable

from kms.errors import ErrorKind, KmsError, invalid
from kms.identity import TokenService
from kms.identity.entities.model import ENTITIES, Standing
from kms.identity.within import namespace_id_of
from kms.namespaces import scoped
from kms.operation import NamespaceRef, Principal
from kms.policy.explaining import Holder
from kms.tables import Store


class KnownHolders:
    """Live tokens and entities. Reads them all; for people who ask, not for requests."""

    def __init__(self, store: Store, tokens: TokenService) -> None:
        self._store = store
        self._tokens = tokens

    def principal_of_accessor(self, accessor: str, namespace: NamespaceRef) -> Principal:
        """Who the live token of a namespace with this accessor stands for."""
        return self._tokens.principal_of_accessor(accessor, namespace)

    def principal_of_entity(self, entity_id: str, namespace: NamespaceRef) -> Principal:
        """What an entity of a namespace may do by itself."""
        own = namespace_id_of(entity_id) == namespace.id
        standing = self._tokens.directory.standing(entity_id) if own else None
        if standing is None or standing.entity.disabled:
            raise invalid("there is no such entity, or it is disabled")
        return _principal(standing, namespace)

    def everybody(self, namespace: NamespaceRef) -> Iterable[Holder]:
        """Entities first: they are who people mean. Of a namespace and of all below it."""
        for row in self._store.reader().scan(ENTITIES):
            here = self._tokens.living(namespace_id_of(row.value.id))
            if here is None or not namespace.covers(here):
                continue
            standing = self._tokens.directory.standing(row.value.id)
            if standing is not None and not standing.entity.disabled:
                yield Holder("entity", row.value.id, standing.entity.name, _principal(standing, here))
        for accessor in self._tokens.accessors(None):
            try:
                principal = self._tokens.principal_of_accessor(accessor, None)
            except KmsError as error:
                if error.kind not in {ErrorKind.INVALID, ErrorKind.UNAUTHENTICATED}:
                    raise
                continue  # it died meanwhile, or its entity is disabled
            if namespace.covers(principal.namespace):
                yield Holder("token", accessor, principal.display_name, principal)


def _principal(standing: Standing, namespace: NamespaceRef) -> Principal:
    return Principal(
        display_name=standing.entity.name,
        policies=tuple(scoped(namespace, name) for name in standing.policies),
        namespace=namespace,
        entity_id=standing.entity.id,
        values=standing.values,
    )
