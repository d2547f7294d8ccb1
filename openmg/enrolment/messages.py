"""The messages of enrolment and renewal. Device and hub speak them over TLS, one CBOR frame each.

    device                                    hub
    Hello(invitation, nonce)            ->
                                        <-    Challenge(nonce, share, authority, operator, chain, proof)
    Request(csr, statement, two proofs) ->
                                        <-    Answer(pending | issued | refused)
    Renewal(csr), under the certificate ->
                                        <-    Answer

Rules: `openmg.messages.base` encodes; every field has a bound; nothing here is secret. A frame is `[kind, message]`.
Not here: what the proofs cover (`openmg.enrolment.transcript`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg import codec
from openmg.enrolment.code import is_invitation
from openmg.messages import base
from openmg.messages.topics import DEVICE_NAME

NONCE_BYTES = HASH_BYTES = SHARE_BYTES = PROOF_BYTES = 32
ADDRESS_BYTES = 20
SIGNATURE_BYTES = 64
MAX_CSR_BYTES = 1024
"""A P-256 request has some 250."""
MAX_CERTIFICATE_BYTES = 2048
MAX_STATEMENT_BYTES = 512
MAX_TEXT = 256
MAX_FRAME_BYTES = 8 * 1024
ROLES = ("home", "feeder")
PENDING, ISSUED, REFUSED = "pending", "issued", "refused"


@dataclass(frozen=True)
class Hello:
    """The device names its invitation; nothing of the code's secret part is in it."""

    PURPOSE: ClassVar[str] = "enrol-hello"
    invitation: str
    nonce: bytes

    def __post_init__(self) -> None:
        if not is_invitation(self.invitation) or len(self.nonce) != NONCE_BYTES:
            raise ValueError("a hello has an invitation of four characters and a nonce of 32 bytes")


@dataclass(frozen=True)
class Challenge:
    """The hub's answer: who it is, and the proof that it knows the code on this very TLS connection.

    share: an ephemeral X25519 key, to which the device proves that it has its mask key. authority: the devices' authority,
    X.509 DER. operator, chain_id: whose messages the device is to believe.
    """

    PURPOSE: ClassVar[str] = "enrol-challenge"
    nonce: bytes
    share: bytes
    authority: bytes
    operator: bytes
    chain_id: int
    proof: bytes

    def __post_init__(self) -> None:
        if (len(self.nonce), len(self.share), len(self.proof)) != (NONCE_BYTES, SHARE_BYTES, PROOF_BYTES):
            raise ValueError("nonce, share and proof of a challenge have 32 bytes each")
        if len(self.operator) != ADDRESS_BYTES or not 1 <= self.chain_id < 2**64:
            raise ValueError("a challenge names an operator of 20 bytes and a chain id of 1 or more")
        if not 0 < len(self.authority) <= MAX_CERTIFICATE_BYTES:
            raise ValueError("an authority's certificate is missing or too large")


@dataclass(frozen=True)
class DeviceStatement:
    """What the device's signing key says: these keys are mine, on this connection. Signed under PURPOSE and chain id.

    tls_key: SHA-256 of the certificate request's public key. mask_public: X25519. transcript: of hello and challenge.
    """

    PURPOSE: ClassVar[str] = "enrol.device.v1"
    device: str
    tls_key: bytes
    mask_public: bytes
    transcript: bytes

    def __post_init__(self) -> None:
        if not DEVICE_NAME.fullmatch(self.device):
            raise ValueError("the device's name is not lower-case letters, digits and dashes")
        if (len(self.tls_key), len(self.mask_public), len(self.transcript)) != (HASH_BYTES, SHARE_BYTES, HASH_BYTES):
            raise ValueError("hash, mask key and transcript of a statement have 32 bytes each")


