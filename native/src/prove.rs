//! Groth16 proving (Groth, "On the size of pairing-based non-interactive arguments", 2016, section 3.2).
//!
//! The blinding scalars r and s come from the caller: this crate has no randomness. A proof is zero-knowledge
//! only if both are fresh and uniform; equal ones give equal bytes, which is how backends are compared.

use ark_bn254::{Fr, G1Projective, G2Projective};
use ark_ec::CurveGroup;
use ark_ff::Field;

use crate::encoding::{element_from_le, scalars_from_le, write_point_evm, FIELD_BYTES, G1_BYTES, G2_BYTES};
use crate::error::{Error, Result};
use crate::key::ProvingKey;
use crate::msm::{msm, Digits};

/// Bytes of a proof: A and C in G1, B in G2.
pub const PROOF_BYTES: usize = 2 * G1_BYTES + G2_BYTES;

impl ProvingKey {
    /// The proof in EVM order: A.x, A.y, B.x.c1, B.x.c0, B.y.c1, B.y.c0, C.x, C.y, 32 bytes big-endian each.
    ///
    /// `witness_le` holds every wire, the constant one first. A witness that breaks a constraint still gives
    /// a proof, which does not verify: see `first_unsatisfied`.
    pub fn prove(&self, witness_le: &[u8], r_le: &[u8], s_le: &[u8]) -> Result<[u8; PROOF_BYTES]> {
        let witness = self.witness(witness_le)?;
        let (r, s) = (blinding(r_le, "r")?, blinding(s_le, "s")?);
        let (h_sum, (a, b1, b2, l_sum)) = rayon::join(
            || msm(&self.h, &Digits::new(&self.qap.quotient(&witness))),
            || self.witness_sums(&witness),
        );
        let a = a + self.alpha1 + self.delta1 * r;
        let b1 = b1 + self.beta1 + self.delta1 * s;
        let b2 = b2 + self.beta2 + self.delta2 * s;
        let c = l_sum + h_sum + a * s + b1 * r - self.delta1 * (r * s);
        Ok(encode(a, b2, c))
    }

    /// Index of the first constraint that the witness breaks; none if it satisfies the circuit.
    pub fn first_unsatisfied(&self, witness_le: &[u8]) -> Result<Option<usize>> {
        Ok(self.qap.first_unsatisfied(&self.witness(witness_le)?))
    }

    fn witness(&self, witness_le: &[u8]) -> Result<Vec<Fr>> {
        if witness_le.len() != self.n_wires * FIELD_BYTES {
            return Err(Error::new(format!(
                "the witness has {} bytes where the circuit's {} wires need {}: \
                 build it with the circuit of this key",
                witness_le.len(),
                self.n_wires,
                self.n_wires * FIELD_BYTES
            )));
        }
        let witness = scalars_from_le(witness_le, "the witness")?;
        if witness[0] != Fr::ONE {
            return Err(Error::new("element 0 of the witness is not 1: wire 0 is the constant one"));
        }
        Ok(witness)
    }

    fn witness_sums(&self, witness: &[Fr]) -> (G1Projective, G1Projective, G2Projective, G1Projective) {
        let digits = Digits::new(witness);
        let (b2, (a, (b1, l))) = rayon::join(
            || msm(&self.b2, &digits),
            || {
                rayon::join(
                    || msm(&self.a, &digits),
                    || rayon::join(|| msm(&self.b1, &digits), || msm(&self.l, &digits)),
                )
            },
        );
        (a, b1, b2, l)
    }
}

fn blinding(bytes: &[u8], name: &str) -> Result<Fr> {
    element_from_le(bytes).ok_or_else(|| {
        Error::new(format!(
            "the blinding scalar {name} is not 32 little-endian bytes below the BN254 scalar order"
        ))
    })
}

fn encode(a: G1Projective, b: G2Projective, c: G1Projective) -> [u8; PROOF_BYTES] {
    let mut bytes = Vec::with_capacity(PROOF_BYTES);
    write_point_evm(&a.into_affine(), &mut bytes);
    write_point_evm(&b.into_affine(), &mut bytes);
    write_point_evm(&c.into_affine(), &mut bytes);
    bytes.try_into().expect("two G1 points and one G2 point")
}
