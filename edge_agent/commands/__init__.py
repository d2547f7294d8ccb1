"""The commands of `openmg-agent`, one file a group; each gives its parser with `add_commands`.

Rules: heavy modules are imported by the command that needs them; a command returns its exit code and prints what it
found to stdout, progress and complaints to stderr. Not here: `keys` and `wallet`, whose tools bring their own.
"""
