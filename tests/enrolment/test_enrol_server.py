"""Enrolment over a real TLS socket: the way it should go, and everybody who should get nothing."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from cryptography import x509
from enrol_kit import DEMO, HOST, Meter, Operator, place_of

from edge_agent import enrol
from edge_agent.certificates import times
from edge_agent.enrol import EnrolError, Expected, renew, save
from hub.devices.desk import MAX_TRIES
from hub.devices.server import MAX_HELLOS, HelloLimit
from hub.devices.store import REVOKED
from hub.operators.errors import OperatorError
from openmg import codec
from openmg.enrolment import transcript as proofs
from openmg.enrolment.certificates import SECONDS_PER_DAY, device_uri, load_certificate
from openmg.enrolment.code import EnrolmentCode
from openmg.enrolment.messages import DeviceStatement, Hello, Renewal, decode_frame, encode_frame
from openmg.identity import DeviceKey
from openmg.messages import base
from openmg.signing import domain_digest, sign_digest


@pytest.fixture
def meter(tmp_path):
    return Meter(tmp_path, "meter-1", 1)


async def refused(meter, place, code, expected=DEMO, match=""):
    with pytest.raises(EnrolError, match=match) as error:
        await asyncio.to_thread(meter.attempt, place, code, expected)
    return error.value


async def test_a_device_is_enrolled_once_a_person_has_compared_the_fingerprint(operator, server, meter):
    code = operator.invite("meter-1")
    first = await asyncio.to_thread(meter.attempt, place_of(server), code)
    assert first.certificate is None and operator.store.devices() == ()
    (applicant,) = operator.store.applicants()
    assert operator.desk.fingerprint(applicant) == first.fingerprint
    wrong = ("0" if first.fingerprint[0] != "0" else "1") + first.fingerprint[1:]
    with pytest.raises(OperatorError, match="do not approve"):
        operator.desk.approve("meter-1", wrong, new_address=False)
    operator.desk.approve("meter-1", first.fingerprint.upper(), new_address=False)
    done = await asyncio.to_thread(meter.attempt, place_of(server), code)
    again = await asyncio.to_thread(meter.attempt, place_of(server), code)  # the answer was lost on its way
    assert done.certificate == again.certificate is not None
    save(done, meter.files)
    certificate = load_certificate(meter.files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [device_uri(done.chain_id, meter.key.address)]
    assert times(meter.files).days_left(operator.clock()) in (89, 90)
    assert meter.files.key.stat().st_mode & 0o777 == 0o600
    assert done.operator == operator.desk.settings.address


async def test_a_used_code_enrols_nobody_else(operator, server, meter, tmp_path):
    code = operator.invite("meter-1")
    await asyncio.to_thread(meter.attempt, place_of(server), code)
    (tmp_path / "thief").mkdir()
    await refused(Meter(tmp_path / "thief", "meter-1", 9), place_of(server), code, match="used by another device")
    (applicant,) = operator.store.applicants()
    assert applicant.keys.address == meter.key.address


async def test_an_expired_code_enrols_nobody(operator, server, meter):
    code = operator.invite("meter-1")
    operator.clock.offset_s = 3601
    await refused(meter, place_of(server), code, match="expired")
    assert operator.store.applicants() == ()


async def test_a_late_approval_still_reaches_the_device_that_used_its_code(operator, server, meter):
    code = operator.invite("meter-1")
    await asyncio.to_thread(meter.attempt, place_of(server), code)
    operator.clock.offset_s = 3 * SECONDS_PER_DAY
    operator.approve("meter-1")
    assert (await asyncio.to_thread(meter.attempt, place_of(server), code)).certificate is not None


async def test_a_newer_code_ends_the_older_one_and_a_code_is_for_one_name(operator, server, meter, tmp_path):
    old = operator.invite("meter-1")
    new = operator.invite("meter-1")
    await refused(meter, place_of(server), old, match="no invitation")
    await refused(Meter(tmp_path, "meter-2", 2), place_of(server), new, match="not for meter-1")
    assert operator.store.applicants() == ()


def other_code(code: EnrolmentCode) -> EnrolmentCode:
    """A guess for the same invitation."""
    return replace(code, secret=code.secret[:-1] + ("A" if code.secret[-1] != "A" else "B"))


async def test_a_wrong_code_is_seen_by_the_device_first(operator, server, meter):
    await refused(meter, place_of(server), other_code(operator.invite("meter-1")), match="does not know this code")
    (invitation,) = operator.store.invitations()
    assert invitation.tries == 0 and operator.store.applicants() == ()


async def test_who_guesses_must_wait_ever_longer_and_ends_the_code(operator, server, meter, monkeypatch):
    """A guesser does not care for the hub's proof."""
    monkeypatch.setattr(proofs, "check_hub", lambda *_: None)
    code = operator.invite("meter-1")
    waits = []
    for _ in range(MAX_TRIES - 1):
        error = await refused(meter, place_of(server), other_code(code), match="the code is wrong")
        waits.append(error.wait_s)
        held_back = await refused(meter, place_of(server), code, match="try again later")  # also the right one
        assert 0 < held_back.wait_s <= error.wait_s
        operator.clock.offset_s += error.wait_s + 1
    assert waits == [2, 4, 8, 16]
    await refused(meter, place_of(server), other_code(code), match="void")
    operator.clock.offset_s += 60
    await refused(meter, place_of(server), code, match="no invitation")
    assert operator.store.applicants() == ()


