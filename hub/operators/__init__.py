"""What an operator does before and beside running a hub: make an identity, found or join a network, change keys, know peers,
change the validator set.

Everything lies in one folder of the hub (`folder.py`); between operators go only cards and the genesis, which hold no secret.
Rules: errors are `OperatorError` with one sentence; nothing secret is returned, printed or logged; nothing that exists is
overwritten unless the operation is to replace it. Only the last speaks with a running hub (`running.py`).
Not here: the command line (`commands.py` and `governance_commands.py` turn it into calls).
"""
