"""The generated contracts: the verifiers of the circuits that contracts check, Poseidon, tags.

Rules: what is generated depends on nothing but the verifying key and the constants of this package, so that CI can
compare it with the committed files byte for byte (`python -m openmg.zk.solidity contracts/src/zk --check`). The
verifier range-checks every public input, so that no second encoding of a nullifier or root exists, and answers false
for whatever the pairing precompiles refuse. Not here: the contracts that use it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from openmg.zk.curve import G1Point, G2Point
from openmg.zk.field import Q, R
from openmg.zk.keys import KeysError, ensure_keys
from openmg.zk.proof import VerifyingKey
from openmg.zk.solidity_poseidon import HEADER, poseidon_library, tags_library

PUBLIC_INPUTS = {
    "transfer": "root', nf 1, nf 2, cm 1, cm 2, asset, public in, public out, ext",
    "merge": "root', nf 1 to nf 8, cm 1, cm 2, asset, public in, public out, ext, return partial",
    "append": "old root', new root', start, leaf 1 to leaf 16",
    "mint": "registry root, slot root, slot, period, microgrid, asset, N, cm, ext",
    "buy": "registry root, slot root, slot, microgrid, lots, N, delivery partial, ext",
    "burn": "root', nf 1 to nf 8, registry root, first slot of the day, period, asset, K.x, K.y, T, ext",
    "exit": "root', nf, recipient, asset, amount, ext",
}
"""The circuits that have a verifier contract, in the order of `VerifierSet`, and their public inputs in words."""


def _hex(value: int) -> str:
    return f"0x{int(value):064x}"


def _constant(name: str, value: int) -> str:
    return f"    uint256 private constant {name} = {_hex(value)};"


def _g1(name: str, point: G1Point) -> list[str]:
    return [_constant(f"{name}_X", point[0]), _constant(f"{name}_Y", point[1])]


def _g2(name: str, point: G2Point) -> list[str]:
    """In precompile order: the imaginary part first (EIP-197)."""
    parts = (("X1", point[1]), ("X0", point[0]), ("Y1", point[3]), ("Y0", point[2]))
    return [_constant(f"{name}_{part}", value) for part, value in parts]


def _key_constants(key: VerifyingKey) -> str:
    lines = _g1("ALPHA", key.alpha1) + _g2("BETA", key.beta2) + _g2("GAMMA", key.gamma2) + _g2("DELTA", key.delta2)
    for i, point in enumerate(key.ic):
        lines += _g1(f"IC{i}", point)
    return "\n".join(lines)


def _combination(key: VerifyingKey) -> str:
    """acc = IC0 + sum of input_i IC(i+1); memory at m: acc (64 bytes), point (64), scalar (32)."""
    lines = []
    for i in range(key.n_public):
        scalar = f"calldataload(add(input, {32 * i}))"
        lines.append(f"            ok := and(ok, accumulate(m, IC{i + 1}_X, IC{i + 1}_Y, {scalar}))")
    return "\n".join(lines)


def _pairing_input() -> str:
    """The 24 words of e(-A, B) e(alpha, beta) e(inputs, gamma) e(C, delta) at m + 64."""
    words = ["calldataload(proof)", "mod(sub(Q, mod(calldataload(add(proof, 32)), Q)), Q)"]
    words += [f"calldataload(add(proof, {offset}))" for offset in (64, 96, 128, 160)]
    words += ["ALPHA_X", "ALPHA_Y", "BETA_X1", "BETA_X0", "BETA_Y1", "BETA_Y0"]
    words += ["mload(m)", "mload(add(m, 32))", "GAMMA_X1", "GAMMA_X0", "GAMMA_Y1", "GAMMA_Y0"]
    words += [f"calldataload(add(proof, {offset}))" for offset in (192, 224)]
    words += ["DELTA_X1", "DELTA_X0", "DELTA_Y1", "DELTA_Y0"]
    return "\n".join(f"            mstore(add(m, {64 + 32 * i}), {word})" for i, word in enumerate(words))


def verifier_contract(name: str, key: VerifyingKey, circuit_hash: bytes, inputs: str, development: bool) -> str:
    """The source of `<name>Verifier`, a Groth16 verifier for one verifying key; `inputs` names its public inputs."""
    count = key.n_public
    warning = "Development keys: anybody can forge proofs. Never for value." if development else "Ceremony keys."
    return f"""{HEADER}
