"""Meter profiles: one TOML file per meter model drives the reader, the simulator and the documentation."""
