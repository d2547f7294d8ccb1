"""Who gets a certificate: invitations, the hub's side of an enrolment, approval, renewal and revocation, on values.

Rules: an invitation is for one name, expires, and belongs to the first TLS key that proves its code; that key may come back
for its answer, no other. A wrong proof makes the next one wait twice as long, and after MAX_TRIES the code is void. Nothing
is issued before a person has approved the fingerprint; an enrolled name keeps its signing address unless who approves says
otherwise. A renewal is for the same key, from a certificate that holds and was not revoked, of a device that is approved.
Approving and revoking write the broker's access list and the list of revoked certificates anew (`hub.devices.broker_files`).
Not here: sockets (`hub.devices.server`), the command line (`hub.devices.commands`).
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hub.devices.authority import Authority
from hub.devices.settings import DevicesSettings
from hub.devices.store import APPROVED, Applicant, DeviceStore, EnrolledDevice, Invitation, IssuedCertificate
from hub.operators.errors import OperatorError
from openmg.enrolment import transcript as proofs
from openmg.enrolment.certificates import CertificateError, key_hash, load_certificate, read_csr, validity
from openmg.enrolment.code import RANDOM_BITS, EnrolmentCode
from openmg.enrolment.messages import ISSUED, PENDING, REFUSED, Answer, Challenge, Hello, Membership, Renewal, Request
from openmg.messages import base

log = logging.getLogger(__name__)
MAX_TRIES = 5
FIRST_WAIT_S = 2
"""After the first wrong proof; twice as long after each further one."""
MAX_INVITATIONS = 1024
"""Open at once: with 2^20 numbers for them, one in a thousand guesses meets one, and learns nothing by it."""
MAX_HOURS = 24 * 30
USED_HOURS = 24 * 30
"""How long after its end a used code still gets its one device the answer: approval may come late."""
POLL_S = 2
"""How soon a device that waits for approval asks again."""
HELD_BACK = "a wrong code was tried just now; try again later"
UNKNOWN = "no invitation has this number: it expired, was used up or was replaced; ask the operator for a new code"


@dataclass(frozen=True)
class Session:
    """One connection's enrolment between challenge and request."""

    invitation: str
    transcript: bytes
    share_key: X25519PrivateKey = field(repr=False)


