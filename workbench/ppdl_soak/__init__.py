"""Four PPDL validators in processes of their own that are killed, robbed of unsynced writes and wiped, at random."""
