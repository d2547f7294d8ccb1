//! Field elements and points as bytes.
//!
//! Rules: integers are in standard (not Montgomery) form and canonical, that is below the modulus; anything
//! else is `None`. Files and vectors are little-endian, 32 bytes an element: a G1 point is x, y; a G2 point
//! is x.c0, x.c1, y.c0, y.c1; infinity is all zeros. Proofs are in the EVM's order (EIP-197): big-endian, and
//! the imaginary part c1 of an Fq2 element comes first.
//!
//! Not here: the curve equation. Reading a point never checks it; `verify` does, for points from outside.

use ark_bn254::{Fq, Fq2, Fr};
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ec::AffineRepr;
use ark_ff::{AdditiveGroup, BigInt, Field, PrimeField};

use crate::error::{Error, Result};

/// Bytes of one field element.
pub const FIELD_BYTES: usize = 32;
/// Bytes of one G1 point.
pub const G1_BYTES: usize = 2 * FIELD_BYTES;
/// Bytes of one G2 point.
pub const G2_BYTES: usize = 4 * FIELD_BYTES;

/// A coordinate field of one of the two groups.
pub trait Coordinate: Field {
    /// Length of the encoding in bytes.
    const BYTES: usize;
    /// Little-endian, `c0` first; `None` if an element is not below the modulus.
    fn read_le(bytes: &[u8]) -> Option<Self>;
    /// Appends the little-endian encoding.
    fn write_le(&self, out: &mut Vec<u8>);
    /// Big-endian, `c1` first (EIP-197); `None` if an element is not below the modulus.
    fn read_evm(bytes: &[u8]) -> Option<Self>;
    /// Appends the EVM encoding.
    fn write_evm(&self, out: &mut Vec<u8>);
}

impl Coordinate for Fq {
    const BYTES: usize = FIELD_BYTES;

    fn read_le(bytes: &[u8]) -> Option<Self> {
        element_from_le(bytes)
    }

    fn write_le(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&element_to_le(self));
    }

    fn read_evm(bytes: &[u8]) -> Option<Self> {
        let mut le: [u8; FIELD_BYTES] = bytes.try_into().ok()?;
        le.reverse();
        element_from_le(&le)
    }

    fn write_evm(&self, out: &mut Vec<u8>) {
        let mut be = element_to_le(self);
        be.reverse();
        out.extend_from_slice(&be);
    }
}

impl Coordinate for Fq2 {
    const BYTES: usize = 2 * FIELD_BYTES;

    fn read_le(bytes: &[u8]) -> Option<Self> {
        let (c0, c1) = bytes.split_at_checked(FIELD_BYTES)?;
        Some(Self::new(Fq::read_le(c0)?, Fq::read_le(c1)?))
    }

    fn write_le(&self, out: &mut Vec<u8>) {
        self.c0.write_le(out);
        self.c1.write_le(out);
    }

    fn read_evm(bytes: &[u8]) -> Option<Self> {
        let (c1, c0) = bytes.split_at_checked(FIELD_BYTES)?;
        Some(Self::new(Fq::read_evm(c0)?, Fq::read_evm(c1)?))
    }

    fn write_evm(&self, out: &mut Vec<u8>) {
        self.c1.write_evm(out);
        self.c0.write_evm(out);
    }
}

/// One element of a 254-bit prime field, little-endian; `None` if the length is wrong or the value not below
/// the modulus.
pub fn element_from_le<F: PrimeField<BigInt = BigInt<4>>>(bytes: &[u8]) -> Option<F> {
    if bytes.len() != FIELD_BYTES {
        return None;
    }
    let mut limbs = [0u64; 4];
    for (limb, word) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = u64::from_le_bytes(word.try_into().ok()?);
    }
    F::from_bigint(BigInt(limbs))
}

/// The canonical little-endian encoding of one element.
pub fn element_to_le<F: PrimeField<BigInt = BigInt<4>>>(element: &F) -> [u8; FIELD_BYTES] {
    let mut out = [0u8; FIELD_BYTES];
    for (word, limb) in out.chunks_exact_mut(8).zip(element.into_bigint().0) {
        word.copy_from_slice(&limb.to_le_bytes());
    }
    out
}

