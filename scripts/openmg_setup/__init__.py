"""The set-up of a checkout, in steps: environment, packages, contracts, native, keys.

Rules: standard library only, Python >= 3.11; every step is idempotent and is skipped, without contacting
anything, while the files that decide it are unchanged (state.py); what can be done without (Node.js, cargo)
is told in one line and skipped; what cannot stops with one sentence that says what to do (SetupError).

Not here: what is installed (pyproject.toml, scripts/constraints.txt, contracts/package-lock.json,
native/Cargo.toml).
"""
