"""What the operators of the demo's hubs would have done: identities, each other's cards, vote logs.

The same functions as behind `openmg-hub init` and `join`; the demo's hubs talk TLS like any others.
"""

from __future__ import annotations

import time

from hub.operators.folder import HubFolder
from hub.operators.identity import DEFAULT_DAYS, Place, init_identity, times
from hub.operators.network import keep_card
from hub.ppdl.genesis import Genesis
from hub.ppdl.store import initialise_store
from workbench.demo.site import Site
from workbench.ports import HOST


def provision_hubs(site: Site, genesis: Genesis) -> None:
    """Make every hub ready to run on the chain."""
    when = times(int(time.time()), DEFAULT_DAYS)
    folders = {name: HubFolder(site.hub_folder(name)) for name in site.hub_names}
    cards = {
        name: init_identity(folders[name], genesis.chain_id, genesis, Place(name, HOST, port), when)
        for name, port in zip(site.hub_names, site.ports.hubs, strict=True)
    }
    for name, folder in folders.items():
        for other, card in cards.items():
            if other != name:
                keep_card(folder, card, candidate=False)
        folder.store.parent.mkdir(mode=0o700)
        initialise_store(folder.store, genesis)
