"""Routes below sys/namespaces."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("LIST", "namespaces", "sys.namespaces.list"),
    Route("GET", "namespaces", "sys.namespaces.scan"),
    Route("POST", "namespaces/api-lock/lock", "sys.namespaces.lock"),
    Route("POST", "namespaces/api-lock/lock/{path...}", "sys.namespaces.lock"),
    Route("POST", "namespaces/api-lock/unlock", "sys.namespaces.unlock"),
    Route("POST", "namespaces/api-lock/unlock/{path...}", "sys.namespaces.unlock"),
    *(
        Route(verb, f"namespaces/{{path}}/{what}", f"sys.namespaces.{name}")
        for verb, what, name in (
            ("POST", "seal", "seal"),
            ("POST", "unseal", "seal"),
            ("GET", "seal-status", "seal_status"),
        )
    ),
    Route("DELETE", "namespaces/{path}/delete-sealed", "sys.namespaces.delete_sealed", envelope=True),
    Route("GET", "namespaces/{path...}", "sys.namespaces.read"),
    Route("POST", "namespaces/{path...}", "sys.namespaces.write"),
    Route("PATCH", "namespaces/{path...}", "sys.namespaces.patch"),
    Route("DELETE", "namespaces/{path...}", "sys.namespaces.delete"),
)
