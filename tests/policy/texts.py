"""Policy texts, each with what the real server makes of it."""

from __future__ import annotations

READ = 'capabilities = ["read"]'
GROUP = (
    'control_group { ttl = "1h"\n factor "ops" { controlled_capabilities = ["read"]\n'
    ' identity { group_names = ["g"]\n approvals = 1 } } }'
)


def group(old: str, new: str) -> str:
    """A rule that needs consent, with one thing changed."""
    assert old in GROUP
    return f'path "a" {{ {READ} {GROUP.replace(old, new)} }}'


# Both servers accept these, and mean the same on PROBES.
ACCEPTED: dict[str, str] = {
    "plain": f'path "a" {{ {READ} }}',
    "no newline after a comment": f'path "a" {{ {READ} }} # hi',
    "comments of all kinds": f'/* x */ path "a" {{ {READ} }} // hi\n# there',
    "a comment only": "# hi",
    "blanks only": "  \n ",
    "CRLF": f'path "a" {{\r\n {READ}\r\n}}\r\n',
    "unquoted label": f"path a {{ {READ} }}",
    "brace on the next line": f'path "a"\n{{\n {READ} }}',
    "name is ignored": f'name = "x"\nname = "y"\npath "a" {{ {READ} }}',
    "comment attribute": f'path "a" {{ {READ} comment = "hello" }}',
    "numeric comment": f'path "a" {{ {READ} comment = 1 }}',
    "leading slash": f'path "/a" {{ {READ} }}',
    "two leading slashes": f'path "//a" {{ {READ} }}',
    "empty path": f'path "" {{ {READ} }}',
    "a star": f'path "*" {{ {READ} }}',
    "a plus": f'path "+" {{ {READ} }}',
    "a plus in a word": f'path "a/b+c" {{ {READ} }}',
    "a plus before a word": f'path "a/+foo" {{ {READ} }}',
    "a star in the middle": f'path "a/*/b" {{ {READ} }}',
    "dots": f'path "a/../b" {{ {READ} }}',
    "other letters": f'path "a/é" {{ {READ} }}',
    "dollars and percents": f'path "a/$foo$$%" {{ {READ} }}',
    "escaped quote": f'path "a\\"b" {{ {READ} }}',
    "escaped letter": f'path "a\\u0041" {{ {READ} }}',
    "long escaped letter": f'path "a\\U00000041" {{ {READ} }}',
    "template": f'path "a/{{{{identity.entity.id}}}}" {{ {READ} }}',
    "template with blanks": f'path "a/{{{{ identity.entity.id }}}}" {{ {READ} }}',
    "unknown template": f'path "a/{{{{identity.nothing}}}}" {{ {READ} }}',
    "empty template": f'path "a/{{{{}}}}" {{ {READ} }}',
    "no capabilities": 'path "a" { }',
    "empty capabilities": 'path "a" { capabilities = [] }',
    "scan": 'path "a" { capabilities = ["scan"] }',
    "list over lines": 'path "a" { capabilities = [\n"read", # x\n# y\n"list" // z\n] }',
    "trailing comma": 'path "a" { capabilities = ["read",] }',
    "attributes on one line": 'path "a" { policy = "read" capabilities = ["delete"] }',
    "deny then read in one block": 'path "a" { capabilities = ["deny"]\n capabilities = ["read"] }',
    "read then deny in one block": 'path "a" { capabilities = ["read"]\n capabilities = ["deny"] }',
    "read then list in one block": 'path "a" { capabilities = ["read"]\n capabilities = ["list"] }',
    "deny and read in two blocks": f'path "a" {{ capabilities = ["deny"] }}\npath "a" {{ {READ} }}',
    "list and read in two blocks": f'path "a" {{ capabilities = ["list"] }}\npath "a" {{ {READ} }}',
    "shorthand read": 'path "a" { policy = "read" }',
    "shorthand write": 'path "a" { policy = "write" }',
    "shorthand sudo": 'path "a" { policy = "sudo" }',
    "shorthand deny": 'path "a" { policy = "deny"\n capabilities = ["delete"] }',
    "empty shorthand": 'path "a" { policy = "" }',
    "parameters": 'path "a" { capabilities = ["update"] allowed_parameters = { "foo" = [] "bar" = ["x", "y*"] } }',
    "parameters as a block": 'path "a" { capabilities = ["update"]\n denied_parameters { foo = []\n bar = ["x"] } }',
    "parameters of all types": 'path "a" { capabilities = ["update"]\n allowed_parameters = { "f" = [1, 2.5, true] } }',
    "negative numbers": 'path "a" { capabilities = ["update"]\n allowed_parameters = { f = [-1, -1.5] } }',
    "parameters repeated": 'path "a" { capabilities = ["update"]\n allowed_parameters = { f = ["x"]\n f = ["y"] } }',
    "no parameters": 'path "a" { capabilities = ["update"]\n allowed_parameters = {} }',
    "required parameters": 'path "a" { capabilities = ["update"]\n required_parameters = ["foo"] }',
    "wrapping": 'path "a" { capabilities = ["update"]\n min_wrapping_ttl = "1s" max_wrapping_ttl = "1h30m" }',
    "wrapping in numbers": 'path "a" { capabilities = ["update"]\n min_wrapping_ttl = 1 max_wrapping_ttl = "90" }',
    "wrapping in days": 'path "a" { capabilities = ["update"]\n min_wrapping_ttl = "1d" }',
    "JSON": '{"path": {"a": {"capabilities": ["read"]}}}',
    "JSON list": '{"path": [{"a": {"capabilities": ["read"]}}, {"b": {"capabilities": ["list"]}}]}',
    "JSON deny repeated": '{"path": {"a": {"capabilities": ["deny"], "capabilities": ["read"]}}}',
    "JSON path repeated": '{"path": {"a": {"capabilities": ["deny"]}, "a": {"capabilities": ["read"]}}}',
    "JSON top repeated": '{"path": {"a": {"capabilities": ["deny"]}}, "path": {"b": {"capabilities": ["read"]}}}',
    "JSON shorthand": '{"path": {"a": {"policy": "write"}}}',
    "JSON parameters": '{"path": {"a": {"capabilities": ["update"], "allowed_parameters": {"f": [], "b": ["x", 1]}}}}',
    "JSON empty": "{}",
    "pagination": f'path "a" {{ {READ} pagination_limit = 5 }}',
    "pagination in a text": f'path "a" {{ {READ} pagination_limit = "5" }}',
    "pagination below nothing": f'path "a" {{ {READ} pagination_limit = -1 }}',
    "expiration": f'path "a" {{ {READ} expiration = "2090-01-01T00:00:00Z" }}',
    "expiration elsewhere": f'path "a" {{ {READ} expiration = "2090-01-01T00:00:00.5+01:00" }}',
    "expiration in seconds": f'path "a" {{ {READ} expiration = 3786912000 }}',
    "expiration in seconds as a text": f'path "a" {{ {READ} expiration = "3786912000" }}',
    "expired": f'path "a" {{ {READ} expiration = "2020-01-01T00:00:00Z" }}',
    "an expired deny": f'path "a" {{ {READ} }}\npath "a" {{ policy = "deny" expiration = "2020-01-01T00:00:00Z" }}',
    "filtered lists": (
        'path "a" { capabilities = ["list"] list_scan_response_keys_filter_path = "{{ .path }}{{ .key }}" }'
    ),
    "filtered with a helper": (
        'path "a" { capabilities = ["list"] list_scan_response_keys_filter_path = '
        '"{{ .path | replace \\"a\\" \\"b\\" | lowercase }}{{ .key }}" }'
    ),
    "consent": f'path "a" {{ {READ} {GROUP} }}',
    "consent without a time": group('ttl = "1h"', ""),
    "consent of oneself": group("ttl", "self_auth_allowed = true ttl"),
    "JSON consent": (
        '{"path": {"a": {"capabilities": ["read"], "control_group": {"ttl": "1h", "factor": {"ops":'
        ' {"controlled_capabilities": ["read"], "identity": {"group_names": ["g"], "approvals": 1}}}}}}}'
    ),
}

