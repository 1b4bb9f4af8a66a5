"""Runs a command of Keystead as in a pod whose secrets lie in another folder: the real one is not ours to write.

python -P in_pod.py FOLDER keystead ARGUMENTS...
"""

from __future__ import annotations

import sys
from pathlib import Path

from kms.cli import main
from kms.identity.jwt import pod

if __name__ == "__main__":
    pod.FOLDER = Path(sys.argv[1])
    sys.argv = sys.argv[2:]
    main()
