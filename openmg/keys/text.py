"""Shielded addresses and viewing keys as text: Bech32m of a version byte and the key's parts.

| prefix (main, test) | what | bytes after the version |
|---|---|---|
| openmg, openmgtest | address | payment key 32, X25519 key 32 |
| openmgivk, openmgtestivk | incoming viewing key (secret) | payment key 32, X25519 secret 32 |
| openmgfvk, openmgtestfvk | full viewing key (secret) | payment key 32, nullifier key 32, X25519 secret 32 |

Rules: text of another kind, network or version is refused by name, and an error never repeats a secret.
Not here: the checksum (`openmg.keys.bech32m`), what a viewing key sees (`openmg.keys.audit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from openmg.keys import bech32m

if TYPE_CHECKING:  # the circuit hash takes a while to import, and a configuration only asks whether text is well formed
    from openmg.zk.notes import IncomingViewingKey, ShieldedAddress, ViewingKey

NETWORKS = {"main": "openmg", "test": "openmgtest"}
"""Prefix of each network's addresses. Keys are the same in both: the prefix keeps a sender from paying on the wrong one."""
VERSION = 0
MAX_TEXT = 200
ADDRESS, INCOMING, FULL = "", "ivk", "fvk"
_NAMES = {ADDRESS: "a shielded address", INCOMING: "an incoming viewing key", FULL: "a full viewing key"}
_PARTS = {ADDRESS: 2, INCOMING: 2, FULL: 3}
_PART_BYTES = 32


class KeyTextError(ValueError):
    """The text is not the address or key that was asked for; the error says why."""


def _encode(kind: str, network: str, data: bytes) -> str:
    return bech32m.encode(NETWORKS[network] + kind, bytes([VERSION]) + data, MAX_TEXT)


def kind_of(text: str) -> tuple[str, str]:
    """Kind (ADDRESS, INCOMING or FULL) and network of a text, by its prefix; KeyTextError for any other."""
    prefix = text.strip().lower().rpartition("1")[0]
    for network, start in NETWORKS.items():
        for kind in _NAMES:
            if prefix == start + kind:
                return kind, network
    raise KeyTextError(f"it does not begin as {', '.join(_NAMES.values())} of ours do; the first is {NETWORKS['main']}1...")


def require_well_formed(text: str, kind: str, network: str) -> bytes:
    """The bytes after the version of a text of this kind and network; KeyTextError for anything else."""
    found, where = kind_of(text)
    if found != kind:
        raise KeyTextError(f"it is {_NAMES[found]}, not {_NAMES[kind]}")
    if where != network:
        raise KeyTextError(f"it belongs to the network {where!r}, and this is {network!r}")
    try:
        _, data = bech32m.decode(text.strip(), MAX_TEXT)
    except bech32m.Bech32Error as error:
        raise KeyTextError(f"it is not {_NAMES[kind]}: {error}") from None
    if not data or data[0] != VERSION:
        raise KeyTextError(f"it is {_NAMES[kind]} of a version that this program does not know; update it")
    if len(data) != 1 + _PART_BYTES * _PARTS[kind]:
        raise KeyTextError(f"it has {len(data)} bytes, and {_NAMES[kind]} has {1 + _PART_BYTES * _PARTS[kind]}")
    return data[1:]


def encode_address(address: ShieldedAddress, network: str) -> str:
    """The address as text, 117 or 121 characters."""
    return _encode(ADDRESS, network, address.to_bytes())


def decode_address(text: str, network: str) -> ShieldedAddress:
    """The address in the text; KeyTextError when it is none of this network."""
    from openmg.zk.notes import ShieldedAddress

    data = require_well_formed(text, ADDRESS, network)
    try:
        return ShieldedAddress.from_bytes(data)
    except ValueError as error:
        raise KeyTextError(f"it is no address: {error}") from None


def encode_viewing_key(key: IncomingViewingKey, network: str) -> str:
    """The key as text, which is a secret; a full key is written as one."""
    from openmg.zk.notes import ViewingKey

    full = isinstance(key, ViewingKey)
    elements = (key.public_key, key.nullifier_key) if isinstance(key, ViewingKey) else (key.public_key,)
    data = b"".join(element.to_bytes(_PART_BYTES, "big") for element in elements) + key.decryption_key
    return _encode(FULL if full else INCOMING, network, data)


def decode_viewing_key(text: str, network: str) -> IncomingViewingKey | ViewingKey:
    """The incoming or full viewing key in the text; KeyTextError when it is none of this network."""
    from openmg.zk.field import felt_from_bytes
    from openmg.zk.notes import IncomingViewingKey, ViewingKey

    kind = FULL if kind_of(text)[0] == FULL else INCOMING
    data = require_well_formed(text, kind, network)
    parts = [data[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
    try:
        elements = [felt_from_bytes(part) for part in parts[:-1]]
    except ValueError:
        raise KeyTextError("it has a number that is not below the circuit field's modulus") from None
    if kind == INCOMING:
        return IncomingViewingKey(elements[0], parts[-1])
    return ViewingKey(elements[0], parts[-1], elements[1])
