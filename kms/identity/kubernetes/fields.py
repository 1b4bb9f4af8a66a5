"""Fields of the configuration and of roles: what is taken, checked and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from kms.errors import invalid
from kms.identity.jwt.keys import given_keys
from kms.identity.jwt.token import PublicKey
from kms.identity.kubernetes.account import selector_labels
from kms.identity.kubernetes.store import BY_NAME, BY_UID, Cluster, ClusterRole
from kms.identity.methods import params
from kms.identity.outward import check_url, trusting
from kms.operation import Field, Record, Type

_SOURCES: Final = (BY_UID, BY_NAME)
_LISTS: Final = ("bound_service_account_names", "bound_service_account_namespaces")

CONFIG_FIELDS: Final = (
    Field("kubernetes_host", record=Record.CLEAR),
    Field("kubernetes_ca_cert"),
    Field("token_reviewer_jwt"),
    Field("pem_keys", Type.STRINGS),
    Field("issuer", record=Record.CLEAR),
    Field("disable_iss_validation", Type.BOOL, default=True, record=Record.CLEAR),
    Field("disable_local_ca_jwt", Type.BOOL, default=False, record=Record.CLEAR),
)
ROLE_FIELDS: Final = (
    *(Field(name, Type.STRINGS, record=Record.CLEAR) for name in _LISTS),
    Field("bound_service_account_namespace_selector", record=Record.CLEAR),
    Field("audience", record=Record.CLEAR),
    Field("alias_name_source", record=Record.CLEAR),
    *params.OLD_FIELDS,
    *params.PARAM_FIELDS,
)


def configuration(args: Mapping[str, Any]) -> Cluster:
    """The configuration, whole: what is not given has its default again, as on the peer.

    Raises:
        KmsError(INVALID): it cannot be one.
    """
    host = args.get("kubernetes_host") or ""
    if not host:
        raise invalid("no host provided")
    check_url(host)
    made = Cluster(
        kubernetes_host=host,
        kubernetes_ca_cert=args.get("kubernetes_ca_cert") or "",
        token_reviewer_jwt=args.get("token_reviewer_jwt") or "",
        pem_keys=tuple(args.get("pem_keys") or ()),
        issuer=args.get("issuer") or "",
        disable_iss_validation=bool(args["disable_iss_validation"]),
        disable_local_ca_jwt=bool(args["disable_local_ca_jwt"]),
    )
    if made.disable_local_ca_jwt and not made.kubernetes_ca_cert:
        raise invalid("kubernetes_ca_cert must be given when disable_local_ca_jwt is true")
    if made.kubernetes_ca_cert:
        trusting(made.kubernetes_ca_cert)
    signing_keys(made)
    if not made.token_reviewer_jwt.isascii() or not made.token_reviewer_jwt.isprintable():
        raise invalid("token_reviewer_jwt cannot be sent in a header")
    return made


def signing_keys(cluster: Cluster) -> list[PublicKey]:
    """`pem_keys`: public keys, or certificates for theirs. Raises KmsError(INVALID)."""
    return given_keys(tuple(_key_of(text) for text in cluster.pem_keys))


def _key_of(text: str) -> str:
    if "BEGIN CERTIFICATE" not in text:
        return text
    try:
        key = x509.load_pem_x509_certificate(text.encode("utf-8", "surrogatepass")).public_key()
    except ValueError:
        raise invalid("error parsing public key: data does not contain any valid public keys") from None
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def shown_config(cluster: Cluster) -> dict[str, Any]:
    """The configuration as the API shows it; of the reviewer's token, that there is one."""
    return {
        "kubernetes_host": cluster.kubernetes_host,
        "kubernetes_ca_cert": cluster.kubernetes_ca_cert,
        "pem_keys": list(cluster.pem_keys),
        "issuer": cluster.issuer,
        "disable_iss_validation": cluster.disable_iss_validation,
        "disable_local_ca_jwt": cluster.disable_local_ca_jwt,
        "token_reviewer_jwt_set": bool(cluster.token_reviewer_jwt),
    }


def role_changed(before: ClusterRole | None, sent: Mapping[str, Any]) -> tuple[ClusterRole, tuple[str, ...]]:
    """The role after a write. Raises KmsError(INVALID)."""
    given = params.renamed(sent)
    old = before or ClusterRole()
    read = params.changes(given, old)
    read |= {name: tuple(given[name]) for name in _LISTS if name in given}
    read |= {name: given[name] for name in ("audience",) if name in given}
    # A selector that is not sent again is gone, as on the peer.
    read["bound_service_account_namespace_selector"] = (
        given.get("bound_service_account_namespace_selector") or ""
    )
    read["alias_name_source"] = given.get("alias_name_source", old.alias_name_source) or BY_UID
    role = replace(old, **read)
    _check_role(role)
    return role, ()


def _check_role(role: ClusterRole) -> None:
    names, namespaces = role.bound_service_account_names, role.bound_service_account_namespaces
    if not names:
        raise invalid('"bound_service_account_names" can not be empty')
    if len(names) > 1 and "*" in names:
        raise invalid('can not mix "*" with values')
    selector = role.bound_service_account_namespace_selector
    if not namespaces and not selector:
        raise invalid(
            '"bound_service_account_namespaces" can not be empty if '
            '"bound_service_account_namespace_selector" is not set'
        )
    if selector:
        selector_labels(selector)
    if len(namespaces) > 1 and "*" in namespaces:
        raise invalid('can not mix "*" with values')
    if role.alias_name_source not in _SOURCES:
        raise invalid(f"invalid alias_name_source, must be one of: {', '.join(_SOURCES)}")


def shown_role(role: ClusterRole) -> dict[str, Any]:
    """The role as the API shows it."""
    data = {
        **params.shown(role),
        "bound_service_account_names": list(role.bound_service_account_names),
        "bound_service_account_namespaces": list(role.bound_service_account_namespaces),
        "bound_service_account_namespace_selector": role.bound_service_account_namespace_selector,
        "alias_name_source": role.alias_name_source,
    }
    if role.audience:
        data["audience"] = role.audience
    return data
