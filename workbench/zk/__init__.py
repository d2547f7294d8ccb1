"""What the command line and the benchmarks share about proofs."""
