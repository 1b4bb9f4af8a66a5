"""The page's markup. Jinja escapes every value; there is no script, and the one style has the answer's nonce."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined

from kms.http.vault.route import Rendered

_BASE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style nonce="{{ nonce }}">
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 3rem auto; padding: 0 1rem; color: #1a1a1a; }
label { display: block; margin: .75rem 0 .25rem; } input, select { width: 100%; padding: .5rem; box-sizing: border-box; font: inherit; }
button { margin-top: 1.25rem; padding: .6rem 1rem; font: inherit; } .said { border-left: 4px solid #b00020; padding-left: .75rem; }
b, code { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% block body %}{% endblock %}
</body>
</html>
"""
_FORM: Final = """{% extends "base" %}{% block body %}
<p><b>{{ client }}</b> wants to know who you are. If you agree, your browser goes back to <b>{{ destination }}</b>, and that service
learns: {{ scope }}.</p>
{% if said %}<p class="said" role="alert">{{ said }}</p>{% endif %}
<form method="post" autocomplete="off">
{% for name, value in asked.items() %}<input type="hidden" name="{{ name }}" value="{{ value }}">
{% endfor %}<input type="hidden" name="proof" value="{{ proof }}">
<label for="method">Sign in with</label>
<select id="method" name="method">
{% for name, shown in methods %}<option value="{{ name }}"{% if name == method %} selected{% endif %}>{{ shown }}</option>
{% endfor %}</select>
<label for="mount">Mounted at (left empty: the method's name)</label>
<input id="mount" name="mount" value="{{ mount }}" maxlength="128" autocapitalize="none">
<label for="username">User name (for another provider: the role, or nothing; not for a token)</label>
<input id="username" name="username" value="{{ username }}" maxlength="256" autocapitalize="none" autocomplete="username">
<label for="secret">Password or token (not for another provider)</label>
<input id="secret" name="secret" type="password" maxlength="4096" autocomplete="current-password">
<button type="submit">Sign in and agree</button>
</form>
<p>If you did not want this, close the window: nothing has happened.</p>
{% endblock %}
"""
_SECOND: Final = """{% extends "base" %}{% block body %}
<p>Your browser goes back to <b>{{ destination }}</b>, the service that called itself <b>{{ client }}</b>, once you show that it is you.</p>
{% if said %}<p class="said" role="alert">{{ said }}</p>{% endif %}
<form method="post" autocomplete="off">
{% for name, value in asked.items() %}<input type="hidden" name="{{ name }}" value="{{ value }}">
{% endfor %}<input type="hidden" name="proof" value="{{ proof }}">
<input type="hidden" name="waiting" value="{{ waiting }}">
<input type="hidden" name="named" value="{{ named }}">
{% for name in factors %}<label for="code{{ loop.index0 }}">Code of your second factor ({{ name }})</label>
<input id="code{{ loop.index0 }}" name="code{{ loop.index0 }}" maxlength="16" inputmode="numeric" autocomplete="one-time-code">
{% endfor %}<button type="submit">Go on</button>
</form>
<p>If you did not want this, close the window: you are not signed in.</p>
{% endblock %}
"""
_ONWARD: Final = """{% extends "base" %}{% block body %}
<p>You sign in at <b>{{ host }}</b>, and come back here.</p>
<p><a id="onward" rel="noreferrer" href="{{ url }}">Go on</a></p>
<p>If you did not want this, close the window: nothing has happened.</p>
{% endblock %}
"""
_STOP: Final = """{% extends "base" %}{% block body %}
<p class="said" role="alert">{{ said }}</p>
<p>Close this window and begin again at the service that sent you here.</p>
{% endblock %}
"""
METHODS: Final = (
    ("userpass", "User name and password"),
    ("ldap", "LDAP"),
    ("oidc", "Another provider"),
    ("token", "Token"),
)

_environment = Environment(
    loader=DictLoader({"base": _BASE, "form": _FORM, "second": _SECOND, "onward": _ONWARD, "stop": _STOP}),
    autoescape=True,
    undefined=StrictUndefined,
)


def page(name: str, status: int, title: str, values: Mapping[str, object], destination: str = "") -> Rendered:
    """A page and its policy. `destination` is where its form may end up, besides here."""
    nonce = secrets.token_urlsafe(16)
    body = _environment.get_template(name).render(title=title, nonce=nonce, **values)
    targets = f"'self' {destination}".strip() if destination else "'none'"
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action {targets};"
        " frame-ancestors 'none'; base-uri 'none'"
    )
    return Rendered(status, body.encode(), "text/html; charset=utf-8", protecting(policy))


def protecting(policy: str) -> tuple[tuple[str, str], ...]:
    """Headers of every answer of this door."""
    return (
        ("Content-Security-Policy", policy),
        ("X-Frame-Options", "DENY"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    )
