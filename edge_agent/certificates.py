"""The device's certificate while the agent runs: how long it holds, its renewal, and taking up a new one.

Rules: it is renewed by the agent itself after two thirds of its life, over the certificate that still holds, for the same key.
A renewal that fails is tried again, ever more seldom, and costs nothing before the certificate has ended; then the broker
refuses the device, metering goes on, the outbox grows, and one sentence says so. Files that change, by a renewal or because
somebody has enrolled the device anew, are taken up within CHECK_SECONDS: no restart is needed, and the outbox catches up.
Not here: enrolment (`edge_agent.enrol`), the connection (`openmg.mqtt`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_agent.config import AgentConfig
from openmg.config import ConfigError
from openmg.mqtt_tls import TlsFiles, TlsFilesError

if TYPE_CHECKING:  # X.509 costs memory and time that an agent without certificates need not spend
    from openmg.enrolment.certificates import Validity
    from openmg.mqtt import MqttLink

log = logging.getLogger(__name__)
CHECK_SECONDS = 5.0
"""How soon changed files are noticed: two calls of the file system, no write."""
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 60.0, 6 * 3600.0
"""Between renewals that failed: thirty days are left at the first."""
SOON_DAYS = 14
"""With fewer days left the log says each day that renewal has not succeeded."""


class CertificateProblem(Exception):
    """What is wrong with the certificate; one sentence: what, where, what to do."""


def require_usable(config: AgentConfig) -> None:
    """Raises ConfigError for a development authority where none is allowed; a missing file is no error here."""
    from openmg.enrolment.certificates import is_development, load_certificate

    tls = config.mqtt.tls
    if tls is None or config.demo or not tls.ca.exists():
        return
    try:
        development = is_development(load_certificate(tls.ca.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"mqtt.ca_file {tls.ca} cannot be read ({error}); correct it or enrol anew") from error
    if development:
        raise ConfigError(f"mqtt.ca_file {tls.ca} is a development authority, which only a demo may use; enrol at a real hub")


def times(files: TlsFiles) -> Validity:
    """When the certificate holds. Raises CertificateProblem."""
    from openmg.enrolment.certificates import CertificateError, load_certificate, validity

    try:
        return validity(load_certificate(files.certificate.read_bytes()))
    except FileNotFoundError:
        raise CertificateProblem(f"{files.certificate} is missing: run openmg-agent enroll") from None
    except OSError as error:
        raise CertificateProblem(f"{files.certificate} cannot be read ({error.strerror}): check its owner") from error
    except CertificateError as error:
        raise CertificateProblem(f"{files.certificate}: {error}: run openmg-agent enroll") from error


def describe(files: TlsFiles, renew_at: str, now_s: float) -> str:
    """One sentence for `doctor`. Raises CertificateProblem when the broker will not take it, or soon not."""
    when = times(files)
    if now_s >= when.ends_s:
        ago = int((now_s - when.ends_s) // 86_400)
        raise CertificateProblem(
            f"{files.certificate} expired {ago} days ago: readings are kept; ask the operator for a code and"
            " run openmg-agent enroll"
        )
    if now_s < when.begins_s:
        raise CertificateProblem(f"{files.certificate} does not hold yet: set this board's clock")
    left = f"{when.days_left(now_s)} days left"
    if now_s < when.renew_s:
        return f"certificate with {left}" + ("" if renew_at else "; renew_at is not set, so it will not be renewed")
    if not renew_at:
        raise CertificateProblem(f"certificate with {left} and nothing renews it: write renew_at into [mqtt]")
    return f"certificate with {left}, to be renewed now at {renew_at}"


class CertificateKeeper:
    """Looks after the certificate of one agent; `now_s` gives Unix seconds of the wall clock."""

    def __init__(self, config: AgentConfig, link: MqttLink, now_s: Callable[[], float] = time.time) -> None:
        files = config.mqtt.tls
        assert files is not None  # an agent without TLS has no keeper
        self._files, self._renew_at, self._device = files, config.mqtt.renew_at, config.device.name
        self._link, self._now_s = link, now_s
        self._stamp = files.stamp()
        self._pause, self._next_renewal = FIRST_RETRY_SECONDS, 0.0
        self._said = ""
        self._said_at = 0.0
        self.renewals = self.failures = 0

    async def run(self) -> None:
        """Looks after it until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("looking after the certificate failed; it goes on")
            await asyncio.sleep(CHECK_SECONDS)

    async def look(self) -> None:
        """One look: new files, time to renew, an end that has come."""
        self._take_up()
        try:
            when = times(self._files)
        except CertificateProblem as error:
            self._say(str(error))
            return
        now_s = self._now_s()
        if now_s >= when.ends_s:
            self._say(
                f"{self._files.certificate} has expired, so the broker refuses this device; metering goes on and readings are"
                " kept: ask the operator for a code and run openmg-agent enroll"
            )
        elif now_s >= when.renew_s and self._renew_at and now_s >= self._next_renewal:
            await self._renew(when.days_left(now_s))

    async def _renew(self, days_left: int) -> None:
        from edge_agent.enrol import EnrolError, renew

        try:
            await asyncio.to_thread(renew, self._files, self._device, self._renew_at)
        except EnrolError as error:
            self.failures += 1
            self._next_renewal = self._now_s() + self._pause
            self._pause = min(2 * self._pause, LAST_RETRY_SECONDS)
            if days_left < SOON_DAYS or not self._said:
                self._say(f"the certificate, with {days_left} days left, could not be renewed: {error}")
            return
        self.renewals += 1
        self._pause, self._next_renewal, self._said = FIRST_RETRY_SECONDS, 0.0, ""
        log.info("%s: certificate renewed, %d days left", self._device, times(self._files).days_left(self._now_s()))
        self._take_up()

    def _take_up(self) -> None:
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._link.reload_tls()
        except TlsFilesError as error:  # enrolment may be halfway through; the next change is seen
            self._say(str(error))
            return
        self._said = ""
        log.info("%s: new TLS files are taken up with the next connection", self._device)

    def _say(self, sentence: str) -> None:
        """Once, and again each day while it is so."""
        if sentence != self._said or self._now_s() - self._said_at >= 86_400:
            self._said, self._said_at = sentence, self._now_s()
            log.warning("%s", sentence)
