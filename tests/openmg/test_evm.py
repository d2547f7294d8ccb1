"""The meter's own ABI, RLP and transaction encoders against eth-abi and eth-account, which it does not import."""

import pytest
from eth_abi import encode as eth_abi_encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from openmg.evm import abi, eip712
from openmg.evm.transaction import Transaction, transaction_hash
from openmg.signing import address_of, recover, sign_digest

KEY = bytes(range(1, 33))
ADDRESS = bytes(range(20))

CASES = [
    ("f(uint256,address,bytes32)", (7, ADDRESS, b"\x11" * 32)),
    ("f(bytes,uint8,bytes)", (b"abc", 255, b"")),
    ("f(uint256[8],uint256[2],int256)", (list(range(8)), [1, 2], -5)),
    ("f((uint256,bytes,address)[],bool)", ([(1, b"x" * 40, ADDRESS), (2, b"", ADDRESS)], True)),
    ("f((uint256,(bytes,int64)),bytes[2])", ((3, (b"y", -9)), [b"a", b"b" * 33])),
    ("f()", ()),
]


def for_oracle(kind: str, value):
    """eth-abi wants addresses as hex text."""
    if kind == "address":
        return "0x" + value.hex()
    if kind.endswith("]"):
        return [for_oracle(kind[: kind.rindex("[")], item) for item in value]
    if kind.startswith("("):
        return tuple(for_oracle(k, v) for k, v in zip(abi.split_types(kind[1:-1]), value, strict=True))
    return value


@pytest.mark.parametrize(("signature", "values"), CASES)
def test_call_data_equals_eth_abi(signature, values):
    kinds = abi.split_types(signature[signature.index("(") + 1 : -1])
    expected = eth_abi_encode(kinds, [for_oracle(k, v) for k, v in zip(kinds, values, strict=True)])
    assert abi.encode_call(signature, *values)[4:] == expected


def test_selector_of_erc20_transfer():
    assert abi.selector("transfer(address,uint256)").hex() == "a9059cbb"


@pytest.mark.parametrize(
    ("kind", "value"), [("uint8", 256), ("int8", 128), ("uint96", -1), ("address", b"x"), ("bytes4", b"12345")]
)
def test_a_value_that_does_not_fit_is_refused(kind, value):
    with pytest.raises(ValueError):
        abi.encode_value(kind, value)


@given(nonce=st.integers(0, 2**40), value=st.integers(0, 2**96), data=st.binary(max_size=200), gas=st.integers(21_000, 10**7))
def test_signed_transaction_equals_eth_account(nonce, value, data, gas):
    raw = Transaction(1338, nonce, ADDRESS, data, gas, value).sign(KEY)
    reference = Account.sign_transaction(
        {"type": 2, "chainId": 1338, "nonce": nonce, "to": "0x" + ADDRESS.hex(), "data": data, "gas": gas,
         "value": value, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0},
        KEY,
    )  # fmt: skip
    assert raw == bytes(reference.raw_transaction)
    assert transaction_hash(raw) == bytes(reference.hash)


def test_typed_digest_equals_eth_account():
    fields = "uint8 kind,address meter,uint256 slot,uint256 energyWh"
    message = {"kind": 1, "meter": "0x" + ADDRESS.hex(), "slot": 9, "energyWh": 250}
    signable = encode_typed_data(
        {"name": "Open MG", "version": "1", "chainId": 1338, "verifyingContract": "0x" + ADDRESS.hex()},
        {"MeterReading": [dict(zip(("type", "name"), part.split(), strict=True)) for part in fields.split(",")]},
        message,
    )
    domain = eip712.domain_separator("Open MG", "1", 1338, ADDRESS)
    digest = eip712.typed_digest(domain, f"MeterReading({fields})", 1, ADDRESS, 9, 250)
    signature = sign_digest(KEY, digest)
    assert Account.recover_message(signable, signature=signature) == Account.from_key(KEY).address
    assert recover(digest, signature) == address_of(KEY)
