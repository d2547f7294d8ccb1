"""Forecasting of energies a day or more ahead: features, the network with two heads, its trainers, its integer twin.

Rules: `spec` is the one place that names shapes and scales; float lives in `features` and the trainers, which run on
one machine for itself; `fixedpoint` is integer only, because replicas must agree on its answers to the last bit.
Not here: how many meters become one model (`openmg.learning`), and when training happens (`openmg.member`).
"""

from __future__ import annotations

import os

# On a busy machine a second BLAS thread makes these small products up to forty times slower; the library reads the
# variable once, when numpy is first imported, and an operator's own setting wins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
