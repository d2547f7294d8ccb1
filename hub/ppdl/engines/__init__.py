"""The engines that can replicate an `Application`: `pbft`, `solo` and `cometbft`, behind one interface (`base.py`),
made by name (`registry.py`).
"""
