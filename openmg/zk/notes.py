"""Notes and the keys that own them: commitments, nullifiers, and what the sender writes to the receiver.

Rules: pk = H(pk, sk), nk = H(nk, sk); a note is cm = H(cm, asset, amount, H(own, pk, blinding)), its nullifier
H(nf, nk, cm, position). Spending needs sk; seeing what came in needs the X25519 key, seeing what was spent nk as well.
A ciphertext has one length: ephemeral key 32 | view tag 1 | ChaCha20-Poly1305 of asset, amount and blinding (RFC 8439),
key and tag from X25519 and HKDF-SHA256; the commitment is authenticated with it. What a ciphertext says counts only
if it opens the commitment on chain. Not here: which notes are unspent (the wallet), randomness (callers bring it).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from openmg.identity import hkdf
from openmg.units import MAX_NOTE_AMOUNT
from openmg.zk.field import FELT_BYTES, R, felt_from_bytes, reduce_wide, require_felt
from openmg.zk.tags import H
from openmg.zk.tree import position

X25519_BYTES = 32
ASSET_BYTES = 21
AMOUNT_BYTES = 12
ASSET_LIMIT = 1 << 162
"""Two bits of kind and 160 bits of id."""
TAG_BYTES = 1
KEY_BYTES = 32
NONCE_BYTES = 12
PLAINTEXT_BYTES = ASSET_BYTES + AMOUNT_BYTES + FELT_BYTES
CIPHERTEXT_BYTES = X25519_BYTES + TAG_BYTES + PLAINTEXT_BYTES + 16
CIPHER_LABEL = b"openmg.zk.note.v1"
WIDE_BYTES = 48
MIN_CONTEXT_BYTES = 8


@dataclass(frozen=True)
class ShieldedAddress:
    """Where a note can be sent: the owner's pk and the X25519 key that reads ciphertexts."""

    public_key: int
    encryption_key: bytes

    def __post_init__(self) -> None:
        require_felt(self.public_key, "public_key")
        if len(self.encryption_key) != X25519_BYTES:
            raise ValueError(f"an encryption key has {X25519_BYTES} bytes, not {len(self.encryption_key)}")

    def to_bytes(self) -> bytes:
        """pk big-endian, then the encryption key: 64 bytes."""
        return self.public_key.to_bytes(FELT_BYTES, "big") + self.encryption_key

    @staticmethod
    def from_bytes(data: bytes) -> ShieldedAddress:
        """ValueError unless the bytes are an address."""
        if len(data) != FELT_BYTES + X25519_BYTES:
            raise ValueError(f"a shielded address has {FELT_BYTES + X25519_BYTES} bytes, not {len(data)}")
        return ShieldedAddress(felt_from_bytes(data[:FELT_BYTES]), data[FELT_BYTES:])


@dataclass(frozen=True)
class IncomingViewingKey:
    """Sees every note of an owner arrive, not whether it was spent, and cannot spend."""

    public_key: int
    decryption_key: bytes = field(repr=False)

    @property
    def address(self) -> ShieldedAddress:
        secret = X25519PrivateKey.from_private_bytes(self.decryption_key)
        return ShieldedAddress(self.public_key, secret.public_key().public_bytes_raw())


@dataclass(frozen=True)
class ViewingKey(IncomingViewingKey):
    """The full viewing key: sees every note of an owner come and go, and cannot spend."""

    nullifier_key: int = field(repr=False)

    @property
    def incoming(self) -> IncomingViewingKey:
        """The part that does not see spends."""
        return IncomingViewingKey(self.public_key, self.decryption_key)


@dataclass(frozen=True)
class SpendingKey:
    """sk, an element of the circuit field, and the viewing secret beside it, both from the owner's seed."""

    secret: int = field(repr=False)
    decryption_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        require_felt(self.secret, "spending key")

    @staticmethod
    def from_seed(owner_seed: bytes, decryption_key: bytes | None = None) -> SpendingKey:
        """The keys of an owner's seed (the money root, never the device key); another X25519 secret may be given."""
        secret = reduce_wide(hkdf(owner_seed, "owner/zk-spend", WIDE_BYTES))
        return SpendingKey(secret, decryption_key or hkdf(owner_seed, "owner/zk-view"))

    @property
    def public_key(self) -> int:
        return H("pk", self.secret)

    @property
    def nullifier_key(self) -> int:
        return H("nk", self.secret)

    @property
    def viewing_key(self) -> ViewingKey:
        return ViewingKey(self.public_key, self.decryption_key, self.nullifier_key)

    @property
    def address(self) -> ShieldedAddress:
        return self.viewing_key.address


def derive_blinding(owner_seed: bytes, context: bytes) -> int:
    """A note's blinding from the owner's seed.

    The context must be another for every note the owner makes: the first nullifier of the transfer with the output's
    number, or fresh random bytes for a deposit. At least 8 bytes.
    """
    if len(context) < MIN_CONTEXT_BYTES:
        raise ValueError(f"a blinding's context has at least {MIN_CONTEXT_BYTES} bytes, or it may repeat")
    return reduce_wide(hkdf(owner_seed, "owner/zk-blinding/" + context.hex(), WIDE_BYTES))


