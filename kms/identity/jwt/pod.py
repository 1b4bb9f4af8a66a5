"""The pod that this server runs in (`provider_config` kubernetes): keys come from its cluster's API server.

Where that is, whom to believe, and as whom to ask, Kubernetes puts into each container; nothing of it is configured, so
the pod's token goes to nobody whom an operator could name. It is read anew for each request: Kubernetes renews it.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Final

from kms.errors import KmsError, invalid
from kms.identity.outward import check_url

KUBERNETES: Final = "kubernetes"
FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every container has it."""
_ABSENT: Final = ("oidc_discovery_url", "oidc_discovery_ca_pem", "jwks_url", "jwks_ca_pem")
MAX_FILE: Final = 256 * 1024


def check(config: object) -> None:
    """Raise KmsError(INVALID) unless we run in a pod, and nothing is configured beside it."""
    for name in _ABSENT:
        if getattr(config, name):
            raise _unfit(f"{name} must not be set when using the kubernetes provider")
    bearer()
    authorities()
    api_server()


def bearer() -> str:
    """The token of the pod's service account. Raises KmsError(INVALID)."""
    token = _read("token", "service account token")
    if not token.isascii() or not token.isprintable() or not token:
        raise _unfit("error reading service account token file: it holds no token")
    return token


def authorities() -> str:
    """Who vouches for the API server, in PEM. Raises KmsError(INVALID)."""
    found = _read("ca.crt", "CA certificate")
    if not found:  # else the system's authorities would do
        raise _unfit("error reading CA certificate file: it is empty")
    return found


def api_server() -> str:
    """Its base URL, with TLS. Raises KmsError(INVALID)."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    if not host or not port:
        raise _unfit(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT environment variables must be set when using the"
            " kubernetes provider"
        )
    url = f"https://{f'[{host}]' if _is_v6(host) else host}:{port}"
    check_url(url)
    return url


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _read(name: str, what: str) -> str:
    try:
        with (FOLDER / name).open(encoding="ascii") as file:
            return file.read(MAX_FILE).strip()
    except (OSError, ValueError) as error:
        raise _unfit(f"error reading {what} file: {type(error).__name__}") from None


def _unfit(reason: str) -> KmsError:
    return invalid(f'invalid provider_config: error initializing "{KUBERNETES}" provider_config: {reason}')
