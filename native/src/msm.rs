//! Multi-scalar multiplication: the sum of `scalar_i * base_i`, Pippenger's bucket method with signed digits.
//!
//! The bases are affine and known to be finite. Within one window they are sorted by bucket and added
//! pairwise, round by round, in affine coordinates with one shared inversion a round (Montgomery's trick):
//! about 6 field multiplications an addition where an extended-Jacobian one takes 10. The digits of a scalar
//! vector are computed once and serve every sum over that vector (a proof has four over the witness). Windows
//! are independent, so each is one parallel task.
//!
//! Not here: constant time. The prover runs in a process of its own on its owner's machine.

use ark_bn254::Fr;
use ark_ec::short_weierstrass::{Affine, Bucket, Projective, SWCurveConfig};
use ark_ec::AffineRepr;
use ark_ff::{AdditiveGroup, Field, PrimeField, Zero};
use rayon::prelude::*;

/// Bits of the scalar order.
const SCALAR_BITS: usize = Fr::MODULUS_BIT_SIZE as usize;
/// Widest window: a signed digit has to fit an `i16`.
const MAX_WINDOW_BITS: usize = 14;
/// Field multiplications of one shared-inversion affine addition.
const COST_PAIR: usize = 6;
/// Field multiplications that one bucket costs in the closing running sum (a mixed and a full addition).
const COST_BUCKET: usize = 24;
/// With fewer pairs than this, one inversion costs more than it saves.
const MIN_PAIRS: usize = 48;

/// Finite points with the index of the scalar that multiplies each.
pub struct Bases<P: SWCurveConfig> {
    indices: Vec<u32>,
    points: Vec<Finite<P>>,
}

/// A point that is not infinity. The curve's `a` is 0 for both BN254 groups.
struct Finite<P: SWCurveConfig> {
    x: P::BaseField,
    y: P::BaseField,
}

impl<P: SWCurveConfig> Clone for Finite<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: SWCurveConfig> Copy for Finite<P> {}

impl<P: SWCurveConfig> Bases<P> {
    /// Keeps the finite points; point `i` goes with scalar `first_index + i`.
    pub fn new(points: &[Affine<P>], first_index: usize) -> Self {
        let finite = || points.iter().enumerate().filter_map(|(i, p)| Some((i, p.xy()?)));
        Self {
            indices: finite().map(|(i, _)| (first_index + i) as u32).collect(),
            points: finite().map(|(_, (x, y))| Finite { x, y }).collect(),
        }
    }
}

/// Signed base-`2^window_bits` digits of a scalar vector, window by window, least significant window first.
pub struct Digits {
    window_bits: usize,
    windows: Vec<Vec<i16>>,
}

impl Digits {
    /// Recodes the scalars: digits lie in `-2^(w-1) ..= 2^(w-1)`.
    pub fn new(scalars: &[Fr]) -> Self {
        let window_bits = best_window_bits(scalars.len());
        let count = window_count(window_bits);
        let rows: Vec<[i16; SCALAR_BITS / 2 + 1]> =
            scalars.par_iter().map(|s| signed_digits(s, window_bits)).collect();
        let windows = (0..count).into_par_iter().map(|w| rows.iter().map(|row| row[w]).collect()).collect();
        Self { window_bits, windows }
    }
}

/// The sum of `digits[index] * base` over all bases.
///
/// Panics if a base has an index beyond the scalar vector: the caller checked its lengths when it read the
/// key.
pub fn msm<P: SWCurveConfig>(bases: &Bases<P>, digits: &Digits) -> Projective<P> {
    let sums: Vec<Projective<P>> = digits
        .windows
        .par_iter()
        .with_max_len(1)
        .map(|window| Buckets::fill(bases, window, digits.window_bits).sum())
        .collect();
    sums.into_iter().rev().fold(Projective::ZERO, |mut total, sum| {
        for _ in 0..digits.window_bits {
            total.double_in_place();
        }
        total + sum
    })
}

/// Windows that hold a scalar and the carry out of its top bit.
fn window_count(window_bits: usize) -> usize {
    SCALAR_BITS / window_bits + 1
}

fn best_window_bits(scalars: usize) -> usize {
    (2..=MAX_WINDOW_BITS)
        .min_by_key(|&bits| window_count(bits) * (scalars * COST_PAIR + (COST_BUCKET << (bits - 1))))
        .unwrap_or(MAX_WINDOW_BITS)
}