class ManInTheMiddle:
    """Terminates TLS with a certificate of its own, passes every frame on, and keeps what it reads."""

    def __init__(self, hub_port: int, tmp_path) -> None:
        other = Operator(tmp_path)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(other.folder.server_certificate, other.folder.server_key)
        other.store.close()
        self._hub_port = hub_port
        self.from_device: list[object] = []
        self.from_hub: list[object] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, HOST, 0, ssl=self._context)
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hub_reader, hub_writer = await asyncio.open_connection(HOST, self._hub_port, ssl=enrol._unchecked())
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                await self._pass(reader, hub_writer, self.from_device)
                await self._pass(hub_reader, writer, self.from_hub)
        for side in (writer, hub_writer):
            side.close()
            with contextlib.suppress(OSError):
                await side.wait_closed()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, read: list[object]) -> None:
        head = await source.readexactly(4)
        body = await source.readexactly(int.from_bytes(head, "big"))
        read.append(decode_frame(body))
        target.write(head + body)
        await target.drain()


async def test_a_man_in_the_middle_learns_nothing_and_enrols_nobody(operator, server, meter, tmp_path):
    (tmp_path / "attacker").mkdir()
    attacker, code = ManInTheMiddle(server.port, tmp_path / "attacker"), operator.invite("meter-1")
    async with attacker.running() as place:
        await refused(meter, place, code, match="somebody stands between")
    assert [type(item) for item in attacker.from_device] == [Hello]
    assert attacker.from_device[0].invitation == code.invitation
    seen = b"".join(map(encode_frame, [*attacker.from_device, *attacker.from_hub]))
    keys = code.keys()
    assert code.secret.encode() not in seen and keys.hub_mac not in seen and meter.key.address not in seen
    assert operator.store.applicants() == ()
    assert (await asyncio.to_thread(meter.attempt, place_of(server), code)).fingerprint  # the code is still good


async def test_what_a_man_in_the_middle_passes_on_is_refused_by_the_hub_too(operator, server, meter, tmp_path, monkeypatch):
    """Were a device to skip its check of the hub, its proofs would still be for another connection."""
    monkeypatch.setattr(proofs, "check_hub", lambda *_: None)
    (tmp_path / "attacker").mkdir()
    attacker, code = ManInTheMiddle(server.port, tmp_path / "attacker"), operator.invite("meter-1")
    async with attacker.running() as place:
        await refused(meter, place, code, match="the code is wrong")
    assert len(attacker.from_device) == 2 and operator.store.applicants() == ()


async def test_each_key_of_a_request_must_be_its_senders_own(operator, server, meter, monkeypatch):
    """With the right code, but another device's signing address, mask key, or TLS key in what is signed."""
    code, real = operator.invite("meter-1"), proofs.make_request
    stranger = DeviceKey(bytes([2]) * 32)

    def with_other_mask(keys, csr, own, signing_key, mask_key, challenge, said):
        return real(keys, csr, replace(own, mask_public=stranger.mask_public), signing_key, mask_key, challenge, said)

    def with_other_tls_key(keys, csr, own, signing_key, mask_key, challenge, said):
        return real(keys, csr, replace(own, tls_key=bytes(32)), signing_key, mask_key, challenge, said)

    def on_another_chain(keys, csr, own, signing_key, mask_key, challenge, said):
        return real(keys, csr, own, signing_key, mask_key, replace(challenge, chain_id=challenge.chain_id + 1), said)

    for name, forged, match in (
        ("mask", with_other_mask, "does not have the mask key"),
        ("tls", with_other_tls_key, "another TLS key"),
    ):
        monkeypatch.setattr(proofs, "make_request", forged)
        await refused(meter, place_of(server), code, match=match)
        assert operator.store.applicants() == (), name
    monkeypatch.setattr(proofs, "make_request", on_another_chain)
    await asyncio.to_thread(meter.attempt, place_of(server), code)
    (applicant,) = operator.store.applicants()
    assert applicant.keys.address != meter.key.address  # recovers to nobody's key, and so to another fingerprint


