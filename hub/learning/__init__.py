"""A hub's part in learning rounds: what meters are told, the blobs off the chain, the validator's votes.

    publisher   the open round to the meters, by MQTT (the hub that has a broker); private_publisher: steps of a private one
    blobs       the store of blobs; exchange: fetching them from other hubs and handing them out
    results     the aggregate of a round's blobs, as a pure function; private_sum: of masked ones
    attendant   the validator's duties in one model's rounds, driven by decided blocks
    attendants  one attendant for each model of the chain
    price_trainer  this hub as one of those who learn prices; price_past: the public past that they learn from
Not here: the rules of a round (`hub.ppdl.app.learning_rounds`), training (`openmg.member`).
"""
