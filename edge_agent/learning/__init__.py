"""Learning on the meter: its part in the rounds of several models (`openmg.member`), private rounds, its personal layer.

Rules: readings stay in this process; what leaves is one clipped int16 update and one loss per round.
Not here: MQTT and signatures (the agent wires them), training (`openmg.member`), the network (`openmg.forecast`).
"""