/// @title Groth16 verifier of the {name.lower()} circuit over BN254
/// @notice {warning}
/// @dev Public inputs: {inputs}. Source: Groth, Eurocrypt 2016; precompiles of EIP-196 and EIP-197.
contract {name}Verifier {{
    /// @notice Hash of the constraint matrices.
    bytes32 public constant CIRCUIT_HASH = 0x{circuit_hash.hex()};
    /// @notice keccak256 of the verifying key's bytes (alpha1, beta2, gamma2, delta2, IC; little-endian).
    bytes32 public constant KEY_HASH = 0x{key.digest().hex()};
    /// @notice Whether the secrets behind the key are public.
    bool public constant DEVELOPMENT_KEYS = {str(development).lower()};

    uint256 private constant R = {_hex(R)};
    uint256 private constant Q = {_hex(Q)};
{_key_constants(key)}

    /// @notice Whether the proof shows the circuit's statement for these public inputs.
    /// @param proof A.x A.y B.x.c1 B.x.c0 B.y.c1 B.y.c0 C.x C.y
    /// @param input {inputs}; false when one is not below the field's modulus.
    function verify(uint256[8] calldata proof, uint256[{count}] calldata input) external view returns (bool valid) {{
        for (uint256 i = 0; i < {count}; ++i) {{
            if (input[i] >= R) return false;
        }}
        // A is negated modulo Q below, so an unreduced A.y must not be let through as another's alias.
        if (proof[1] >= Q) return false;
        assembly ("memory-safe") {{
            /// acc at m += scalar * (x, y); 1 when both precompiles accept.
            function accumulate(m, x, y, scalar) -> done {{
                done := 1
                // Nothing is added for 0, which many public inputs are most of the time.
                if scalar {{
                    mstore(add(m, 64), x)
                    mstore(add(m, 96), y)
                    mstore(add(m, 128), scalar)
                    done := staticcall(gas(), 7, add(m, 64), 96, add(m, 64), 64)
                    done := and(done, staticcall(gas(), 6, m, 128, m, 64))
                }}
            }}

            let m := mload(0x40)
            mstore(m, IC0_X)
            mstore(add(m, 32), IC0_Y)
            let ok := 1
{_combination(key)}
            // e(-A, B) e(alpha, beta) e(inputs, gamma) e(C, delta) = 1
{_pairing_input()}
            ok := and(ok, staticcall(gas(), 8, add(m, 64), 768, m, 32))
            valid := and(ok, eq(mload(m), 1))
        }}
    }}
}}
"""


def generated_files(cache_dir: Path | None = None) -> dict[str, str]:
    """File name to source, of everything in contracts/src/zk."""
    files = {"PoseidonT4.sol": poseidon_library(), "ZkTags.sol": tags_library()}
    for circuit, inputs in PUBLIC_INPUTS.items():
        key, name = ensure_keys(circuit, cache_dir), circuit.capitalize()
        source = verifier_contract(name, key.verifying_key, key.circuit_hash, inputs, key.development)
        files[f"{name}Verifier.sol"] = source
    return files


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with --check compare them; exit code 1 when they differ or keys cannot be made."""
    parser = argparse.ArgumentParser(prog="openmg.zk.solidity", description="Write the generated contracts.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args(arguments)
    try:
        files = generated_files()
    except KeysError as error:
        print(error, file=sys.stderr)
        return 1
    different = 0
    for name, source in sorted(files.items()):
        path = options.folder / name
        if not options.check:
            path.write_text(source, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != source:
            print(f"{path} is not what the generator writes; run python -m openmg.zk.solidity {options.folder}")
            different += 1
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