class EnrolmentDesk:
    """Decides for one operator; `now_s` gives Unix seconds. Calls do no more than a few database transactions."""

    def __init__(
        self,
        authority: Authority,
        store: DeviceStore,
        settings: DevicesSettings,
        now_s: Callable[[], float],
        settings_now: Callable[[], DevicesSettings] | None = None,
    ) -> None:
        self.authority, self.store, self.settings, self._clock = authority, store, settings, now_s
        self._settings_now = settings_now or (lambda: self.settings)
        """Read for each certificate: the broker's files may have been written since the start."""

    def _now_s(self) -> int:
        return int(self._clock())

    # What the operator does

    def invite(self, device: str, microgrid: int, role: str, hours: int) -> EnrolmentCode:
        """A code for a device of this name, which ends an older one. Raises OperatorError."""
        if not 1 <= hours <= MAX_HOURS:
            raise OperatorError(f"--hours is {hours}: a code lives for 1 to {MAX_HOURS} hours")
        open_ones = [item for item in self.store.invitations() if item.expires_s > self._now_s()]
        if len(open_ones) >= MAX_INVITATIONS:
            raise OperatorError(f"{len(open_ones)} invitations are open: revoke some, or wait until they expire")
        code = EnrolmentCode.from_random(secrets.randbits(RANDOM_BITS))
        expires_s = self._now_s() + hours * 3600
        self.store.invite(Invitation(code.invitation, device, microgrid, role, code.keys().verifier, expires_s))
        return code

    def fingerprint(self, item: Applicant | EnrolledDevice) -> str:
        """What hub and device show for comparison."""
        return proofs.fingerprint(item.keys, self.authority.der, self.settings.chain_id)

    def approve(self, device: str, shown: str, new_address: bool) -> EnrolledDevice:
        """Issue the certificate of a device whose fingerprint a person has compared. Raises OperatorError."""
        applicant, known = self.store.applicant(device), self.store.device(device)
        if applicant is None:
            raise OperatorError(f"{device} has not asked to be enrolled: see openmg-hub devices list")
        if not hmac.compare_digest(_plain(shown), _plain(self.fingerprint(applicant))):
            raise OperatorError(
                f"the fingerprint is not that of {device}'s request: do not approve it, and ask who installs it"
            )
        if known is not None and known.keys.address != applicant.keys.address and not new_address:
            raise OperatorError(
                f"{device} was enrolled with signing address 0x{known.keys.address.hex()} and now has"
                f" 0x{applicant.keys.address.hex()}: if its key was replaced, add --new-address"
            )
        key = serialization.load_der_public_key(applicant.public_key)
        assert isinstance(key, ec.EllipticCurvePublicKey)  # `request` took no other
        with self.store.transaction():
            if known is not None and known.keys.tls_key != applicant.keys.tls_key:
                self.store.revoke_certificates(device, self._now_s())  # of a key that is no longer the device's
            self.store.admit(applicant, self._issue(device, applicant.keys.address, key), self._now_s())
        found = self.store.device(device)
        assert found is not None
        return found

    def revoke(self, device: str) -> int:
        """End a device, its requests and invitations; how many certificates were revoked. Raises OperatorError."""
        known = self.store.device(device) or self.store.applicant(device)
        if known is None and all(item.device != device for item in self.store.invitations()):
            raise OperatorError(f"{device} is not known: see openmg-hub devices list")
        return self.store.revoke(device, self._now_s())

    def crl(self) -> bytes:
        """The list of revoked certificates as of now, PEM."""
        return self.authority.revocation_list(self.store.revoked(self._now_s()), self._now_s())

    # What a device asks

    def challenge(self, hello: Hello, server_certificate: bytes) -> tuple[Challenge, Session] | Answer:
        """The hub's proof for the invitation, or a refusal. server_certificate: DER, of this connection."""
        invitation = self.store.invitation(hello.invitation)
        if invitation is None or self._is_over(invitation):
            return _refused(UNKNOWN)
        wait_s = invitation.next_try_s - self._now_s()
        if wait_s > 0:
            return _refused(HELD_BACK, wait_s)
        share_key = X25519PrivateKey.generate()
        unproved = Challenge(
            secrets.token_bytes(32), share_key.public_key().public_bytes_raw(), self.authority.der, self.settings.address,
            self.settings.chain_id, bytes(32),
        )  # fmt: skip
        said = proofs.transcript(hello, unproved, server_certificate)
        challenge = replace(unproved, proof=proofs.hub_proof(invitation.verifier.hub_mac, said))
        return challenge, Session(hello.invitation, said, share_key)

    def request(self, request: Request, session: Session) -> Answer:
        """What becomes of a request that comes on the connection on which `challenge` was answered."""
        with self.store.transaction():  # many connections at once must not get more tries than there are
            invitation = self.store.invitation(session.invitation)
            if invitation is None or self._is_over(invitation):
                return _refused(UNKNOWN)
            wait_s = invitation.next_try_s - self._now_s()
            if wait_s > 0:
                return _refused(HELD_BACK, wait_s)
            try:
                proofs.check_code(invitation.verifier, request, session.transcript)
            except proofs.ProofError as error:
                return self._wrong(invitation, str(error))
            try:
                return self._take(invitation, request, session)
            except (CertificateError, proofs.ProofError) as error:
                return _refused(str(error))

    def renew(self, renewal: Renewal, shown_certificate: bytes) -> Answer:
        """A new certificate for the device whose certificate, checked by TLS, this connection shows (DER)."""
        try:
            shown = load_certificate(shown_certificate)
            held = self.store.certificate(shown.serial_number)
            device = self.store.device(held.device) if held is not None else None
            if held is None or device is None or held.der != shown_certificate:
                return _refused("this certificate is not one of the hub's devices: enrol the device with a new code")
            if held.revoked_s or device.state != APPROVED:
                return _refused(f"{held.device} was revoked: ask the operator, and enrol it with a new code")
            key = read_csr(renewal.csr, held.device)
            if key_hash(key) != held.tls_key:
                return _refused("a renewal is for the key that the device has: enrol it with a new code for another")
            newest = self.store.newest_certificate(held.device)
            if newest is not None and newest.issued_s > held.issued_s and self._is_fresh(newest):
                return _issued(newest)  # the answer to an earlier renewal was lost
            issued = self._issue(held.device, device.keys.address, key)
            self.store.add_certificate(issued)
        except CertificateError as error:
            return _refused(str(error))
        log.info("%s: certificate renewed, %x", issued.device, issued.serial)
        return _issued(issued)

    def _wrong(self, invitation: Invitation, text: str) -> Answer:
        tries, wait_s = invitation.tries + 1, FIRST_WAIT_S << invitation.tries
        if tries >= MAX_TRIES:
            self.store.drop_invitation(invitation.device)
            log.warning("invitation for %s: wrong code %d times, void now; invite again", invitation.device, tries)
            return _refused(f"{text}, {tries} times by now: the code is void; ask the operator for a new one")
        self.store.count_try(invitation.id, self._now_s() + wait_s)
        log.warning("invitation for %s: wrong code (%d of %d)", invitation.device, tries, MAX_TRIES)
        return _refused(text, wait_s)

    def _take(self, invitation: Invitation, request: Request, session: Session) -> Answer:
        """A request whose code is right."""
        device = invitation.device
        key = read_csr(request.csr, device)
        keys = proofs.check_keys(request, key_hash(key), session.share_key, self.settings.chain_id, session.transcript)
        if keys.device != device:
            return _refused(f"the code is for a device of another name than {keys.device}")
        if not self.store.use_invitation(invitation.id, keys.tls_key):
            log.warning("invitation for %s: used a second time, by another key", device)
            return _refused("the code was used by another device already: ask the operator, and get a new one")
        issued, known = self.store.newest_certificate(device), self.store.device(device)
        approved = known is not None and known.state == APPROVED and known.keys == keys
        if approved and issued is not None and self._is_fresh(issued):
            return self._with_membership(_issued(issued), invitation, session)
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        public = key.public_bytes(encoding, form)
        waiting = self.store.applicant(device)
        if waiting is None or waiting.keys != keys:
            applicant = Applicant(keys, invitation.microgrid, invitation.role, public, self._now_s())
            self.store.apply(applicant)
            log.info("%s asks to be enrolled: compare %s, then approve", device, self.fingerprint(applicant))
        return Answer(PENDING, "waiting for the operator to compare fingerprints and approve", POLL_S, b"")

    def _with_membership(self, answer: Answer, invitation: Invitation, session: Session) -> Answer:
        """Tells the device where it belongs."""
        settings = self._settings_now()
        said = Membership(settings.broker_url, invitation.microgrid, invitation.role, settings.utility_address)
        membership = base.encode(said)
        proof = proofs.membership_proof(invitation.verifier.hub_mac, session.transcript, membership)
        return replace(answer, membership=membership, proof=proof)

    def _is_over(self, invitation: Invitation) -> bool:
        longer_s = USED_HOURS * 3600 if invitation.used_by is not None else 0
        return self._now_s() >= invitation.expires_s + longer_s

    def _is_fresh(self, certificate: IssuedCertificate) -> bool:
        """Whether it counts and needs no renewal yet."""
        return not certificate.revoked_s and self._now_s() < validity(load_certificate(certificate.der)).renew_s

    def _issue(self, device: str, address: bytes, key: ec.EllipticCurvePublicKey) -> IssuedCertificate:
        now_s = self._now_s()
        certificate = self.authority.issue_device(device, address, self.settings.chain_id, key, now_s)
        der = certificate.public_bytes(serialization.Encoding.DER)
        return IssuedCertificate(device, key_hash(key), certificate.serial_number, der, now_s, validity(certificate).ends_s)


def _plain(fingerprint: str) -> bytes:
    return "".join(fingerprint.lower().split()).encode("utf-8", "replace")


def _issued(certificate: IssuedCertificate) -> Answer:
    return Answer(ISSUED, "", 0, certificate.der)


def _refused(text: str, wait_s: int = 0) -> Answer:
    return Answer(REFUSED, text, wait_s, b"")
