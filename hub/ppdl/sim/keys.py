"""Keys and signatures of a world.

`KeyedDomain` replaces secp256k1 inside the simulation: a signature is a keyed hash of (chain, kind, height, view, digest)
that names its signer, and the world's table of keys checks it. Nobody without the key can make one, it binds the same
fields as the real one and has the same length, so that certificates, quorum rules and encodings are those of production;
only the price differs (about 2 us instead of 100). Worlds with `real_crypto` use secp256k1 as it is.

Not for anything outside a simulation: whoever can check such a signature can also make it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import blake2b

from hub.ppdl.consensus.certs import SIGNER_CACHE_ENTRIES, CertError, Domain
from hub.ppdl.consensus.messages import Kind
from openmg.hashing import keccak256, word
from openmg.signing import SIGNATURE_BYTES, address_of, sign_digest

CHAIN_ID = 77
GENESIS_HASH = keccak256(b"openmg.sim.genesis")
_TAG_BYTES = SIGNATURE_BYTES - 20
"""What remains of a signature beside the signer's address."""


@cache
def _pairs(count: int) -> tuple[tuple[bytes, bytes], ...]:
    keys = (keccak256(b"openmg.sim.validator" + word(i)) for i in range(count))
    return tuple(sorted((address_of(key), key) for key in keys))


def validator_keys(count: int) -> list[bytes]:
    """Deterministic keys in ascending address order."""
    return [key for _, key in _pairs(count)]


def validator_addresses(count: int) -> list[bytes]:
    """The addresses of `validator_keys`, in the same order."""
    return [address for address, _ in _pairs(count)]


@dataclass
class KeyedDomain(Domain):
    """A signing domain whose signatures are keyed hashes; `keys`: address to key."""

    keys: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._prefix = word(self.chain_id) + self.genesis_hash
        self._checked: dict[bytes, tuple[Kind, int, int, bytes]] = {}  # signatures that held, and for what
        self._made: dict[bytes, bytes] = {}  # signatures made here, and for which bytes

    def _signed(self, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
        """What a message of this kind signs: the fields themselves, which the keyed hash then binds."""
        return b"%b%d:%d:%d:%b" % (self._prefix, kind, height, view, digest)

    def signer(self, kind: Kind, height: int, view: int, digest: bytes, signature: bytes) -> bytes:
        """Address that signed. Raises CertError for a signature that its key did not make."""
        address, place = signature[_TAG_BYTES:], (kind, height, view, digest)
        if self._checked.get(signature) == place:  # every replica of the world checks it
            return address
        signed = self.digest(*place)
        if self._made.get(signature) != signed and not self._holds(address, signed, signature):
            raise CertError(f"signature of a {kind.name} is invalid")
        if len(self._checked) >= SIGNER_CACHE_ENTRIES:
            self._checked.clear()
        self._checked[signature] = place
        return address

    def _holds(self, address: bytes, signed: bytes, signature: bytes) -> bool:
        key = self.keys.get(address)
        return key is not None and _tag(key, signed) == signature[:_TAG_BYTES]

    def sign(self, address: bytes, signed: bytes) -> bytes:
        """The signature of a key over what `digest` returned; remembered, since equal bytes always hold again."""
        signature = _tag(self.keys[address], signed) + address
        if len(self._made) >= SIGNER_CACHE_ENTRIES:
            self._made.clear()
        self._made[signature] = signed
        return signature


def _tag(key: bytes, signed: bytes) -> bytes:
    return blake2b(signed, key=key, digest_size=_TAG_BYTES).digest()


Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Scheme:
    """Domain of a chain and the signing function of each of its keys (address to function)."""

    domain: Domain
    signers: dict[bytes, Sign]


def make_scheme(count: int, real_crypto: bool) -> Scheme:
    """Signatures for a world of `count` keys; every replica of the world may share the domain."""
    pairs = _pairs(count)
    if real_crypto:
        return Scheme(Domain(CHAIN_ID, GENESIS_HASH), {address: _real_signer(key) for address, key in pairs})
    domain = KeyedDomain(CHAIN_ID, GENESIS_HASH, keys=dict(pairs))
    return Scheme(domain, {address: partial(domain.sign, address) for address, _ in pairs})


def _real_signer(key: bytes) -> Sign:
    return lambda digest: sign_digest(key, digest)
