"""Turning message dataclasses into canonical bytes and back, with or without a signature.

Rules: a message is a frozen dataclass of int, bytes, str, bool, tuples of one type and other such dataclasses; fields
are all required on the wire, unknown ones are refused. A signed message is `[body, signature]`; the signature covers
domain tag `PURPOSE`, the PPDL chain id and the body's bytes. Anything malformed raises InvalidMessage and nothing else.
Not here: the messages themselves, nor topics.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, ClassVar, Protocol, TypeVar

from openmg import codec
from openmg.signing import InvalidSignature, domain_digest, recover, sign_digest

MAX_TEXT = 4096
MAX_ITEMS = 4096
MAX_MESSAGE_BYTES = 256 * 1024
"""A model message (14,208 int32 parameters, 56 KiB) and a batch of 256 notes (60 KiB) fit with room."""


class InvalidMessage(ValueError):
    """The bytes are not a valid message of the expected class."""


class Message(Protocol):
    """A frozen dataclass with the purpose its signature names."""

    PURPOSE: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


M = TypeVar("M", bound=Message)


_HINTS: dict[type[Any], dict[str, Any]] = {}
"""Field types by message class; one entry for each class of the program."""


def _hints(cls: type[Any]) -> dict[str, Any]:
    if cls not in _HINTS:
        hints = typing.get_type_hints(cls)
        _HINTS[cls] = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    return _HINTS[cls]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name in _hints(type(value))}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise InvalidMessage(f"{where} is not a list of at most {MAX_ITEMS}")
        item = typing.get_args(hint)[0]
        return tuple(_typed(item, element, where) for element in value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InvalidMessage(f"{where} is not {hint.__name__}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise InvalidMessage(f"{where} is longer than {MAX_TEXT} characters")
    return value


def _build(cls: type[Any], value: Any, where: str) -> Any:
    hints = _hints(cls)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise InvalidMessage(f"{where} does not have the fields of {cls.__name__}")
    try:
        return cls(**{name: _typed(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})
    except InvalidMessage:
        raise
    except (ValueError, TypeError) as error:
        raise InvalidMessage(f"{where}: {error}") from error


def encode(message: Message) -> bytes:
    """Canonical bytes of an unsigned message (or of the body of a signed one)."""
    return codec.encode(_plain(message))


def decode(cls: type[M], data: bytes) -> M:
    """The message in the bytes; InvalidMessage otherwise."""
    try:
        value = codec.decode(data, max_bytes=MAX_MESSAGE_BYTES)
    except codec.DecodeError as error:
        raise InvalidMessage(f"{cls.__name__}: {error}") from error
    result: M = _build(cls, value, cls.__name__)
    return result


def digest(message: Message, chain_id: int) -> bytes:
    """The 32 bytes that the sender of the message signs."""
    return domain_digest(message.PURPOSE, chain_id, encode(message))


def sign(message: Message, chain_id: int, private_key: bytes) -> bytes:
    """Bytes `[body, signature]` of the message."""
    return codec.encode([encode(message), sign_digest(private_key, digest(message, chain_id))])


@dataclasses.dataclass(frozen=True)
class Signed(typing.Generic[M]):
    """A message whose signature was checked; `signer` is the address that made it."""

    message: M
    signer: bytes
    signature: bytes


def open_signed(cls: type[M], data: bytes, chain_id: int) -> Signed[M]:
    """The message and the address that signed it; InvalidMessage when either is not valid."""
    try:
        parts = codec.decode(data, max_bytes=MAX_MESSAGE_BYTES)
    except codec.DecodeError as error:
        raise InvalidMessage(f"{cls.__name__}: {error}") from error
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, bytes) for part in parts):
        raise InvalidMessage(f"{cls.__name__} is not a body with a signature")
    message = decode(cls, parts[0])
    try:
        signer = recover(digest(message, chain_id), parts[1])
    except InvalidSignature as error:
        raise InvalidMessage(f"{cls.__name__}: {error}") from error
    return Signed(message, signer, parts[1])
