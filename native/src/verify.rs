//! Groth16 verification: e(A, B) = e(alpha, beta) * e(IC(public), gamma) * e(C, delta).
//!
//! The verifying key is the caller's own: a fault in it is an error. Proof and public inputs come from a
//! stranger: whatever is wrong with them (length, range, curve, subgroup, infinity, equation) is a plain
//! `false`.

use ark_bn254::{g1, g2, Bn254, G1Affine, G1Projective, G2Affine};
use ark_ec::pairing::Pairing;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::Field;

use crate::encoding::{
    point_from_evm, point_from_le, scalars_from_le, Coordinate, FIELD_BYTES, G1_BYTES, G2_BYTES,
};
use crate::error::{Error, Result};
use crate::prove::PROOF_BYTES;

/// A verifying key with more public inputs than this is damaged: no contract could afford it.
const MAX_PUBLIC: usize = 1 << 12;

/// Whether the proof (EVM order) shows the statement with these public inputs (32-byte little-endian each).
pub fn verify(vk: &[u8], public_le: &[u8], proof: &[u8]) -> Result<bool> {
    let vk = VerifyingKey::parse(vk)?;
    let Some((a, b, c)) = parse_proof(proof) else { return Ok(false) };
    let Some(ic) = vk.combine(public_le) else { return Ok(false) };
    let product = Bn254::multi_pairing([-a, vk.alpha1, ic, c], [b, vk.beta2, vk.gamma2, vk.delta2]);
    Ok(product.0 == Field::ONE)
}

struct VerifyingKey {
    alpha1: G1Affine,
    beta2: G2Affine,
    gamma2: G2Affine,
    delta2: G2Affine,
    ic: Vec<G1Affine>,
}

impl VerifyingKey {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let fixed = G1_BYTES + 3 * G2_BYTES;
        let ic = bytes.get(fixed..).unwrap_or_default();
        if ic.is_empty() || ic.len() % G1_BYTES != 0 || ic.len() / G1_BYTES > MAX_PUBLIC + 1 {
            return Err(Error::new(format!(
                "the verifying key has {} bytes, which is not {fixed} and {G1_BYTES} for each public input \
                 and one more: make the keys again",
                bytes.len()
            )));
        }
        let second = |i: usize, name: &str| {
            own_point::<g2::Config>(&bytes[G1_BYTES + i * G2_BYTES..][..G2_BYTES], name)
        };
        let key = Self {
            alpha1: own_point::<g1::Config>(&bytes[..G1_BYTES], "alpha1")?,
            beta2: second(0, "beta2")?,
            gamma2: second(1, "gamma2")?,
            delta2: second(2, "delta2")?,
            ic: ic
                .chunks_exact(G1_BYTES)
                .map(|point| own_point::<g1::Config>(point, "IC"))
                .collect::<Result<_>>()?,
        };
        if key.gamma2 == key.delta2 {
            return Err(Error::new(
                "the verifying key has gamma2 = delta2, so anyone can forge: make the keys again",
            ));
        }
        Ok(key)
    }

    /// `IC[0] + sum(public_i * IC[i + 1])`; `None` if the inputs are not as many as the key's, or not
    /// canonical.
    fn combine(&self, public_le: &[u8]) -> Option<G1Affine> {
        if public_le.len() != (self.ic.len() - 1) * FIELD_BYTES {
            return None;
        }
        let public = scalars_from_le(public_le, "the public inputs").ok()?;
        let sum = self.ic[1..].iter().zip(&public).map(|(point, input)| *point * input).sum::<G1Projective>();
        Some((sum + self.ic[0]).into_affine())
    }
}

fn own_point<P: SWCurveConfig>(bytes: &[u8], name: &str) -> Result<Affine<P>>
where
    P::BaseField: Coordinate,
{
    point_from_le::<P>(bytes).filter(is_sound).ok_or_else(|| {
        Error::new(format!(
            "{name} of the verifying key is no finite point of its group: make the keys again"
        ))
    })
}

fn parse_proof(proof: &[u8]) -> Option<(G1Affine, G2Affine, G1Affine)> {
    if proof.len() != PROOF_BYTES {
        return None;
    }
    let a = point_from_evm::<g1::Config>(&proof[..G1_BYTES]).filter(is_sound)?;
    let b = point_from_evm::<g2::Config>(&proof[G1_BYTES..G1_BYTES + G2_BYTES]).filter(is_sound)?;
    let c = point_from_evm::<g1::Config>(&proof[G1_BYTES + G2_BYTES..]).filter(is_sound)?;
    Some((a, b, c))
}

/// Finite, on the curve and in the subgroup of prime order.
fn is_sound<P: SWCurveConfig>(point: &Affine<P>) -> bool {
    !point.is_zero() && point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve()
}
