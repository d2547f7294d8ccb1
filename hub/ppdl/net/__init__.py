"""How PPDL validators talk.

Authenticated TCP (`tcp.py`), an in-process twin of it (`memory.py`), and the fair queue between both and the
engine.
"""
