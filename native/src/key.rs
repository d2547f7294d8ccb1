//! The proving-key file (`OMGPK` version 1) and the verifying key inside it.
//!
//! All integers are little-endian, field elements 32 bytes in standard form, points as in `encoding`:
//!
//! ```text
//! magic "OMGPK\0\0\1"; circuit_hash[32]; u32 n_wires, n_public, domain_log2, n_constraints
//! G1 alpha, beta, delta; G2 beta, gamma, delta
//! G1 A[n_wires]; G1 B1[n_wires]; G2 B2[n_wires]
//! G1 L[n_wires - n_public - 1]; G1 H[domain - 1]; G1 IC[n_public + 1]
//! for each matrix of A, B, C: u32 rows, u32 nnz; u32 row_ptr[rows + 1]; u32 col[nnz]; coeff[32 * nnz]
//! ```
//!
//! The file is authenticated by the caller (by its hash), so curve equations are not checked here. Everything
//! that could make the prover read out of bounds or allocate without limit is. The file is read in pieces:
//! memory holds one copy of the key.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ark_bn254::{g1, g2, G1Affine, G2Affine};
use rayon::prelude::*;

use crate::encoding::{element_from_le, point_from_le, write_point_le, FIELD_BYTES, G1_BYTES, G2_BYTES};
use crate::error::{Error, Result};
use crate::msm::Bases;
use crate::qap::{Matrix, Qap};

const MAGIC: &[u8; 8] = b"OMGPK\0\0\x01";
/// 4 million rows, 256 times the transfer circuit: a larger header is a damaged file.
const MAX_DOMAIN_LOG2: u32 = 22;
/// Items converted at once: bounds the raw bytes held beside the converted ones.
const CHUNK_ITEMS: usize = 1 << 15;

/// A proving key, ready for `prove`.
pub struct ProvingKey {
    /// Hash of the canonical matrices, as the file states it.
    pub circuit_hash: [u8; 32],
    /// Wires, the constant one included.
    pub n_wires: usize,
    /// Public wires, the constant one not included.
    pub n_public: usize,
    /// Base-2 logarithm of the domain's size.
    pub domain_log2: u32,
    /// The verifying key: `alpha1 | beta2 | gamma2 | delta2 | IC[n_public + 1]`.
    pub vk: Vec<u8>,
    pub(crate) alpha1: G1Affine,
    pub(crate) beta1: G1Affine,
    pub(crate) delta1: G1Affine,
    pub(crate) beta2: G2Affine,
    pub(crate) delta2: G2Affine,
    pub(crate) a: Bases<g1::Config>,
    pub(crate) b1: Bases<g1::Config>,
    pub(crate) b2: Bases<g2::Config>,
    pub(crate) l: Bases<g1::Config>,
    pub(crate) h: Bases<g1::Config>,
    pub(crate) qap: Qap,
}

impl ProvingKey {
    /// Reads a key file whole.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| {
            Error::new(format!("cannot open the proving key {} ({e}): run the set-up first", path.display()))
        })?;
        let length = file.metadata().map_or(0, |meta| meta.len());
        Self::parse(BufReader::new(file), length, &path.display().to_string())
    }

    /// Parses `length` bytes; `name` stands for the file in the sentence of an error.
    pub fn parse(source: impl Read, length: u64, name: &str) -> Result<Self> {
        let mut reader = Reader { source, left: length, name };
        let header = Header::read(&mut reader)?;
        let (wires, public) = (header.n_wires, header.n_public);
        let alpha1 = reader.g1(1, "alpha1")?[0];
        let beta1 = reader.g1(1, "beta1")?[0];
        let delta1 = reader.g1(1, "delta1")?[0];
        let beta2 = reader.g2(1, "beta2")?[0];
        let gamma2 = reader.g2(1, "gamma2")?[0];
        let delta2 = reader.g2(1, "delta2")?[0];
        let a = Bases::new(&reader.g1(wires, "A")?, 0);
        let b1 = Bases::new(&reader.g1(wires, "B1")?, 0);
        let b2 = Bases::new(&reader.g2(wires, "B2")?, 0);
        let l = Bases::new(&reader.g1(wires - public - 1, "L")?, public + 1);
        let h = Bases::new(&reader.g1((1 << header.domain_log2) - 1, "H")?, 0);
        let ic = reader.g1(public + 1, "IC")?;
        let mut matrix = |what| reader.matrix(&header, what);
        let matrices = [matrix("matrix A")?, matrix("matrix B")?, matrix("matrix C")?];
        reader.finish()?;
        let qap = Qap::new(matrices, public, header.domain_log2).ok_or_else(|| header.domain_error(name))?;
        Ok(Self {
            circuit_hash: header.circuit_hash,
            n_wires: wires,
            n_public: public,
            domain_log2: header.domain_log2,
            vk: verifying_key(&alpha1, &[beta2, gamma2, delta2], &ic),
            alpha1,
            beta1,
            delta1,
            beta2,
            delta2,
            a,
            b1,
            b2,
            l,
            h,
            qap,
        })
    }
}

fn verifying_key(alpha1: &G1Affine, second_group: &[G2Affine; 3], ic: &[G1Affine]) -> Vec<u8> {
    let mut vk = Vec::with_capacity(G1_BYTES * (1 + ic.len()) + G2_BYTES * second_group.len());
    write_point_le(alpha1, &mut vk);
    second_group.iter().for_each(|point| write_point_le(point, &mut vk));
    ic.iter().for_each(|point| write_point_le(point, &mut vk));
    vk
}

