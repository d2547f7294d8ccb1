"""What hub and device prove in an enrolment, and over which bytes.

The *transcript* is a hash over the hello, the challenge without its proof, and the SHA-256 of the server certificate of the
very TLS connection. Whoever stands between must show a certificate of its own, so the two sides have different transcripts
and refuse each other's proofs.

| proof | who | with what | over |
|---|---|---|---|
| Challenge.proof | hub | HMAC-SHA256, the code's MAC key | the transcript |
| Request.statement | device | secp256k1, tag `enrol.device.v1` and chain id | name, TLS key, mask key, transcript |
| Request.mask_proof | device | HMAC-SHA256, X25519 of mask key and the hub's share | statement |
| Answer.proof | hub | HMAC-SHA256, the code's MAC key | transcript, membership |
| Request.code_proof | device | Ed25519, the code's key | transcript, request, statement, mask proof |

The hub proves itself first: until then the device has sent four characters that name an invitation, and nothing else.
Not here: X.509 (`openmg.enrolment.certificates`), who may be enrolled (`hub.devices`).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from openmg import codec
from openmg.enrolment.code import CodeKeys, CodeVerifier
from openmg.enrolment.messages import Answer, Challenge, DeviceStatement, Hello, Membership, Request
from openmg.kdf import hkdf
from openmg.messages import base
from openmg.pairwise import agree

_TRANSCRIPT_TAG, _REQUEST_TAG = "openmg.enrol.transcript.v1", "openmg.enrol.request.v1"
_MEMBERSHIP_TAG = "openmg.enrol.membership.v1"
FINGERPRINT_BYTES = 16
"""128 bits: nobody finds other keys with the same ones."""


class ProofError(ValueError):
    """A proof does not hold; one sentence for the person who enrols or approves."""


@dataclass(frozen=True)
class DeviceKeys:
    """The keys that a request ties together; public parts. address: of the signing key, 20 bytes."""

    device: str
    address: bytes
    mask_public: bytes
    tls_key: bytes


def transcript(hello: Hello, challenge: Challenge, server_certificate: bytes) -> bytes:
    """32 bytes over all that was said before the hub's proof. server_certificate: DER, as the connection shows it."""
    said = [hello.invitation, hello.nonce, challenge.nonce, challenge.share, challenge.authority, challenge.operator]
    place = hashlib.sha256(server_certificate).digest()
    return hashlib.sha256(codec.encode([_TRANSCRIPT_TAG, *said, challenge.chain_id, place])).digest()


def hub_proof(hub_mac: bytes, transcript_hash: bytes) -> bytes:
    """That who sends it knows the code's MAC key, on this connection."""
    return hmac.digest(hub_mac, transcript_hash, "sha256")


def check_hub(keys: CodeKeys, challenge: Challenge, transcript_hash: bytes) -> None:
    """Raises ProofError unless the challenge comes from the hub that made the code, over this very connection."""
    if not hmac.compare_digest(challenge.proof, hub_proof(keys.hub_mac, transcript_hash)):
        raise ProofError(
            "the other end does not know this code: it is mistyped, it was made for another hub, or somebody stands between;"
            " nothing was sent but the first four characters"
        )


def membership_proof(hub_mac: bytes, transcript_hash: bytes, membership: bytes) -> bytes:
    """That the hub of the code says so to who sits at the other end of this very connection."""
    return hmac.digest(hub_mac, codec.encode([_MEMBERSHIP_TAG, transcript_hash, membership]), "sha256")


def open_membership(keys: CodeKeys, answer: Answer, transcript_hash: bytes) -> Membership:
    """What an answer with a certificate says of the device. Raises ProofError unless it comes from the hub of the code."""
    wanted = membership_proof(keys.hub_mac, transcript_hash, answer.membership)
    if not hmac.compare_digest(answer.proof, wanted):
        raise ProofError("the hub's answer does not say where this device belongs: update agent and hub together")
    try:
        return base.decode(Membership, answer.membership)
    except base.InvalidMessage as error:
        raise ProofError(f"the hub's answer cannot be read ({error}): update agent and hub together") from error


def make_request(
    keys: CodeKeys,
    csr: bytes,
    own: DeviceKeys,
    signing_key: bytes,
    mask_key: X25519PrivateKey,
    challenge: Challenge,
    transcript_hash: bytes,
) -> Request:
    """The device's request, after `check_hub`. Raises ProofError for a hub's share that nobody can agree a secret with."""
    said = DeviceStatement(own.device, own.tls_key, own.mask_public, transcript_hash)
    statement = base.sign(said, challenge.chain_id, signing_key)
    mask_proof = _mask_proof(mask_key, challenge.share, statement)
    code_proof = keys.device_key.sign(_request_digest(transcript_hash, csr, statement, mask_proof))
    return Request(csr, statement, mask_proof, code_proof)


def check_code(verifier: CodeVerifier, request: Request, transcript_hash: bytes) -> None:
    """Raises ProofError unless the request was made by who knows the code, on this connection."""
    digest = _request_digest(transcript_hash, request.csr, request.statement, request.mask_proof)
    try:
        Ed25519PublicKey.from_public_bytes(verifier.device_public).verify(request.code_proof, digest)
    except (InvalidSignature, ValueError):
        raise ProofError("the code is wrong") from None


def check_keys(
    request: Request, tls_key: bytes, share_key: X25519PrivateKey, chain_id: int, transcript_hash: bytes
) -> DeviceKeys:
    """The keys of a request whose code is right. Raises ProofError unless they all belong to who sent it, on this chain.

    tls_key: SHA-256 of the public key in the request's CSR, whose own signature was checked. share_key: of the challenge.
    """
    try:
        signed = base.open_signed(DeviceStatement, request.statement, chain_id)
    except base.InvalidMessage as error:
        raise ProofError("the device's statement cannot be read: update agent and hub together") from error
    said = signed.message
    if said.transcript != transcript_hash or said.tls_key != tls_key:
        raise ProofError("the device's statement is for another connection or another TLS key")
    if not hmac.compare_digest(request.mask_proof, _mask_proof(share_key, said.mask_public, request.statement)):
        raise ProofError("the device does not have the mask key that it names")
    return DeviceKeys(said.device, signed.signer, said.mask_public, tls_key)


def fingerprint(keys: DeviceKeys, authority: bytes, chain_id: int) -> str:
    """Eight groups of four hex digits over everything that an approval ties together, to be compared by people."""
    parts = [keys.device, keys.address, keys.mask_public, keys.tls_key, hashlib.sha256(authority).digest(), chain_id]
    text = hashlib.sha256(codec.encode(["openmg.enrol.fingerprint.v1", *parts])).hexdigest()[: 2 * FINGERPRINT_BYTES]
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def _mask_proof(own: X25519PrivateKey, peer: bytes, statement: bytes) -> bytes:
    try:
        secret = agree(own, peer)
    except ValueError as error:
        raise ProofError("an X25519 key of the other side is none that a secret can be agreed with") from error
    return hmac.digest(hkdf(secret, "enrol/mask-proof"), statement, "sha256")


def _request_digest(transcript_hash: bytes, csr: bytes, statement: bytes, mask_proof: bytes) -> bytes:
    return hashlib.sha256(codec.encode([_REQUEST_TAG, transcript_hash, csr, statement, mask_proof])).digest()
