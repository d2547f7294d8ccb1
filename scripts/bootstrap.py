"""Sets up a checkout of Enhanced Open MG: `python3 scripts/bootstrap.py` (or `make setup`).

This file is only the front door. It starts on whatever `python3` happens to be, finds a Python >= 3.11, and
hands over to the package `openmg_setup` beside it, which does the work with the standard library alone.

Rules: nothing here may need Python 3.8 or newer (it must be able to say what is missing on an old machine);
the text encoding is UTF-8 whatever the locale says, because a checkout path may hold any letters.

Not here: the steps themselves (openmg_setup/), what is installed (pyproject.toml, scripts/constraints.txt).
"""

import os
import subprocess
import sys

MIN_VERSION = (3, 11)
NAMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3")
MISSING = (
    "This machine has no Python 3.11 or newer (this is {0}.{1} at {2}): install one "
    "(Debian, Ubuntu, Raspberry Pi OS: sudo apt install python3 python3-venv), then run this again."
)


def is_new_enough(command):
    """Whether running `command` gives a Python >= 3.11 (a version manager's shim may only look like one)."""
    code = "import sys; sys.exit(0 if sys.version_info >= (%d, %d) else 3)" % MIN_VERSION
    try:
        with open(os.devnull, "w") as null:
            return subprocess.call([command, "-c", code], stdout=null, stderr=null) == 0
    except OSError:
        return False


def find_newer():
    """The first suitable interpreter on PATH, or None."""
    for name in NAMES:
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            command = os.path.join(folder or ".", name)
            if os.path.isfile(command) and os.access(command, os.X_OK) and is_new_enough(command):
                return command
    return None


def main():
    if sys.version_info < MIN_VERSION:
        newer = find_newer()
        if newer is None:
            sys.stderr.write(MISSING.format(sys.version_info[0], sys.version_info[1], sys.executable) + "\n")
            return 1
        os.execv(newer, [newer, "-X", "utf8", os.path.abspath(__file__)] + sys.argv[1:])
    if not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", os.path.abspath(__file__)] + sys.argv[1:])

    from openmg_setup.main import main as set_up

    return set_up(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
