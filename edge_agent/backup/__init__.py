"""Backup and restore of a meter: one sealed file with key, store and certificate, for a card that is lost.

archive     the sealed file: chunks under a passphrase
manifest    what is in one, whose it is, and what was left out and why
making      from a state folder, while its agent runs
restoring   into an empty one, with numbers that were never used
"""