/// A vector of scalars, 32 bytes each. `what` names it in the sentence of an error.
pub fn scalars_from_le(bytes: &[u8], what: &str) -> Result<Vec<Fr>> {
    if bytes.len() % FIELD_BYTES != 0 {
        return Err(Error::new(format!(
            "{what} has {} bytes, which is no multiple of {FIELD_BYTES}: \
             pass 32 little-endian bytes for each element",
            bytes.len()
        )));
    }
    bytes
        .chunks_exact(FIELD_BYTES)
        .enumerate()
        .map(|(i, element)| {
            element_from_le(element).ok_or_else(|| {
                Error::new(format!(
                    "element {i} of {what} is not below the BN254 scalar order: reduce it first"
                ))
            })
        })
        .collect()
}

/// A point in file form. The curve equation is not checked.
pub fn point_from_le<P: SWCurveConfig>(bytes: &[u8]) -> Option<Affine<P>>
where
    P::BaseField: Coordinate,
{
    let (x, y) = bytes.split_at_checked(P::BaseField::BYTES)?;
    point(P::BaseField::read_le(x)?, P::BaseField::read_le(y)?)
}

/// A point in EVM form. The curve equation is not checked.
pub fn point_from_evm<P: SWCurveConfig>(bytes: &[u8]) -> Option<Affine<P>>
where
    P::BaseField: Coordinate,
{
    let (x, y) = bytes.split_at_checked(P::BaseField::BYTES)?;
    point(P::BaseField::read_evm(x)?, P::BaseField::read_evm(y)?)
}

/// Appends a point in file form.
pub fn write_point_le<P: SWCurveConfig>(point: &Affine<P>, out: &mut Vec<u8>)
where
    P::BaseField: Coordinate,
{
    let (x, y) = coordinates(point);
    x.write_le(out);
    y.write_le(out);
}

/// Appends a point in EVM form.
pub fn write_point_evm<P: SWCurveConfig>(point: &Affine<P>, out: &mut Vec<u8>)
where
    P::BaseField: Coordinate,
{
    let (x, y) = coordinates(point);
    x.write_evm(out);
    y.write_evm(out);
}

fn point<P: SWCurveConfig>(x: P::BaseField, y: P::BaseField) -> Option<Affine<P>> {
    // (0, 0) is on neither curve (b is not 0), so it is free to stand for infinity, as in EIP-196.
    let zero = P::BaseField::ZERO;
    Some(if x == zero && y == zero { Affine::identity() } else { Affine::new_unchecked(x, y) })
}

fn coordinates<P: SWCurveConfig>(point: &Affine<P>) -> (P::BaseField, P::BaseField) {
    point.xy().unwrap_or((P::BaseField::ZERO, P::BaseField::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_bn254::{g1, g2, G1Affine, G2Affine};

    #[test]
    fn elements_at_and_above_the_modulus_are_refused() {
        let mut bytes = [0u8; FIELD_BYTES];
        for (word, limb) in bytes.chunks_exact_mut(8).zip(Fr::MODULUS.0) {
            word.copy_from_slice(&limb.to_le_bytes());
        }
        assert_eq!(element_from_le::<Fr>(&bytes), None);
        bytes[0] -= 1;
        assert_eq!(element_from_le::<Fr>(&bytes), Some(-Fr::from(1u64)));
        assert_eq!(element_from_le::<Fr>(&bytes[1..]), None);
    }

    #[test]
    fn points_and_infinity_survive_both_encodings() {
        for p in [G1Affine::generator(), G1Affine::identity()] {
            let (mut le, mut evm) = (Vec::new(), Vec::new());
            write_point_le(&p, &mut le);
            write_point_evm(&p, &mut evm);
            assert_eq!(le.len(), G1_BYTES);
            assert_eq!(point_from_le::<g1::Config>(&le), Some(p));
            assert_eq!(point_from_evm::<g1::Config>(&evm), Some(p));
        }
        for p in [G2Affine::generator(), G2Affine::identity()] {
            let (mut le, mut evm) = (Vec::new(), Vec::new());
            write_point_le(&p, &mut le);
            write_point_evm(&p, &mut evm);
            assert_eq!(le.len(), G2_BYTES);
            assert_eq!(point_from_le::<g2::Config>(&le), Some(p));
            assert_eq!(point_from_evm::<g2::Config>(&evm), Some(p));
        }
    }
}