/// The sizes that everything else in the file follows from.
struct Header {
    circuit_hash: [u8; 32],
    n_wires: usize,
    n_public: usize,
    domain_log2: u32,
    n_constraints: usize,
}

impl Header {
    fn read(reader: &mut Reader<impl Read>) -> Result<Self> {
        if reader.bytes(MAGIC.len(), "the magic")? != MAGIC {
            return Err(reader.error("is not a version 1 proving key (wrong magic)"));
        }
        let mut circuit_hash = [0u8; 32];
        circuit_hash.copy_from_slice(&reader.bytes(32, "the circuit hash")?);
        let sizes = reader.integers(4, "the sizes")?;
        let header = Self {
            circuit_hash,
            n_wires: sizes[0] as usize,
            n_public: sizes[1] as usize,
            domain_log2: sizes[2],
            n_constraints: sizes[3] as usize,
        };
        if header.domain_log2 > MAX_DOMAIN_LOG2 || header.rows_needed() > 1u64 << header.domain_log2 {
            return Err(header.domain_error(reader.name));
        }
        if header.n_public >= header.n_wires || header.n_wires >> MAX_DOMAIN_LOG2 != 0 {
            return Err(reader.error(&format!(
                "has {} wires of which {} are public, which no circuit has",
                header.n_wires, header.n_public
            )));
        }
        Ok(header)
    }

    /// Constraints and the consistency rows of the constant and the public wires.
    fn rows_needed(&self) -> u64 {
        self.n_constraints as u64 + self.n_public as u64 + 1
    }

    fn domain_error(&self, name: &str) -> Error {
        Error::new(format!(
            "the proving key {name} has a domain of 2^{} for {} rows, which does not fit: \
             delete it and run the set-up again",
            self.domain_log2,
            self.rows_needed()
        ))
    }
}

/// Takes pieces off a source of known length; never allocates more than the source can still give.
struct Reader<'a, R> {
    source: R,
    left: u64,
    name: &'a str,
}

impl<R: Read> Reader<'_, R> {
    fn error(&self, problem: &str) -> Error {
        Error::new(format!("the proving key {} {problem}: delete it and run the set-up again", self.name))
    }

    /// Refuses a section longer than what is left, before anything is allocated for it.
    fn claim(&mut self, count: usize, size: usize, what: &str) -> Result<()> {
        let bytes = count as u64 * size as u64;
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(self.error(&format!("ends inside {what}"))),
        }
        Ok(())
    }

    fn bytes(&mut self, count: usize, what: &str) -> Result<Vec<u8>> {
        self.claim(count, 1, what)?;
        self.fetch(count, what)
    }

    fn fetch(&mut self, count: usize, what: &str) -> Result<Vec<u8>> {
        let mut bytes = vec![0u8; count];
        self.source
            .read_exact(&mut bytes)
            .map_err(|e| self.error(&format!("cannot be read at {what} ({e})")))?;
        Ok(bytes)
    }

    fn items<T: Send>(
        &mut self,
        count: usize,
        size: usize,
        what: &str,
        parse: impl Fn(&[u8]) -> Option<T> + Sync,
    ) -> Result<Vec<T>> {
        self.claim(count, size, what)?;
        let mut items = Vec::with_capacity(count);
        while items.len() < count {
            let bytes = self.fetch((count - items.len()).min(CHUNK_ITEMS) * size, what)?;
            let parsed: Option<Vec<T>> = bytes.par_chunks_exact(size).map(&parse).collect();
            items
                .extend(parsed.ok_or_else(|| {
                    self.error(&format!("has a field element that is too large in {what}"))
                })?);
        }
        Ok(items)
    }

    fn integers(&mut self, count: usize, what: &str) -> Result<Vec<u32>> {
        self.items(count, 4, what, |bytes| bytes.try_into().ok().map(u32::from_le_bytes))
    }

    fn g1(&mut self, count: usize, what: &str) -> Result<Vec<G1Affine>> {
        self.items(count, G1_BYTES, what, point_from_le::<g1::Config>)
    }

    fn g2(&mut self, count: usize, what: &str) -> Result<Vec<G2Affine>> {
        self.items(count, G2_BYTES, what, point_from_le::<g2::Config>)
    }

    fn matrix(&mut self, header: &Header, what: &str) -> Result<Matrix> {
        let sizes = self.integers(2, what)?;
        let (rows, entries) = (sizes[0] as usize, sizes[1] as usize);
        if rows != header.n_constraints {
            return Err(
                self.error(&format!("has {rows} rows in {what} for {} constraints", header.n_constraints))
            );
        }
        let row_ptr = self.integers(rows + 1, what)?;
        let in_order = row_ptr.windows(2).all(|bounds| bounds[0] <= bounds[1]);
        if !in_order || row_ptr[0] != 0 || row_ptr[rows] as usize != entries {
            return Err(self.error(&format!("has row pointers out of order in {what}")));
        }
        let columns = self.integers(entries, what)?;
        if columns.iter().any(|wire| *wire as usize >= header.n_wires) {
            return Err(self.error(&format!("names a wire that does not exist in {what}")));
        }
        let coefficients = self.items(entries, FIELD_BYTES, what, element_from_le)?;
        Ok(Matrix::new(row_ptr, columns.into_iter().zip(coefficients).collect()))
    }

    fn finish(self) -> Result<()> {
        if self.left > 0 {
            return Err(self.error(&format!("has {} bytes too many at its end", self.left)));
        }
        Ok(())
    }
}
