"""Generated requests to the real server and to ours, over HTTP, answers compared.

`transit.txt` is what OpenBao declares: each path x verb x {minimal, each parameter, each wrong type, missing,
unknown, unknown name, denied, wrong verb} becomes a request (`generate`). `sides` sends it to both, `rules`
holds the deliberate differences of `allowed.toml`: another difference fails, and so does an entry that no
request needs any more. `python -m tests.differential` (scripts/differential) goes on with random requests.
"""
