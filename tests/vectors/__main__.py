"""All vectors against a server of its own: `scripts/vectors`. Exits with 1 when any is wrong."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.harness.dev import DevServer
from tests.vectors.catalogue import FILES, WYCHEPROOF
from tests.vectors.runner import Runner


def main() -> int:
    """Run, print a line for each file, and the sum."""
    began = time.monotonic()
    sums: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        server = DevServer(Path(folder) / "server", workers=2)
        server.start()
        try:
            with server.api() as api:
                api.ok("POST", "sys/mounts/vectors", {"type": "transit"})
                runner = Runner(api, "vectors")
                for file in FILES + WYCHEPROOF:
                    tally = runner.run(file.reader(file.path))
                    print(tally.line(file.path), flush=True)
                    for text in tally.wrong[:5]:
                        print(f"    {text}")
                    sums.update(
                        used=tally.used,
                        refused=tally.refused,
                        wrong=len(tally.wrong),
                        excluded=sum(tally.excluded.values()),
                    )
        finally:
            server.stop()
    print(
        f"{len(FILES + WYCHEPROOF)} files: {sums['used']} vectors used, {sums['refused']} of them to be refused, "
        f"{sums['wrong']} wrong, {sums['excluded']} excluded; {time.monotonic() - began:.0f} s"
    )
    return 1 if sums["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
