"""What a hub needs to speak to an EVM chain: node, artifacts, client, deployment."""
