"""The demo's hubs are provisioned as operators would do it: configurations load, and hubs know each other."""

from __future__ import annotations

from pathlib import Path

from hub.config import HubConfig
from hub.ppdl.genesis import load_genesis, make_genesis
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.store import PpdlStore
from openmg.config import load_toml
from workbench.demo.operators import provision_hubs
from workbench.demo.options import DemoOptions
from workbench.demo.site import PPDL_CHAIN_ID, make_site, write_hub_configs


def test_every_hub_of_the_demo_is_ready_for_tls(tmp_path: Path) -> None:
    site = make_site(DemoOptions(validators=4, headless=True), tmp_path / "demo")
    try:
        genesis = make_genesis(PPDL_CHAIN_ID, [hub.validator for hub in site.hubs.values()], b"", 1)
        site.genesis_file.write_bytes(genesis.encode())
        write_hub_configs(site, 0.0)
        provision_hubs(site, genesis)
        for name, keys in site.hubs.items():
            config = load_toml(site.hub_config(name), HubConfig)
            assert config.ppdl.identity_dir is not None and load_genesis(config.ppdl.genesis_file) == genesis
            state = TlsIdentity(config.ppdl.identity_dir, genesis, keys.validator).current()
            assert set(state.places) == set(genesis.validators) - {keys.validator}
            ports = {place.port for places in state.places.values() for place in places}
            assert ports | {int(config.ppdl.listen.rsplit(":", 1)[1])} == set(site.ports.hubs)
            store = PpdlStore(config.ppdl_store, genesis)
            assert store.log_complete()
            store.close()
    finally:
        site.reservation.close()
