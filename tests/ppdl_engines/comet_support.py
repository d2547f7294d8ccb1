"""CometBFT's program, where this machine has it."""

from __future__ import annotations

import pytest

from hub.ppdl.engines.cometbft.binary import BinaryError, find_binary


def need_cometbft() -> None:
    """Skip with the reason where no CometBFT can be had; nothing is built here."""
    try:
        find_binary()
    except BinaryError as error:
        pytest.skip(str(error))
