//! Linear combinations of points: a sparse matrix of scalars times a column of points, the heavy part of a
//! key ceremony, in which nobody knows the scalars behind the points.
//!
//! Each point gets a table of its small odd multiples; each row then shares its doublings among its entries
//! (Straus, with non-adjacent forms of width `WIDTH`). Rows are independent, so they run in parallel. Every
//! result is exact for any points of the curve, equal, opposite and infinite ones included.
//!
//! Not here: constant time, and whether the points are on their curve; callers check what they read.

use ark_bn254::{g1, g2, Fr};
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::CurveGroup;
use ark_ff::{AdditiveGroup, PrimeField};
use rayon::prelude::*;

use crate::encoding::{point_from_le, scalars_from_le, write_point_le, Coordinate};
use crate::error::{Error, Result};

/// Digits are odd and below `2^(WIDTH - 1)` in size; at least `WIDTH - 1` zeros follow each.
const WIDTH: usize = 5;
/// Odd multiples 1, 3, ... 15 of a point.
const TABLE: usize = 1 << (WIDTH - 2);
/// Points that one task makes tables for: enough that their inversion is shared by many.
const TABLE_CHUNK: usize = 256;

/// For every row `sum coefficient * point[column]` in G1: 64 bytes a row.
pub fn g1_combinations(points: &[u8], starts: &[u8], columns: &[u8], coefficients: &[u8]) -> Result<Vec<u8>> {
    combinations::<g1::Config>(points, starts, columns, coefficients)
}

/// The same in G2: 128 bytes a row.
pub fn g2_combinations(points: &[u8], starts: &[u8], columns: &[u8], coefficients: &[u8]) -> Result<Vec<u8>> {
    combinations::<g2::Config>(points, starts, columns, coefficients)
}

fn combinations<P>(points: &[u8], starts: &[u8], columns: &[u8], coefficients: &[u8]) -> Result<Vec<u8>>
where
    P: SWCurveConfig<ScalarField = Fr>,
    P::BaseField: Coordinate,
{
    let points = points_from_le::<P>(points)?;
    let (starts, columns) = (words(starts, "the row starts")?, words(columns, "the columns")?);
    let coefficients = scalars_from_le(coefficients, "the coefficients")?;
    check_shape(&starts, &columns, coefficients.len(), points.len())?;
    let tables: Vec<Affine<P>> = points.par_chunks(TABLE_CHUNK).flat_map_iter(odd_multiples).collect();
    let sums: Vec<Projective<P>> = starts
        .par_windows(2)
        .map(|row| {
            let entries = row[0] as usize..row[1] as usize;
            combination(&tables, &columns[entries.clone()], &coefficients[entries])
        })
        .collect();
    let mut out = Vec::with_capacity(sums.len() * 2 * P::BaseField::BYTES);
    Projective::normalize_batch(&sums).iter().for_each(|point| write_point_le(point, &mut out));
    Ok(out)
}

fn points_from_le<P: SWCurveConfig>(bytes: &[u8]) -> Result<Vec<Affine<P>>>
where
    P::BaseField: Coordinate,
{
    let size = 2 * P::BaseField::BYTES;
    if bytes.len() % size != 0 {
        return Err(Error::new(format!(
            "{} bytes of points are no multiple of {size}: pass whole points",
            bytes.len()
        )));
    }
    bytes
        .chunks_exact(size)
        .enumerate()
        .map(|(i, point)| {
            point_from_le(point).ok_or_else(|| {
                Error::new(format!("a coordinate of point {i} is not below the modulus: reduce it first"))
            })
        })
        .collect()
}

fn words(bytes: &[u8], what: &str) -> Result<Vec<u32>> {
    if bytes.len() % 4 != 0 {
        return Err(Error::new(format!(
            "{what} have {} bytes: pass 4 little-endian bytes for each",
            bytes.len()
        )));
    }
    Ok(bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect())
}

fn check_shape(starts: &[u32], columns: &[u32], coefficients: usize, points: usize) -> Result<()> {
    let rising = starts.windows(2).all(|pair| pair[0] <= pair[1]);
    let bounds = (starts.first().copied(), starts.last().map(|end| *end as usize));
    if !rising || bounds != (Some(0), Some(columns.len())) || coefficients != columns.len() {
        return Err(Error::new(
            "the row starts do not fit the entries: start at 0, rise, end at their number",
        ));
    }
    match columns.iter().position(|column| *column as usize >= points) {
        Some(i) => {
            Err(Error::new(format!("entry {i} names a point beyond the {points} given: check the columns")))
        }
        None => Ok(()),
    }
}

/// 1, 3, ... 15 times each point, in order, affine.
fn odd_multiples<P: SWCurveConfig>(points: &[Affine<P>]) -> Vec<Affine<P>> {
    let mut multiples = Vec::with_capacity(points.len() * TABLE);
    for point in points {
        let mut multiple: Projective<P> = (*point).into();
        let twice = multiple.double();
        multiples.push(multiple);
        for _ in 1..TABLE {
            multiple += twice;
            multiples.push(multiple);
        }
    }
    Projective::normalize_batch(&multiples)
}