# Both servers refuse these.
REFUSED: dict[str, str] = {
    "nothing": "",
    "a word": "hello",
    "unknown block": 'foo = "x"',
    "unknown attribute": f'path "a" {{ {READ} foo = 1 }}',
    "other case of path": f'Path "a" {{ {READ} }}',
    "other case of an attribute": 'path "a" { Capabilities = ["read"] }',
    "path is a string": 'path = "a"',
    "path is an object": 'path = { "a" = { capabilities = ["read"] } }',
    "label assigned": f'path "a" = {{ {READ} }}',
    "label a number": f"path 5 {{ {READ} }}",
    "capabilities a string": 'path "a" { capabilities = "read" }',
    "capabilities a number": 'path "a" { capabilities = [1] }',
    "capabilities a boolean": 'path "a" { capabilities = [true] }',
    "capabilities nested": 'path "a" { capabilities = [["read"]] }',
    "capabilities an object": 'path "a" { capabilities = { x = "read" } }',
    "capabilities null": 'path "a" { capabilities = null }',
    "capabilities a name": 'path "a" { capabilities = read }',
    "capabilities a call": 'path "a" { capabilities = concat(["read"]) }',
    "capabilities a heredoc": 'path "a" { capabilities = [<<EOF\nread\nEOF\n] }',
    "unknown capability": 'path "a" { capabilities = ["bogus"] }',
    "unknown capability before deny": 'path "a" { capabilities = ["bogus","deny"] }',
    "capability in capitals": 'path "a" { capabilities = ["READ"] }',
    "capability with a blank": 'path "a" { capabilities = [" read"] }',
    "capability root": 'path "a" { capabilities = ["root"] }',
    "no comma": 'path "a" { capabilities = ["read" "list"] }',
    "a semicolon": f'path "a" {{\n {READ}; }}',
    "a colon": 'path "a" { capabilities : ["read"] }',
    "arithmetic": 'path "a" { min_wrapping_ttl = 1 + 1 }',
    "unclosed": 'path "a" {',
    "closed too often": f'path "a" {{ {READ} }} }}',
    "unclosed string": f'path "a {{ {READ} }}',
    "newline in a string": f'path "a\nb" {{ {READ} }}',
    "bad escape": f'path "a\\q" {{ {READ} }}',
    "NUL": f'path "a\0" {{ {READ} }}',
    "byte order mark": f'\ufeffpath "a" {{ {READ} }}',
    "plus before star": f'path "a/+*" {{ {READ} }}',
    "template not closed": f'path "a/{{{{identity.entity.id" {{ {READ} }}',
    "template not opened": f'path "a/}}}}x" {{ {READ} }}',
    "unknown shorthand": 'path "a" { policy = "rread" }',
    "parameters a list": 'path "a" { allowed_parameters = ["foo"] }',
    "parameters scalar": 'path "a" { allowed_parameters = { "foo" = "x" } }',
    "required a string": 'path "a" { required_parameters = "foo" }',
    "wrapping nonsense": 'path "a" { min_wrapping_ttl = "x" }',
    "wrapping crossed": 'path "a" { min_wrapping_ttl = "2h" max_wrapping_ttl = "1h" }',
    "JSON list at the top": "[]",
    "JSON string": '"x"',
    "JSON number": "1",
    "JSON unknown": '{"foo": 1}',
    "JSON unknown inside": '{"path": {"a": {"capabilities": ["update"], "zzz": 1}}}',
    "JSON null": '{"path": {"a": {"capabilities": null}}}',
    "JSON null path": '{"path": null}',
    "JSON string path": '{"path": "a"}',
    "JSON null value": '{"path": {"a": {"allowed_parameters": {"foo": [null]}}}}',
    "pagination with a fraction": f'path "a" {{ {READ} pagination_limit = 1.5 }}',
    "expiration nonsense": f'path "a" {{ {READ} expiration = "x" }}',
    "expiration without a time": f'path "a" {{ {READ} expiration = "2030-01-01" }}',
    "filter without the list": f'path "a" {{ {READ} list_scan_response_keys_filter_path = "{{{{ .path }}}}{{{{ .key }}}}" }}',
    "filter of one path": (
        'path "a" { capabilities = ["list"] list_scan_response_keys_filter_path = "{{ .path }}" }'
    ),
    "filter not closed": (
        'path "a" { capabilities = ["list"] list_scan_response_keys_filter_path = "{{ .key }}{{ .path" }'
    ),
    "consent of nobody": f'path "a" {{ {READ} control_group {{ ttl = 1 }} }}',
    "consent to nothing": group("controlled_capabilities", "ttl"),
    "consent to sudo": group('["read"]', '["sudo"]'),
    "consent without a number": group("approvals = 1", ""),
    "consent without a name": group('factor "ops"', "factor"),
    "consent with max_ttl": group("ttl", "max_ttl"),
    "JSON lists of bodies": '{"path": {"a": [{"capabilities": ["read"]},{"capabilities": ["list"]}]}}',
}

