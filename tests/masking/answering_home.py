"""A process that answers a hub's questions as an agent does: notices in hex on stdin, one answer or `-` a line on stdout.

Run with the agent's configuration file; the tests kill it while it works.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_agent.agent import load_device_key
from edge_agent.config import AgentConfig
from edge_agent.masking.openings import Openings
from edge_agent.masking.promises import Promises
from openmg.config import load_toml

if __name__ == "__main__":
    config = load_toml(Path(sys.argv[1]), AgentConfig)
    openings = Openings(config, load_device_key(config), Promises(config.promises_path))
    for line in sys.stdin:
        answer = openings.answer(bytes.fromhex(line))
        sys.stdout.write(answer.hex() if answer else "-")
        sys.stdout.write("\n")
        sys.stdout.flush()
