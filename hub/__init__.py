"""The hub: what a microgrid operator runs (ingest, PPDL validator, relay, plasma, market, console)."""