async def test_the_configurations_operator_and_chain_count_and_no_development_outside_a_demo(operator, server, meter):
    code = operator.invite("meter-1")
    await refused(meter, place_of(server), code, Expected(), match="development authority")
    await refused(meter, place_of(server), code, Expected(bytes(20), None, demo=True), match="names another")
    await refused(meter, place_of(server), code, Expected(None, 99, demo=True), match="names another")
    assert operator.store.applicants() == ()


async def test_another_signing_address_under_a_known_name_needs_a_word_of_its_own(operator, server, meter, tmp_path):
    await meter.enrol(place_of(server), operator)
    (tmp_path / "new").mkdir()
    replaced, code = Meter(tmp_path / "new", "meter-1", 5), operator.invite("meter-1")
    shown = (await asyncio.to_thread(replaced.attempt, place_of(server), code)).fingerprint
    with pytest.raises(OperatorError, match="--new-address"):
        operator.desk.approve("meter-1", shown, new_address=False)
    operator.desk.approve("meter-1", shown, new_address=True)
    assert len(operator.store.revoked(int(operator.clock()))) == 1  # the old key's certificate
    with pytest.raises(EnrolError, match="revoked"):
        await asyncio.to_thread(renew, meter.files, "meter-1", place_of(server))


async def test_a_certificate_is_renewed_over_the_one_that_holds(operator, server, meter):
    operator.clock.offset_s = -70 * SECONDS_PER_DAY
    await meter.enrol(place_of(server), operator)
    before, key = times(meter.files), meter.files.key.read_bytes()
    operator.clock.offset_s = 0.0
    assert before.renew_s < operator.clock() < before.ends_s
    await asyncio.to_thread(renew, meter.files, "meter-1", place_of(server))
    assert times(meter.files).days_left(operator.clock()) in (89, 90) and meter.files.key.read_bytes() == key
    old = meter.files.certificate.read_bytes()
    await asyncio.to_thread(renew, meter.files, "meter-1", place_of(server))
    assert meter.files.certificate.read_bytes() != old


async def test_nothing_is_renewed_for_an_expired_or_revoked_certificate_or_another_key(operator, server, meter, tmp_path):
    operator.clock.offset_s = -200 * SECONDS_PER_DAY
    await meter.enrol(place_of(server), operator)
    operator.clock.offset_s = 0.0
    with pytest.raises(EnrolError, match="TLS with|hung up|reached"):
        await asyncio.to_thread(renew, meter.files, "meter-1", place_of(server))
    second = Meter(tmp_path, "meter-2", 2)
    await second.enrol(place_of(server), operator)
    shown = ssl.PEM_cert_to_DER_cert(second.files.certificate.read_text())
    other_key = enrol.make_csr("meter-2", enrol.load_or_make_tls_key(tmp_path / "other.key"))
    assert "for the key that the device has" in operator.desk.renew(Renewal(other_key), shown).text
    operator.desk.revoke("meter-2")
    assert operator.store.device("meter-2").state == REVOKED
    with pytest.raises(EnrolError, match="revoked"):
        await asyncio.to_thread(renew, second.files, "meter-2", place_of(server))


async def test_bytes_that_are_no_message_end_their_connection_and_not_the_server(operator, server, meter):
    noise = secrets.token_bytes(64)
    for sent in (b"\xff\xff\xff\xff", b"\0\0\0\x40" + noise, b"\0\0\0\0", noise):
        reader, writer = await asyncio.open_connection(HOST, server.port, ssl=enrol._unchecked())
        writer.write(sent)
        writer.write_eof() if writer.can_write_eof() else writer.close()
        with contextlib.suppress(OSError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    plain_reader, plain_writer = await asyncio.open_connection(HOST, server.port)
    plain_writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(OSError):
        await asyncio.wait_for(plain_reader.read(), 5)
    plain_writer.close()
    assert server.counts.malformed >= 2
    assert (await asyncio.to_thread(meter.attempt, place_of(server), operator.invite("meter-1"))).fingerprint


def test_one_address_says_so_many_hellos_and_others_go_on():
    now = [0.0]
    limit = HelloLimit(lambda: now[0])
    assert all(limit.allows("a") for _ in range(MAX_HELLOS)) and not limit.allows("a") and limit.allows("b")
    now[0] = 61.0
    assert limit.allows("a")


def test_a_signature_for_another_purpose_is_no_statement(operator, meter):
    """The domain tag keeps what the device signs elsewhere from counting here."""
    said = DeviceStatement("meter-1", bytes(32), meter.key.mask_public, bytes(32))
    body = base.encode(said)
    elsewhere = sign_digest(meter.key.signing_key, domain_digest("birth", 7, body))
    assert base.open_signed(DeviceStatement, codec.encode([body, elsewhere]), 7).signer != meter.key.address
    assert base.open_signed(DeviceStatement, base.sign(said, 7, meter.key.signing_key), 7).signer == meter.key.address
