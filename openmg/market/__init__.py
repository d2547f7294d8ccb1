"""Market arithmetic that meters, hubs and contracts share."""
