"""The local control socket of a running hub: how a command on the same machine asks it and hands it transactions.

    protocol.py   requests, answers and their bounds; pure
    place.py      the socket in the hub's state folder, whatever the length of its path
    server.py     the hub's side
    client.py     a command's side

Rules: the socket takes two things, a query path of the application and a transaction, and never a secret: commands sign in
their own process. It serves the user that runs the hub, and root. Nothing that comes over it can end or block the hub.
"""
