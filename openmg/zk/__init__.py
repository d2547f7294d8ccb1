"""Private transfers: Poseidon, notes, the note tree, circuits written in Python, and Groth16 over BN254.

One circuit function yields the constraint matrices (once) and the witness (for every proof). Two backends, `portable`
(Python and gmpy2) and `native` (the optional module `openmg_native`), read the same proving key and, given the same
randomness, write the same proof byte for byte. The statements are described in docs/ZK.md.
Not here: wallets, contracts, and anything that talks to a chain.
"""
