"""The plasma chain's roles: the operator (deposits, checkpoints) and the validators that sign checkpoints."""
