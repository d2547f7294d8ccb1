"""Build the CometBFT that the engine `cometbft`, its tests and the benchmark use, into the cache folder.

    python scripts/build_cometbft.py [--json]

Needs the Go toolchain and takes some two minutes; does nothing when the pinned version is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.ppdl.engines.cometbft.binary import VERSION, BinaryError, build


def main() -> int:
    """Exit code 1 when it cannot be built."""
    parser = argparse.ArgumentParser(
        description=f"Build CometBFT {VERSION} with Go into the cache folder ($OPENMG_CACHE or ~/.cache/openmg).",
        epilog="example: python scripts/build_cometbft.py --json",
    )
    parser.add_argument("--json", action="store_true", help="print {version, path} when done")
    options = parser.parse_args()
    try:
        path = build(lambda line: print(line, file=sys.stderr, flush=True))
    except BinaryError as error:
        print(f"build_cometbft: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"version": VERSION, "path": str(path)}) if options.json else f"CometBFT {VERSION}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