fn signed_digits(scalar: &Fr, window_bits: usize) -> [i16; SCALAR_BITS / 2 + 1] {
    let limbs = scalar.into_bigint().0;
    let mut digits = [0i16; SCALAR_BITS / 2 + 1];
    let mut carry = 0i32;
    for (w, digit) in digits.iter_mut().enumerate().take(window_count(window_bits)) {
        let value = bits_at(&limbs, w * window_bits, window_bits) as i32 + carry;
        carry = i32::from(value > 1 << (window_bits - 1));
        *digit = (value - (carry << window_bits)) as i16;
    }
    debug_assert_eq!(carry, 0, "the top window absorbs the last carry");
    digits
}

fn bits_at(limbs: &[u64; 4], from: usize, bits: usize) -> u64 {
    let (limb, shift) = (from / 64, from % 64);
    let low = limbs.get(limb).map_or(0, |l| l >> shift);
    let high = if shift == 0 { 0 } else { limbs.get(limb + 1).map_or(0, |l| l << (64 - shift)) };
    (low | high) & ((1 << bits) - 1)
}

/// The points of one window sorted by bucket: bucket `b` (digit `b + 1`) holds
/// `points[starts[b]..][..lens[b]]`.
struct Buckets<P: SWCurveConfig> {
    points: Vec<Finite<P>>,
    starts: Vec<usize>,
    lens: Vec<usize>,
}

impl<P: SWCurveConfig> Buckets<P> {
    /// A counting sort by absolute digit; a negative digit negates its point.
    fn fill(bases: &Bases<P>, digits: &[i16], window_bits: usize) -> Self {
        let mut lens = vec![0usize; 1 << (window_bits - 1)];
        let digit_of = |index: &u32| digits[*index as usize];
        for digit in bases.indices.iter().map(digit_of).filter(|d| *d != 0) {
            lens[usize::from(digit.unsigned_abs()) - 1] += 1;
        }
        let mut total = 0;
        let starts: Vec<usize> = lens.iter().map(|len| (total, total += len).0).collect();
        let mut next = starts.clone();
        let mut points = vec![Finite { x: P::BaseField::ZERO, y: P::BaseField::ZERO }; total];
        for (index, point) in bases.indices.iter().zip(&bases.points) {
            let digit = digit_of(index);
            if digit != 0 {
                let slot = &mut next[usize::from(digit.unsigned_abs()) - 1];
                points[*slot] = if digit > 0 { *point } else { Finite { x: point.x, y: -point.y } };
                *slot += 1;
            }
        }
        Self { points, starts, lens }
    }

    /// The sum of `digit * point`: reduce every bucket, then a running sum from the highest digit down.
    fn sum(mut self) -> Projective<P> {
        let (mut denominators, mut prefixes) = (Vec::new(), Vec::new());
        while self.pairs() >= MIN_PAIRS {
            self.halve(&mut denominators, &mut prefixes);
        }
        let (mut running, mut total) = (Bucket::<P>::ZERO, Bucket::<P>::ZERO);
        for (start, len) in self.starts.iter().zip(&self.lens).rev() {
            for point in &self.points[*start..start + len] {
                running += &Affine::<P>::new_unchecked(point.x, point.y);
            }
            total += &running;
        }
        total.into()
    }

    fn pairs(&self) -> usize {
        self.lens.iter().map(|len| len / 2).sum()
    }

    /// One round: in every bucket each pair of neighbours becomes its sum. Lengths at least halve, rounded
    /// up.
    fn halve(&mut self, denominators: &mut Vec<P::BaseField>, prefixes: &mut Vec<P::BaseField>) {
        denominators.clear();
        for (start, len) in self.starts.iter().zip(&self.lens) {
            let pairs = self.points[*start..start + len].chunks_exact(2);
            denominators.extend(pairs.map(|pair| denominator(&pair[0], &pair[1])));
        }
        invert_all(denominators, prefixes);
        let mut inverses = denominators.iter();
        for (start, len) in self.starts.iter().zip(&mut self.lens) {
            let bucket = &mut self.points[*start..start + *len];
            let mut kept = 0;
            // Sums are written behind the pair being read (kept <= pair index), so in place is safe.
            for (pair, inverse) in (0..*len / 2).zip(&mut inverses) {
                if let Some(sum) = add(&bucket[2 * pair], &bucket[2 * pair + 1], inverse) {
                    bucket[kept] = sum;
                    kept += 1;
                }
            }
            if *len % 2 == 1 {
                bucket[kept] = bucket[*len - 1];
                kept += 1;
            }
            *len = kept;
        }
    }
}

/// What the slope of `p + q` is divided by; 1 where the sum is infinity and has no slope. Never 0, not even
/// for points off the curve, which a damaged key may hold.
fn denominator<P: SWCurveConfig>(p: &Finite<P>, q: &Finite<P>) -> P::BaseField {
    if p.x != q.x {
        q.x - p.x
    } else if p.y == q.y && !p.y.is_zero() {
        p.y.double()
    } else {
        P::BaseField::ONE
    }
}

