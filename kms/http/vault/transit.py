"""Routes of a transit mount."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("LIST", "keys", "transit.keys.list"),
    Route("GET", "keys/{name}", "transit.keys.read"),
    Route("POST", "keys/{name}", "transit.keys.create"),
    Route("DELETE", "keys/{name}", "transit.keys.delete"),
    Route("POST", "keys/{name}/config", "transit.keys.config"),
    Route("POST", "keys/{name}/rotate", "transit.keys.rotate"),
    Route("POST", "encrypt/{name}", "transit.encrypt"),
    Route("POST", "decrypt/{name}", "transit.decrypt"),
    Route("POST", "rewrap/{name}", "transit.rewrap"),
    Route("POST", "datakey/{kind}/{name}", "transit.datakey"),
    Route("POST", "sign/{name}", "transit.sign"),
    Route("POST", "sign/{name}/{urlalgorithm}", "transit.sign"),
    Route("POST", "verify/{name}", "transit.verify"),
    Route("POST", "verify/{name}/{urlalgorithm}", "transit.verify"),
    Route("POST", "hmac/{name}", "transit.hmac"),
    Route("POST", "hmac/{name}/{urlalgorithm}", "transit.hmac"),
    Route("POST", "cmac/{name}", "transit.cmac"),
    Route("POST", "cmac/{name}/{urlmaclength}", "transit.cmac"),
    Route("POST", "random", "transit.random"),
    Route("POST", "random/{urlsource}", "transit.random"),
    Route("POST", "random/{urlsource}/{urlbytes}", "transit.random"),
    Route("POST", "hash", "transit.hash"),
    Route("POST", "hash/{urlalgorithm}", "transit.hash"),
    Route("GET", "config/keys", "transit.settings.read"),
    Route("POST", "config/keys", "transit.settings.update"),
)
