"""Ingest: the hub's side of telemetry. Stores masked reports before it acknowledges them, opens sums of whole
groups only.
"""
