"""Learning on the meter: the home's own windows, a short training per round, and a signed-to-be answer.

Rules: readings stay in this process; what leaves is one clipped int16 update and one loss per round.
Not here: MQTT and signatures (the agent wires them), the network and its trainers (`openmg.forecast`).
"""
