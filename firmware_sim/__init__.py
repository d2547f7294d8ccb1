"""Simulated meters and homes: what stands in for real hardware in tests and demonstrations."""
