"""`python -m edge_agent`, and where the command `openmg-agent` enters.

Rules: a 32-bit Python is refused here, before anything is imported: most of the agent's libraries have no wheel for it, and
what would then be said is the first library's name. Not here: the commands (`cli`).
"""

import sys

MIN_MAXSIZE = 2**32
"""`sys.maxsize` is above it on a 64-bit Python and below on any other."""
REFUSAL = "openmg-agent needs a 64-bit Python and this one has 32 bits: install the 64-bit Debian or Raspberry Pi OS"


def main() -> int:
    """Runs the command line; exit code 2 on a system that it cannot run on."""
    if sys.maxsize < MIN_MAXSIZE:
        print(REFUSAL, file=sys.stderr)
        return 2
    from edge_agent.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