fn combination<P>(tables: &[Affine<P>], columns: &[u32], coefficients: &[Fr]) -> Projective<P>
where
    P: SWCurveConfig<ScalarField = Fr>,
{
    let digits: Vec<Vec<i8>> = coefficients.iter().map(non_adjacent_form).collect();
    let length = digits.iter().map(Vec::len).max().unwrap_or(0);
    let mut sum = Projective::<P>::ZERO;
    for bit in (0..length).rev() {
        sum.double_in_place();
        for (column, digits) in columns.iter().zip(&digits) {
            let digit = digits.get(bit).copied().unwrap_or(0);
            if digit != 0 {
                let multiple = tables[*column as usize * TABLE + usize::from(digit.unsigned_abs()) / 2];
                sum += if digit > 0 { multiple } else { -multiple };
            }
        }
    }
    sum
}

/// Signed digits, least significant first, each zero or odd (Solinas, 2000); the last one is not zero. Of a
/// scalar and its negative the shorter is written, so that -1 costs what 1 costs.
fn non_adjacent_form(scalar: &Fr) -> Vec<i8> {
    let (plain, negated) = (scalar.into_bigint(), (-*scalar).into_bigint());
    let (mut rest, sign) = if negated < plain { (negated.0, -1) } else { (plain.0, 1) };
    let mut digits = Vec::new();
    while rest != [0; 4] {
        let mut digit = 0i8;
        if rest[0] & 1 == 1 {
            let low = (rest[0] & ((1 << WIDTH) - 1)) as i8;
            digit = if low < 1 << (WIDTH - 1) { low } else { low - (1 << WIDTH) };
            subtract(&mut rest, digit);
        }
        digits.push(digit * sign);
        halve(&mut rest);
    }
    digits
}

/// `value -= digit`; a scalar has 254 bits, so that adding 15 does not overflow.
fn subtract(value: &mut [u64; 4], digit: i8) {
    let mut carry = -i128::from(digit);
    for limb in value {
        let sum = i128::from(*limb) + carry;
        *limb = sum as u64;
        carry = sum >> 64;
    }
}

fn halve(value: &mut [u64; 4]) {
    for i in 0..4 {
        let above = if i < 3 { value[i + 1] << 63 } else { 0 };
        value[i] = value[i] >> 1 | above;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::element_to_le;
    use ark_bn254::{G1Affine, G1Projective, G2Projective};
    use ark_ec::{AffineRepr, PrimeGroup};
    use ark_ff::Field;

    fn le(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn scalars() -> Vec<Fr> {
        let odd = -Fr::from(7u64) / Fr::from(11u64);
        vec![
            Fr::ZERO,
            Fr::ONE,
            -Fr::ONE,
            odd,
            odd.square(),
            Fr::from(u64::MAX),
            -Fr::from(2u64),
            Fr::from(16u64),
        ]
    }

    fn check<P>(generator: Projective<P>)
    where
        P: SWCurveConfig<ScalarField = Fr>,
        P::BaseField: Coordinate,
    {
        let scalars = scalars();
        let mut points: Vec<Affine<P>> = (0..8u64).map(|i| (generator * Fr::from(i)).into_affine()).collect();
        points[5] = -points[4];
        points[6] = points[4];
        let (starts, columns) = ([0, 0, 8, 9, 12], [0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 5, 6]);
        let coefficients: Vec<Fr> = (0..12).map(|i| scalars[if i < 9 { i % 8 } else { 3 }]).collect();
        let mut bytes = Vec::new();
        points.iter().for_each(|p| write_point_le(p, &mut bytes));
        let coefficient_bytes: Vec<u8> = coefficients.iter().flat_map(element_to_le).collect();
        let made = combinations::<P>(&bytes, &le(&starts), &le(&columns), &coefficient_bytes).unwrap();
        let mut plain = Vec::new();
        for row in starts.windows(2) {
            let entries = row[0] as usize..row[1] as usize;
            let sum: Projective<P> = entries.map(|e| points[columns[e] as usize] * coefficients[e]).sum();
            write_point_le(&sum.into_affine(), &mut plain);
        }
        assert_eq!(made, plain);
    }

    #[test]
    fn rows_equal_one_by_one_multiplication_in_both_groups() {
        check::<g1::Config>(G1Projective::generator());
        check::<g2::Config>(G2Projective::generator());
    }

    #[test]
    fn digits_recompose_the_scalar() {
        for scalar in scalars() {
            let two = Fr::from(2u64);
            let digit =
                |d: &i8| if *d < 0 { -Fr::from(d.unsigned_abs()) } else { Fr::from(d.unsigned_abs()) };
            let value = non_adjacent_form(&scalar).iter().rev().fold(Fr::ZERO, |sum, d| sum * two + digit(d));
            assert_eq!(value, scalar);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let mut point = Vec::new();
        write_point_le(&G1Affine::generator(), &mut point);
        let one = element_to_le(&Fr::ONE);
        let refused = |starts: &[u32], columns: &[u32], coefficients: &[u8], points: &[u8]| {
            assert!(g1_combinations(points, &le(starts), &le(columns), coefficients).is_err());
        };
        assert_eq!(g1_combinations(&point, &le(&[0, 1]), &le(&[0]), &one).unwrap(), point);
        refused(&[0, 1], &[1], &one, &point);
        refused(&[0, 2], &[0], &one, &point);
        refused(&[1, 1], &[0], &one, &point);
        refused(&[], &[], &[], &point);
        refused(&[0, 1], &[0], &one[1..], &point);
        refused(&[0, 1], &[0], &one, &point[1..]);
        refused(&[0, 1], &[0], &one, &[255; 64]);
    }
}
