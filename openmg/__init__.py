"""What a meter and a hub must agree on: units, clock, codec, identities, messages, masking, forecaster, zk.

This package is imported by every program of the project and imports none of them.
"""

__version__ = "0.1.0"
