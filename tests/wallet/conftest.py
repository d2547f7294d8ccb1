"""Fixtures of the wallet's tests; what they are made of is in the kits beside this file."""

from owner_kit import config_path, nobody_at_a_terminal_and_a_cheap_seal, owner  # noqa: F401
from purse_kit import alice, bob, wallet_of  # noqa: F401
