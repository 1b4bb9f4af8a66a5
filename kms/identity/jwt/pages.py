"""The few pages that a browser sees. No script, no style, no link to anywhere; every text that is not ours is escaped."""

from __future__ import annotations

from html import escape
from typing import Final

from kms.operation import Result

_HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
)


def _page(title: str, body: str) -> Result:
    text = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n'
    return Result(raw=(text.encode(), "text/html; charset=utf-8"), headers=_HEADERS)


def success() -> Result:
    """The end of a login in direct mode."""
    return _page("Signed in", "<p>You may close this window and go back to your client.</p>")


def received() -> Result:
    """The provider's answer has come by form_post; the client fetches the rest itself."""
    return _page("Answer received", "<p>Go back to your client: it finishes the login.</p>")


def confirmation(role: str, requester: str, fields: dict[str, str]) -> Result:
    """Asks the person whether it was they who began (RFC 8628 5.4).

    Args:
        role: of the attempt.
        requester: the address of whoever began it.
        fields: what the provider sent, to be sent again with the confirmation.
    """
    inputs = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
        if value
    )
    return _page(
        "Confirm your login",
        f"<p>A login as role <b>{escape(role)}</b> was begun from the address <b>{escape(requester)}</b>."
        " Go on only if that was you.</p>\n"
        f'<form method="get">{inputs}<input type="hidden" name="confirmation" value="yes">'
        '<button type="submit">It was me: log in</button></form>',
    )