# The real server accepts these; we do not: name -> (text, why).
STRICTER: dict[str, tuple[str, str]] = {
    "shorthand twice": ('path "a" { policy = "write"\n policy = "read" }', "two answers: it takes the last"),
    "wrapping twice": ('path "a" { min_wrapping_ttl = "2m"\nmin_wrapping_ttl = "1m" }', "two answers"),
    "unknown capability after deny": ('path "a" { capabilities = ["deny","bogus"] }', "a typing mistake"),
    "bad TTL beside deny": (
        'path "a" { capabilities = ["deny"] min_wrapping_ttl = "xx" }',
        "a typing mistake",
    ),
    "no label": (f"path {{ {READ} }}", "it reads a rule for the path 'path'"),
    "two labels": (f'path "a" "b" {{ {READ} }}', "it ignores the second"),
    "quoted words": (f'"path" "a" {{ {READ} }}', "no HCL2"),
    "quoted attribute": ('path "a" { "capabilities" = ["read"] }', "no HCL2"),
    "commas between attributes": ('path "a" { policy = "read", capabilities = ["delete"] }', "no HCL2"),
    "value on the next line": ('path "a" {\n capabilities =\n ["read"] }', "no HCL2"),
    "interpolation": (f'path "a/${{foo}}" {{ {READ} }}', "it takes '${foo}' as it is; nobody means that"),
    "directive": (f'path "a/%{{foo}}" {{ {READ} }}', "as interpolation"),
    "control character": (f'path "a\\nb" {{ {READ} }}', "no request has one in its path"),
    "hexadecimal escape": (f'path "a\\x41" {{ {READ} }}', "only \\u and \\U"),
    "octal escape": (f'path "a\\101" {{ {READ} }}', "only \\u and \\U"),
    "fraction of a second": ('path "a" { min_wrapping_ttl = 1.5 }', "whole seconds"),
    "negative TTL": ('path "a" { min_wrapping_ttl = -1 }', "it means nothing"),
    "nested values": ('path "a" { allowed_parameters = { "foo" = [["x"]] } }', "matched by nothing there"),
    "objects as values": (
        'path "a" { allowed_parameters = { "foo" = [{a="b"}] } }',
        "matched by nothing there",
    ),
    "MFA": (f'path "a" {{ {READ} mfa_methods = ["m"] }}', "a restriction that is not enforced"),
    "consent twice": (
        f'path "a" {{ {READ} {GROUP} \n {GROUP} }}',
        "two answers: it takes the last",
    ),
    "approvals in a text": (group("= 1", '= "1"'), "a number"),
    "a helper of the template that makes no path": (
        'path "a" { capabilities = ["list"] list_scan_response_keys_filter_path = "{{ uuid }}{{ .key }}" }',
        "its answer could not be explained",
    ),
    "JSON cut off": ('{"path": ', "it accepts what is missing"),
    "JSON with a tail": ('{"path": {"a": {"capabilities": ["read"]}}} x', "it ignores the tail"),
    "JSON with a comment": ('{"path": {"a": {"capabilities": ["update"]}}} // x', "not JSON"),
    "JSON with a last comma": ('{"path": {"a": {"capabilities": ["update",]}}}', "not JSON"),
}

PROBES = ["a", "b", "a/b", "b/c", "aA", "a/A", "path", "/a", "a/../b", 'a"b', "a/é"]
