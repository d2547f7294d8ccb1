"""The broker's lists when several write them at once: the commands of an operator beside the enrolment server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from cryptography import x509
from enrol_kit import HOST, Meter, Operator, place_of

from hub.devices.broker_files import BrokerPlace, write_broker_files, write_standing
from openmg.durable import locked


async def test_who_waits_for_another_writer_writes_what_was_revoked_meanwhile(operator: Operator, server, tmp_path) -> None:
    meter = Meter(tmp_path, "meter-1", 1)
    await meter.enrol(place_of(server), operator)
    write_broker_files(operator.folder, operator.desk, BrokerPlace(tmp_path / "broker", 8883, HOST), int(operator.clock()))
    with locked(operator.folder.standing_lock):
        waiting = asyncio.create_task(asyncio.to_thread(write_standing, operator.folder, operator.desk))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        assert operator.desk.revoke("meter-1") == 1
    assert await waiting == tmp_path / "broker"
    for crl in (operator.folder.crl, tmp_path / "broker" / "crl.pem"):
        assert len(list(x509.load_pem_x509_crl(crl.read_bytes()))) == 1
    assert "meter-1" not in (tmp_path / "broker" / "acl").read_text()


def test_writers_at_once_all_succeed(operator: Operator) -> None:
    """Each of them once took the draft of another away."""
    with ThreadPoolExecutor(8) as pool:
        for written in [pool.submit(write_standing, operator.folder, operator.desk) for _ in range(80)]:
            assert written.result() is None
    assert x509.load_pem_x509_crl(operator.folder.crl.read_bytes()).is_signature_valid(
        operator.desk.authority.certificate.public_key()
    )
