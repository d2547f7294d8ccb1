"""How PPDL validators talk.

Authenticated TCP (`tcp.py`) under TLS (`tls.py`) between validators that know each other by cards (`cards.py`), with limits for
each peer (`limits.py`); an in-process twin of it (`memory.py`); and the fair queue between both and the engine.
"""
