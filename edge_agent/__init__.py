"""The program on the meter: it reads Modbus, keeps SQLite, trains, pays and speaks MQTT, and imports no hub.

With OPENMG_PLAIN_INTEGERS=1 it computes in Python's own integers: gmpy2 takes 3 MB of a small board and makes a slot's two
commitments 1 ms faster. Provers are processes of their own and keep it. Set by the service's unit; it must be known before
the first module of `openmg.zk` is imported, so it is read here.
"""

import os
import sys

if os.environ.get("OPENMG_PLAIN_INTEGERS") == "1":
    sys.modules.setdefault("gmpy2", None)  # type: ignore[arg-type]  # as if it were not installed
