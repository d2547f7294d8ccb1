"""The operator's devices: a small certificate authority, invitations, approval, revocation, and the broker's files."""
