"""One association with a meter, as bytes to send and bytes that came: the one place that knows the library.

Rules: knows no socket. Whatever the library raises over an answer is `Garbled`, whose text holds nothing of the answer.
What the library does not look at is looked at here: that an answer belongs to its question, that a protected association is
answered under protection, that the meter proved its key, and that no number protects two messages. Its log, which would
show passwords, is off. Source: IEC 62056-5-3 (COSEM application layer). Not here: connections (`session`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import structlog
from dlms_cosem import cosem, dlms_data, enumerations, security
from dlms_cosem.connection import DlmsConnection
from dlms_cosem.exceptions import DecryptionError
from dlms_cosem.protocol import acse, xdlms
from dlms_cosem.protocol.xdlms.invoke_id_and_priority import InvokeIdAndPriority

from edge_agent.dlms.counter import CounterError, InvocationCounter
from edge_agent.dlms.values import decoded
from edge_agent.dlms_section import TITLE_BYTES, DlmsSection, Obis, hexadecimal

AARE_TAG, GENERAL_GLO_CIPHER_TAG = 97, 219
MAX_INVOKE_ID = 15
CHALLENGE_BYTES = 16
REGISTER = enumerations.CosemInterface.REGISTER
ASSOCIATION = cosem.CosemMethod(enumerations.CosemInterface.ASSOCIATION_LN, cosem.Obis(0, 0, 40, 0, 0, 255), 1)
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class Garbled(Exception):
    """The answer is none to the question; one half of a sentence."""


class Denied(Exception):
    """The meter understood and would not; one half of a sentence."""


class Association:
    """Made for one connection. In order: `request`, `accept`, and where that gives bytes `confirm`; then `get` and `value`."""

    def __init__(self, section: DlmsSection, counter: InvocationCounter | None) -> None:
        self._counter = counter
        self._method, keys, title = _method(section)
        self._invoke_id = 0
        self._connection = DlmsConnection(
            authentication=self._method,
            client_system_title=title,
            global_encryption_key=keys[0],
            global_authentication_key=keys[1],
            meter_invocation_counter=-1,  # a meter may begin at 0
        )

    @property
    def protected(self) -> bool:
        """Whether every message is to be authenticated and encrypted."""
        return self._counter is not None

    def request(self) -> bytes:
        """The request for the association."""
        return self._send(self._connection.get_aarq())

    def accept(self, answer: bytes) -> bytes | None:
        """What answers the meter's challenge, None when there is none and all is done; Denied or Garbled."""
        response = self._received(answer, AARE_TAG)
        if not isinstance(response, acse.ApplicationAssociationResponse):
            raise Denied("refuses the association; check [meter.dlms] client, server and authentication")
        if response.result is not enumerations.AssociationResult.ACCEPTED:
            raise Denied("refuses the association; check [meter.dlms] authentication and its secret")
        if not self.protected:
            return None
        if response.authentication is not self._method.authentication_method:
            raise Denied("wants another authentication than hls_gmac; check [meter.dlms]")
        if response.system_title == self._connection.client_system_title:
            raise Denied("uses the client's own system_title, so that our proof would serve as its; give the client another")
        self._number()
        with _library():
            reply = self._method.hls_generate_reply_data(self._connection)
        return self._send(xdlms.ActionRequestNormal(ASSOCIATION, data=dlms_data.OctetStringData(reply).to_bytes()))

    def confirm(self, answer: bytes) -> None:
        """Checks the meter's answer to our challenge; Denied when it does not know the key."""
        response = self._received(answer, GENERAL_GLO_CIPHER_TAG)
        if not isinstance(response, xdlms.ActionResponseNormalWithData):
            raise Denied("does not accept our proof of the key; check the key files")
        with _library():
            proof = decoded(bytes(response.data))
            proved = isinstance(proof, bytes) and self._method.hls_meter_data_is_valid(proof, self._connection)
        if not proved:
            raise Denied("does not prove that it knows the key; is it the right meter?")

    def get(self, obis: Obis, attribute: int) -> bytes:
        """The request for an attribute of a register."""
        self._invoke_id = self._invoke_id % MAX_INVOKE_ID + 1
        wanted = cosem.CosemAttribute(REGISTER, cosem.Obis(*obis), attribute)
        return self._send(xdlms.GetRequestNormal(wanted, InvokeIdAndPriority(self._invoke_id)))

    def value(self, answer: bytes) -> int | list[int] | bytes:
        """The attribute's value; Denied when the meter gives none, NoRegister when it is of another type, Garbled."""
        response = self._received(answer, GENERAL_GLO_CIPHER_TAG)
        if isinstance(response, xdlms.ExceptionResponse):
            raise Denied("is not given: the meter answers with an exception")
        if isinstance(response, xdlms.GetResponseNormalWithError):
            raise Denied(f"is not given ({response.error.name.lower().replace('_', ' ')}); correct [meter.dlms]")
        if not isinstance(response, xdlms.GetResponseNormal):
            raise Garbled("answers with something else than the value")
        if response.invoke_id_and_priority.invoke_id != self._invoke_id:
            raise Garbled("answers another request than the last")
        return decoded(bytes(response.data))

    def _send(self, event: object) -> bytes:
        if self.protected:
            self._number()
        with _library():
            sent: bytes = self._connection.send(event)
        return sent

    def _number(self) -> None:
        """Gives the next protection a number of its own; the library would protect the proof and its message with one."""
        if self._counter is not None:
            self._connection.client_invocation_counter = self._counter.next()

    def _received(self, answer: bytes, protected_tag: int) -> object:
        if self.protected and answer[:1] != bytes((protected_tag,)):
            raise Denied("answers without protection; check the key files, and [meter.dlms] first_counter")
        with _library():
            self._connection.receive_data(answer)
            event: object = self._connection.next_event()
        return event


@contextlib.contextmanager
def _library() -> Iterator[None]:
    """The library fails over a broken answer with whatever comes: all of it is one kind of failure."""
    try:
        yield
    except CounterError:
        raise
    except DecryptionError as error:
        raise Garbled("answers with what the keys do not open; check the key files") from error
    except Exception as error:
        counter = "invocation counter" in str(error)
        problem = "repeats an invocation counter" if counter else f"answers with what is no DLMS ({type(error).__name__})"
        raise Garbled(problem) from error


def _method(section: DlmsSection) -> tuple[security.AuthenticationMethodManager, tuple[bytes | None, bytes | None], bytes]:
    """The library's authentication, the keys and the client's title; ValueError when a file cannot be used any more."""
    if section.authentication == "low":
        return security.LowLevelSecurityAuthentication(section.password()), (None, None), bytes(TITLE_BYTES)
    if section.authentication == "none":
        return security.NoSecurityAuthentication(), (None, None), bytes(TITLE_BYTES)
    title = hexadecimal("system_title", section.system_title, TITLE_BYTES)
    method = security.HighLevelSecurityGmacAuthentication(challenge_length=CHALLENGE_BYTES)
    return method, section.keys(), title
