"""The API server of a cluster: what it says of a token, and the labels of a namespace.

Asked at every login, so that an account or a token that was deleted is refused from then on.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from kms.errors import invalid
from kms.identity.kubernetes.account import Account, denied, refused, reviewed
from kms.identity.kubernetes.store import Cluster
from kms.identity.outward import Answer, UnreachableError, ask, trusting

POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def authorities(cluster: Cluster, pod: Path = POD) -> str:
    """Whom to believe that it is the API server: the CA given, or the pod's own.

    Raises:
        KmsError(INVALID): none is given, and we do not run in a pod.
    """
    if cluster.kubernetes_ca_cert or cluster.disable_local_ca_jwt:
        return cluster.kubernetes_ca_cert
    try:
        return (pod / "ca.crt").read_text("utf-8")
    except OSError:
        raise invalid(
            f"kubernetes_ca_cert is not given, and this server is in no pod: no {pod}/ca.crt"
        ) from None


def review(cluster: Cluster, token: str, audiences: tuple[str, ...], pod: Path = POD) -> Account:
    """Who the API server says that the token's bearer is.

    Raises:
        KmsError(UNAUTHENTICATED): it says no, or it cannot be asked.
    """
    spec: dict[str, Any] = {"token": token}
    if audiences:
        spec["audiences"] = list(audiences)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    bearer = _reviewer(cluster, pod) or token
    answer = _ask(cluster, "/apis/authentication.k8s.io/v1/tokenreviews", bearer, body, pod)
    if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
        raise denied()
    return reviewed(_document(answer), audiences)


def labels(cluster: Cluster, namespace: str, pod: Path = POD) -> dict[str, Any]:
    """The labels of a namespace.

    Raises:
        KmsError(UNAUTHENTICATED): they cannot be had.
    """
    bearer = _reviewer(cluster, pod)
    if not bearer:
        raise refused(
            "namespace not authorized err=namespace lookup failed: TokenReviewer JWT needs to be configured to"
            " use namespace selectors"
        )
    answer = _ask(cluster, f"/api/v1/namespaces/{quote(namespace, safe='')}", bearer, None, pod)
    metadata = _document(answer).get("metadata") if answer.status == HTTPStatus.OK else None
    if not isinstance(metadata, dict) or metadata.get("name") != namespace:
        raise refused(f"namespace not authorized err=failed to get namespace (code {answer.status} status )")
    found = metadata.get("labels")
    return found if isinstance(found, dict) else {}


def _ask(cluster: Cluster, path: str, bearer: str, body: dict[str, Any] | None, pod: Path) -> Answer:
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    try:
        return ask(
            cluster.kubernetes_host.rstrip("/") + path,
            context=trusting(authorities(cluster, pod)),
            body=json.dumps(body).encode() if body is not None else None,
            headers=headers,
        )
    except UnreachableError:
        raise denied() from None


def _document(answer: Answer) -> dict[str, Any]:
    try:
        return answer.document()
    except UnreachableError:
        raise denied() from None


def _reviewer(cluster: Cluster, pod: Path) -> str:
    if cluster.token_reviewer_jwt or cluster.disable_local_ca_jwt:
        return cluster.token_reviewer_jwt
    try:
        return (pod / "token").read_text("utf-8").strip()
    except OSError:
        return ""  # not in a pod: the token that is reviewed speaks for itself, as on the peer
