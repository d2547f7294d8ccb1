"""A hub's part in learning rounds: what meters are told, the blobs off the chain, the validator's votes.

    publisher   the open round to the meters, by MQTT (the hub that has a broker)
    blobs       the store of blobs; exchange: fetching them from other hubs and handing them out
    results     the aggregate of a round's blobs, as a pure function
    attendant   the validator's duties, driven by decided blocks
Not here: the rules of a round (`hub.ppdl.app.learning_rounds`), training (`edge_agent.learning`).
"""
