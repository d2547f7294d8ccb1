"""Which services an agent runs: the one place that knows metering, learning, wallet, market and the home's own Home Assistant.

Rules: a section that is missing in the configuration leaves its service out, and its modules are then not
imported.
"""

from __future__ import annotations

from edge_agent.agent import Agent, PaymentIdentity
from edge_agent.config import AgentConfig
from edge_agent.meter import OnReading
from edge_agent.services import Service
from edge_agent.shared import Shared


def make_agent(config: AgentConfig, shared: Shared | None = None) -> Agent:
    """The agent of a configuration; raises StoreError, KeyFileError or ConfigError when its files cannot be used.

    shared: of the process, where several agents run in it.
    """
    shared = shared or Shared()
    services: list[Service] = []
    payment = None
    if config.learning is not None and config.learning.enabled:
        from edge_agent.learning.service import LearningService

        services.append(LearningService(thread=shared.training))
    if config.wallet is not None:
        from edge_agent.wallet.keys import OwnerKeys
        from edge_agent.wallet.service import WalletService
        from openmg.identity import load_or_create_key

        keys = OwnerKeys(load_or_create_key(config.wallet.seed_file, config.passphrases))
        config.device.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        trades, turn = config.market is None, shared.one_wallet_proof
        wallet = WalletService(config.wallet, keys, config.device.state_dir, turn, trades=trades)
        services.append(wallet)
        if config.market is not None:
            from edge_agent.market.service import MarketService

            services.append(MarketService(wallet, keys, config.device.state_dir, config.market.calendar()))
        address = keys.spending_key.address
        payment = PaymentIdentity(keys.account, address.public_key, address.encryption_key)
    listeners: list[OnReading] = []
    if config.homeassistant is not None and config.homeassistant.enabled:
        from edge_agent.homeassistant import HomeAssistantService

        profile = config.meter.load_profile()
        assistant = HomeAssistantService(config.homeassistant, config.device.name, profile)
        services.append(assistant)
        listeners.append(assistant.on_reading)
    return Agent(config, services, payment, listeners, shared)