@dataclass(frozen=True)
class Note:
    """Value of one asset that belongs to pk; amount in the asset's smallest unit."""

    asset: int
    amount: int
    public_key: int
    blinding: int = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.asset < ASSET_LIMIT:
            raise ValueError(f"asset {self.asset} is not kind + 4 * id with an id below 2^160")
        if not 0 <= self.amount <= MAX_NOTE_AMOUNT:
            raise ValueError(f"amount {self.amount} is outside 0 to 2^96 - 1, the range of a note")
        require_felt(self.public_key, "public_key")
        require_felt(self.blinding, "blinding")

    @property
    def partial(self) -> int:
        """H(own, pk, blinding): all a contract needs to make a note for an owner it does not know."""
        return H("own", self.public_key, self.blinding)

    @property
    def commitment(self) -> int:
        return H("cm", self.asset, self.amount, self.partial)

    def nullifier(self, nullifier_key: int, tree_number: int, index: int) -> int:
        """What spending the note at this place publishes."""
        return H("nf", nullifier_key, self.commitment, position(tree_number, index))


def _cipher(shared: bytes, ephemeral: bytes, receiver: bytes) -> tuple[bytes, bytes, bytes]:
    """View tag, key and nonce; the key is used once, since the ephemeral key is."""
    length = TAG_BYTES + KEY_BYTES + NONCE_BYTES
    data = HKDF(hashes.SHA256(), length, salt=ephemeral + receiver, info=CIPHER_LABEL).derive(shared)
    return data[:TAG_BYTES], data[TAG_BYTES : TAG_BYTES + KEY_BYTES], data[TAG_BYTES + KEY_BYTES :]


def encrypt_note(note: Note, receiver: ShieldedAddress, ephemeral_secret: bytes) -> bytes:
    """The ciphertext for the note's owner; `ephemeral_secret` is 32 random bytes that are never used again.

    Raises ValueError when the note does not belong to the receiver or the receiver's key is degenerate.
    """
    if note.public_key != receiver.public_key:
        raise ValueError("the note does not belong to the address it would be encrypted to")
    secret = X25519PrivateKey.from_private_bytes(ephemeral_secret)
    ephemeral = secret.public_key().public_bytes_raw()
    shared = secret.exchange(X25519PublicKey.from_public_bytes(receiver.encryption_key))
    view_tag, key, nonce = _cipher(shared, ephemeral, receiver.encryption_key)
    plaintext = (
        note.asset.to_bytes(ASSET_BYTES, "big")
        + note.amount.to_bytes(AMOUNT_BYTES, "big")
        + note.blinding.to_bytes(FELT_BYTES, "big")
    )
    bound = note.commitment.to_bytes(FELT_BYTES, "big")
    return ephemeral + view_tag + ChaCha20Poly1305(key).encrypt(nonce, plaintext, bound)


class NoteScanner:
    """Tries ciphertexts from the chain against one owner's viewing key."""

    def __init__(self, viewing_key: IncomingViewingKey) -> None:
        self._public_key = viewing_key.public_key
        self._secret = X25519PrivateKey.from_private_bytes(viewing_key.decryption_key)
        self._receiver = self._secret.public_key().public_bytes_raw()

    def open(self, ciphertext: bytes, commitment: int) -> Note | None:
        """The owner's note, or None: for others, garbage, or a note that does not open the commitment on chain."""
        if len(ciphertext) != CIPHERTEXT_BYTES or not 0 <= commitment < R:
            return None
        ephemeral, sealed = ciphertext[:X25519_BYTES], ciphertext[X25519_BYTES + TAG_BYTES :]
        try:
            shared = self._secret.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        except ValueError:  # a point of small order: no sender of ours makes one
            return None
        view_tag, key, nonce = _cipher(shared, ephemeral, self._receiver)
        if ciphertext[X25519_BYTES : X25519_BYTES + TAG_BYTES] != view_tag:
            return None
        try:
            plaintext = ChaCha20Poly1305(key).decrypt(nonce, sealed, commitment.to_bytes(FELT_BYTES, "big"))
        except InvalidTag:
            return None
        return self._note(plaintext, commitment)

    def _note(self, plaintext: bytes, commitment: int) -> Note | None:
        asset = int.from_bytes(plaintext[:ASSET_BYTES], "big")
        amount = int.from_bytes(plaintext[ASSET_BYTES : ASSET_BYTES + AMOUNT_BYTES], "big")
        blinding = int.from_bytes(plaintext[ASSET_BYTES + AMOUNT_BYTES :], "big")
        try:
            note = Note(asset, amount, self._public_key, blinding)
        except ValueError:
            return None
        return note if note.commitment == commitment else None