@dataclass(frozen=True)
class Request:
    """Certificate request (PKCS#10 DER), signed DeviceStatement, proof of the mask key, and signature by the code's key."""

    PURPOSE: ClassVar[str] = "enrol-request"
    csr: bytes
    statement: bytes
    mask_proof: bytes
    code_proof: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.csr) <= MAX_CSR_BYTES or not 0 < len(self.statement) <= MAX_STATEMENT_BYTES:
            raise ValueError("the certificate request or the statement is missing or too large")
        if len(self.mask_proof) != PROOF_BYTES or len(self.code_proof) != SIGNATURE_BYTES:
            raise ValueError("a proof of a request has a wrong length")


@dataclass(frozen=True)
class Renewal:
    """A request for the key of the certificate that this connection shows."""

    PURPOSE: ClassVar[str] = "enrol-renewal"
    csr: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.csr) <= MAX_CSR_BYTES:
            raise ValueError("the certificate request is missing or too large")


@dataclass(frozen=True)
class Membership:
    """Where an enrolled device belongs, so that nobody types it: what its configuration needs beside operator and chain.

    broker: its url (mqtts://host:port); empty when the operator's files do not say. utility: the address that must have
    approved every meter of a roster (20 bytes); empty when the operator's word is to be taken.
    """

    PURPOSE: ClassVar[str] = "enrol-membership"
    broker: str
    microgrid: int
    role: str
    utility: bytes

    def __post_init__(self) -> None:
        if len(self.broker) > MAX_TEXT or (self.broker and not self.broker.startswith("mqtts://")):
            raise ValueError("a membership names a broker of mqtts, or none")
        if self.microgrid < 1 or self.role not in ROLES or len(self.utility) not in (0, ADDRESS_BYTES):
            raise ValueError("a membership names a microgrid, home or feeder, and a utility of 20 bytes or none")


@dataclass(frozen=True)
class Answer:
    """PENDING: a person has yet to approve. ISSUED: `certificate` (DER). REFUSED: `text` says why; ask again in `wait_s`, if
    it is not 0.

    membership: an encoded `Membership` with the certificate of an enrolment, and proof: the hub's, that it is of this very
    connection; both empty in every other answer.
    """

    PURPOSE: ClassVar[str] = "enrol-answer"
    outcome: str
    text: str
    wait_s: int
    certificate: bytes
    membership: bytes = b""
    proof: bytes = b""

    def __post_init__(self) -> None:
        if len(self.membership) > MAX_STATEMENT_BYTES or len(self.proof) != (PROOF_BYTES if self.membership else 0):
            raise ValueError("a membership is short, and has its proof")
        if self.outcome not in (PENDING, ISSUED, REFUSED) or len(self.text) > MAX_TEXT or self.wait_s < 0:
            raise ValueError("an answer is pending, issued or refused, with a short text")
        if bool(self.certificate) != (self.outcome == ISSUED) or len(self.certificate) > MAX_CERTIFICATE_BYTES:
            raise ValueError("an answer has a certificate when one was issued, and only then")


Frame = Hello | Challenge | Request | Renewal | Answer
_KINDS: dict[str, type[Frame]] = {cls.PURPOSE: cls for cls in (Hello, Challenge, Request, Renewal, Answer)}


def encode_frame(message: Frame) -> bytes:
    """The frame's bytes, without their length."""
    return codec.encode([message.PURPOSE, base.encode(message)])


def decode_frame(data: bytes) -> Frame:
    """The message of a frame; `openmg.messages.base.InvalidMessage` otherwise."""
    try:
        parts = codec.decode(data, max_bytes=MAX_FRAME_BYTES)
    except codec.DecodeError as error:
        raise base.InvalidMessage(f"frame: {error}") from error
    if not isinstance(parts, list) or len(parts) != 2 or not isinstance(parts[0], str) or not isinstance(parts[1], bytes):
        raise base.InvalidMessage("frame is not a kind and a message")
    cls = _KINDS.get(parts[0])
    if cls is None:
        raise base.InvalidMessage("frame is of an unknown kind")
    return base.decode(cls, parts[1])
