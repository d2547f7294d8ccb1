"""Fuzzing of what the PPDL chain reads from others: bytes become events, rules that must hold are checked after each."""
