"""What a demo was told to use and has to be there: a broker of the user's own, and data for its homes.

Not here: what the options may be (`options`), the run itself (`run`).
"""

from __future__ import annotations

import socket

from firmware_sim.config import SimConfig
from firmware_sim.dataset import DatasetError
from firmware_sim.neighbourhood import Neighbourhood
from openmg.config import load_toml
from openmg.mqtt import MqttAddress
from workbench.demo.options import DemoError
from workbench.demo.site import Site

CONNECT_SECONDS = 3.0


class WrongData(DemoError):
    """The file of --data cannot be used."""


def listens(host: str, port: int) -> bool:
    """Whether a server takes connections there."""
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def require_broker(url: str) -> None:
    """DemoError when nothing listens at the URL of --mqtt: agents and hubs would wait for it, the demo would show nothing."""
    address = MqttAddress.parse(url)
    if not listens(address.host, address.port):
        raise DemoError(f"no broker answers at {url}; start it, correct --mqtt, or leave it out to use our own")


def require_data(site: Site) -> None:
    """WrongData when the simulator could not use the file of --data for the homes of the site."""
    try:
        Neighbourhood(load_toml(site.sim_config, SimConfig))
    except DatasetError as error:
        raise WrongData(f"--data: {error}") from error
