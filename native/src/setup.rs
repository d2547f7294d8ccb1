//! Fixed-base multiplication: the heavy part of making a proving key. The scalars of the key are computed by
//! the caller.

use ark_bn254::{G1Projective, G2Projective};
use ark_ec::scalar_mul::ScalarMul;
use ark_ec::short_weierstrass::{Projective, SWCurveConfig};
use ark_ec::PrimeGroup;

use crate::encoding::{scalars_from_le, write_point_le, Coordinate};
use crate::error::Result;

/// `scalar_i * G1` for every 32-byte little-endian scalar, 64 bytes a point.
pub fn g1_fixed_base(scalars_le: &[u8]) -> Result<Vec<u8>> {
    multiply(G1Projective::generator(), scalars_le)
}

/// `scalar_i * G2` for every 32-byte little-endian scalar, 128 bytes a point.
pub fn g2_fixed_base(scalars_le: &[u8]) -> Result<Vec<u8>> {
    multiply(G2Projective::generator(), scalars_le)
}

fn multiply<P>(generator: Projective<P>, scalars_le: &[u8]) -> Result<Vec<u8>>
where
    P: SWCurveConfig<ScalarField = ark_bn254::Fr>,
    P::BaseField: Coordinate,
{
    let scalars = scalars_from_le(scalars_le, "the scalar vector")?;
    let points = generator.batch_mul(&scalars);
    let mut out = Vec::with_capacity(points.len() * 2 * P::BaseField::BYTES);
    points.iter().for_each(|point| write_point_le(point, &mut out));
    Ok(out)
}