/// `p + q` given the inverse of `denominator(p, q)`; `None` is infinity.
fn add<P: SWCurveConfig>(p: &Finite<P>, q: &Finite<P>, inverse: &P::BaseField) -> Option<Finite<P>> {
    let slope = if p.x != q.x {
        (q.y - p.y) * inverse
    } else if p.y == q.y && !p.y.is_zero() {
        let square = p.x.square();
        (square.double() + square) * inverse
    } else {
        return None;
    };
    let x = slope.square() - p.x - q.x;
    Some(Finite { x, y: slope * (p.x - x) - p.y })
}

/// Replaces every element by its inverse with a single inversion. No element may be 0.
fn invert_all<F: Field>(elements: &mut [F], prefixes: &mut Vec<F>) {
    prefixes.clear();
    let mut product = F::ONE;
    for element in elements.iter() {
        prefixes.push(product);
        product *= element;
    }
    let mut inverse = product.inverse().expect("denominators are never 0");
    for (element, prefix) in elements.iter_mut().zip(prefixes.iter()).rev() {
        let current = *element;
        *element = inverse * prefix;
        inverse *= current;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_bn254::{g1, g2, G1Affine, G1Projective, G2Affine, G2Projective};
    use ark_ec::{CurveGroup, PrimeGroup};

    fn scalars(count: u64) -> Vec<Fr> {
        let seed = -Fr::from(7u64) / Fr::from(11u64);
        (0..count).map(|i| seed.pow([i % 97 + 1]) * Fr::from(i % 5)).collect()
    }

    #[test]
    fn sum_equals_one_by_one_multiplication_in_both_groups() {
        let scalars = scalars(700);
        let points: Vec<G1Affine> =
            (0..700u64).map(|i| (G1Projective::generator() * Fr::from(i % 300)).into_affine()).collect();
        let plain: G1Projective = points.iter().zip(&scalars).map(|(p, s)| *p * s).sum();
        assert_eq!(msm::<g1::Config>(&Bases::new(&points, 0), &Digits::new(&scalars)), plain);

        let points: Vec<G2Affine> =
            (0..700u64).map(|i| (G2Projective::generator() * Fr::from(i % 300)).into_affine()).collect();
        let plain: G2Projective = points.iter().zip(&scalars).map(|(p, s)| *p * s).sum();
        assert_eq!(msm::<g2::Config>(&Bases::new(&points, 0), &Digits::new(&scalars)), plain);
    }

    #[test]
    fn equal_and_opposite_points_in_one_bucket_double_and_cancel() {
        let p = G1Affine::generator();
        let points: Vec<G1Affine> = (0..512).map(|i| if i % 4 == 3 { -p } else { p }).collect();
        let ones = vec![Fr::ONE; 512];
        assert_eq!(msm::<g1::Config>(&Bases::new(&points, 0), &Digits::new(&ones)), p * Fr::from(256u64));
        let cancelling: Vec<G1Affine> = (0..512).map(|i| if i % 2 == 1 { -p } else { p }).collect();
        assert_eq!(msm::<g1::Config>(&Bases::new(&cancelling, 0), &Digits::new(&ones)), G1Projective::ZERO);
    }

    #[test]
    fn digits_recompose_the_largest_scalars_at_every_width() {
        for scalar in [Fr::ZERO, Fr::ONE, -Fr::ONE, -Fr::from(2u64), Fr::from(u64::MAX)] {
            for bits in 2..=MAX_WINDOW_BITS {
                let base = Fr::from(1u64 << bits);
                let value = signed_digits(&scalar, bits).iter().rev().fold(Fr::ZERO, |sum, d| {
                    sum * base + if *d < 0 { -Fr::from(d.unsigned_abs()) } else { Fr::from(d.unsigned_abs()) }
                });
                assert_eq!(value, scalar, "{bits} bits");
            }
        }
    }

    #[test]
    fn points_off_the_curve_do_not_panic() {
        let flat = G1Affine::new_unchecked(ark_bn254::Fq::ONE, ark_bn254::Fq::ZERO);
        let ones = vec![Fr::ONE; 512];
        let sum = msm::<g1::Config>(&Bases::new(&[flat; 512], 0), &Digits::new(&ones));
        assert_eq!(sum, G1Projective::ZERO);
    }

    #[test]
    fn an_offset_pairs_bases_with_later_scalars() {
        let points = [G1Affine::generator(), G1Affine::identity()];
        let scalars = [Fr::from(5u64), Fr::from(6u64), Fr::from(7u64)];
        let sum = msm::<g1::Config>(&Bases::new(&points, 1), &Digits::new(&scalars));
        assert_eq!(sum, G1Projective::generator() * Fr::from(6u64));
    }
}
