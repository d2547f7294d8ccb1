"""Statements, proofs and keys in the files that other programs of the field read: snarkjs JSON and iden3 binaries."""
