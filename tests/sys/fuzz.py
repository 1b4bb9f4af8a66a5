"""A real server, all engines and methods mounted, and schemathesis on its own description of itself.

scripts/fuzz [seconds] [seed]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness.dev import DevServer, clean_environment
from tests.sys.sides import Side

ST = Path(sys.prefix) / "bin" / "st"
# What would end the run instead of testing it: seals, new roots, devices that refuse everything, the own token's end.
LEFT_OUT = (
    r"^/sys/(seal$|monitor$|hsm/|rotate|rekey|generate-root|audit|quotas|leases/revoke|step-down)"
    r"|^/auth/token/revoke|^/sys/(mounts|auth)/|^/sys/remount$|root.rotate|/root$|^/sys/config/ui"
)
# Each of these makes a key of 4,096 bits at every try; half a minute has no room for them.
SLOW = r"|^/fuzz-ssh/(issuers/|config/ca)|/generate/|/fuzz-pki/(root|intermediate|keys)"
_COUNT = re.compile(r"(\d+) generated")


def described(side: Side) -> dict[str, object]:
    """The server's description, after everything that can be mounted was mounted."""
    catalog = side.data("GET", "sys/plugins/catalog")
    for kind, place in (("secret", "mounts"), ("auth", "auth")):
        for name in catalog[kind]:
            side.ask("POST", f"sys/{place}/fuzz-{name}", {"type": name})
    status, document = side.ask("GET", "sys/internal/specs/openapi")
    assert status == 200, document
    return dict(document)


def fuzz(server: DevServer, folder: Path, seconds: int, seed: int, examples: int) -> tuple[int, int, str]:
    """Run schemathesis; its exit code, how many requests it made up, and what it said."""
    side = Side(server.address, server.token)
    specification = folder / "openapi.json"
    specification.write_text(json.dumps(described(side)))
    side.close()
    top = Path(__file__).resolve().parents[2]
    left_out = LEFT_OUT + (SLOW if seconds < 60 else "")
    command = [str(ST), "run", str(specification), f"--url={server.address}/v1"]
    command += ["-H", f"X-Vault-Token: {server.token}", "--checks=answers_as_described"]
    command += [
        "--phases=coverage,fuzzing",
        f"--max-time={seconds}",
        "--request-timeout=90",  # a key of 4,096 bits on a busy machine
        f"--seed={seed}",
        f"--max-examples={examples}",
    ]
    command += ["--no-shrink", "--continue-on-failure", "--warnings=off", f"--exclude-path-regex={left_out}"]
    environment = clean_environment(folder, SCHEMATHESIS_HOOKS="tests.sys.hooks", PYTHONPATH=str(top))
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds + 180,
        check=False,
    )
    made = _COUNT.search(done.stdout)
    return done.returncode, int(made[1]) if made else 0, done.stdout + done.stderr


def main() -> int:
    """The script."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(4), "big")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = DevServer(folder / "server", workers=2)
        server.start()
        try:
            code, made, said = fuzz(server, folder, seconds, seed, 50)
        finally:
            server.stop()
    print(said[-20_000:] if code else "", f"seed {seed}: {made} requests, exit code {code}", sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
