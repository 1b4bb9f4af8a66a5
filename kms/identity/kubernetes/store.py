"""Rows of the method, below the mount's id. The reviewer's token is a secret: rows are sealed, and no answer shows it."""

from __future__ import annotations

import msgspec

from kms.identity.methods.params import TokenParams
from kms.tables import Table

BY_UID, BY_NAME = "serviceaccount_uid", "serviceaccount_name"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """How the API server is reached.

    Args:
        token_reviewer_jwt: the bearer of reviews; "" for the pod's own, or else the token that is reviewed.
        pem_keys: with which tokens must be signed as well, if any are given.
        disable_local_ca_jwt: take neither CA nor token of the pod that we may run in.
    """

    kubernetes_host: str
    kubernetes_ca_cert: str = ""
    token_reviewer_jwt: str = ""
    pem_keys: tuple[str, ...] = ()
    issuer: str = ""
    disable_iss_validation: bool = True
    disable_local_ca_jwt: bool = False


class ClusterRole(TokenParams, frozen=True, kw_only=True):
    """Which service accounts, and what they get. `selector` is a label selector of namespaces, JSON or YAML."""

    bound_service_account_names: tuple[str, ...] = ()
    bound_service_account_namespaces: tuple[str, ...] = ()
    bound_service_account_namespace_selector: str = ""
    audience: str = ""
    alias_name_source: str = BY_UID


CLUSTERS = Table("kubernetes-config", "kubernetes_configs", Cluster, digest="identity")
ROLES = Table("kubernetes-role", "kubernetes_roles", ClusterRole, digest="identity")
TABLES = (CLUSTERS, ROLES)
