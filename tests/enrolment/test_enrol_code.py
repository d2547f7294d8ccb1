"""The code: what is written is read, a typing error is seen, and nothing of it shows."""

import pytest

from openmg.crockford import ALPHABET
from openmg.enrolment.code import CHARACTERS, RANDOM_BITS, SECRET_BITS, CodeError, EnrolmentCode

CODE = EnrolmentCode.from_random((1 << RANDOM_BITS) // 7)


def test_a_code_is_read_as_people_write_it():
    text = CODE.text()
    assert SECRET_BITS >= 80 and len(text.replace("-", "")) == CHARACTERS
    alike = text.lower().replace("1", "l").replace("0", "o").replace("-", " ") + "\n"
    assert EnrolmentCode.parse(alike) == CODE == EnrolmentCode.parse(text.replace("-", ""))


def test_every_character_counts():
    plain = CODE.text().replace("-", "")
    for place, character in enumerate(plain):
        other = ALPHABET[(ALPHABET.index(character) + 1) % 32]
        with pytest.raises(CodeError):
            EnrolmentCode.parse(plain[:place] + other + plain[place + 1 :])


@pytest.mark.parametrize("text", ["", "ABCD", CODE.text() + "0", CODE.text()[:-1] + "U", "x" * 1000, CODE.text()[:-1] + "é"])
def test_what_is_no_code_is_refused_and_not_repeated(text):
    with pytest.raises(CodeError) as refused:
        EnrolmentCode.parse(text)
    assert not text or text not in str(refused.value)


def test_what_the_hub_keeps_is_not_what_the_device_signs_with():
    keys = CODE.keys()
    shown = repr(CODE) + repr(keys) + repr(keys.verifier)
    assert CODE.secret not in shown and keys.hub_mac.hex() not in shown
    kept = keys.verifier.device_public + keys.verifier.hub_mac
    assert keys.device_key.private_bytes_raw() not in kept and CODE.secret.encode() not in kept
    other = EnrolmentCode(CODE.invitation, CODE.secret[:-1] + ("A" if CODE.secret[-1] != "A" else "B"))
    assert other.keys().verifier != keys.verifier
