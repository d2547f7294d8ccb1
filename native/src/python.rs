//! The Python face of the crate: argument conversion and release of the interpreter lock, nothing else.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{Error, Result};
use crate::key::ProvingKey;
use crate::{combine, setup, threads, verify as verifier};

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

/// Runs `work` on the worker threads with the interpreter lock released.
fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    py.detach(|| threads::run(work)?)
}

/// n scalars (32 bytes little-endian each) to n points scalar * G1 (64 bytes each: x, y little-endian;
/// infinity all zeros).
#[pyfunction]
fn g1_fixed_base<'py>(py: Python<'py>, scalars_le: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &detached(py, || setup::g1_fixed_base(scalars_le))?))
}

/// n scalars (32 bytes little-endian each) to n points scalar * G2 (128 bytes each: x.c0, x.c1, y.c0, y.c1).
#[pyfunction]
fn g2_fixed_base<'py>(py: Python<'py>, scalars_le: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &detached(py, || setup::g2_fixed_base(scalars_le))?))
}

/// A sparse matrix times a column of G1 points: entries `starts[k]` to `starts[k + 1]` make row k (64 bytes).
#[pyfunction]
fn g1_combinations<'py>(
    py: Python<'py>,
    points_le: &[u8],
    starts: &[u8],
    columns: &[u8],
    coefficients_le: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let rows = detached(py, || combine::g1_combinations(points_le, starts, columns, coefficients_le))?;
    Ok(PyBytes::new(py, &rows))
}

/// The same for G2 points (128 bytes a row).
#[pyfunction]
fn g2_combinations<'py>(
    py: Python<'py>,
    points_le: &[u8],
    starts: &[u8],
    columns: &[u8],
    coefficients_le: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let rows = detached(py, || combine::g2_combinations(points_le, starts, columns, coefficients_le))?;
    Ok(PyBytes::new(py, &rows))
}

/// Whether a 256-byte proof holds for the public inputs. A faulty vk is a ValueError; a faulty proof or input
/// is False.
#[pyfunction]
fn verify(py: Python<'_>, vk: &[u8], public_le: &[u8], proof: &[u8]) -> PyResult<bool> {
    Ok(detached(py, || verifier::verify(vk, public_le, proof))?)
}

/// Uses n worker threads (1 to 64) from the next call on.
#[pyfunction]
fn set_threads(n: usize) -> PyResult<()> {
    Ok(threads::set_threads(n)?)
}

/// How many worker threads the next call uses; one for each core unless set_threads said otherwise.
#[pyfunction(name = "threads")]
fn thread_count() -> PyResult<usize> {
    Ok(threads::threads()?)
}

/// A proving key in memory. Immutable: any number of threads may prove with it.
#[pyclass(frozen, module = "openmg_native")]
struct Prover {
    key: ProvingKey,
}

#[pymethods]
impl Prover {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Ok(Self { key: detached(py, || ProvingKey::read(&path))? })
    }

    /// Wires of the circuit, the constant one included.
    #[getter]
    fn n_wires(&self) -> usize {
        self.key.n_wires
    }

    /// Public inputs, the constant one not included.
    #[getter]
    fn n_public(&self) -> usize {
        self.key.n_public
    }

    /// Base-2 logarithm of the domain's size.
    #[getter]
    fn domain_log2(&self) -> u32 {
        self.key.domain_log2
    }

    /// The 32-byte circuit hash that the key file states.
    #[getter]
    fn circuit_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.key.circuit_hash)
    }

    /// Worker threads of the next proof.
    #[getter]
    fn threads(&self) -> PyResult<usize> {
        thread_count()
    }

    /// The verifying key: alpha1, beta2, gamma2, delta2, IC[n_public + 1], points as in the key file.
    fn vk<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.key.vk)
    }

    /// The 256-byte proof in EVM order. Fresh uniform r and s are the caller's duty; a bad witness gives a
    /// proof that fails.
    fn prove<'py>(
        &self,
        py: Python<'py>,
        witness_le: &[u8],
        r_le: &[u8],
        s_le: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &detached(py, || self.key.prove(witness_le, r_le, s_le))?))
    }

    /// Index of the first constraint that the witness breaks; None if it satisfies the circuit.
    fn first_unsatisfied(&self, py: Python<'_>, witness_le: &[u8]) -> PyResult<Option<usize>> {
        Ok(detached(py, || self.key.first_unsatisfied(witness_le))?)
    }
}

/// The heavy arithmetic of the Groth16 prover over BN254. Every fault is a ValueError of one sentence.
#[pymodule]
fn openmg_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("version", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Prover>()?;
    module.add_function(wrap_pyfunction!(g1_fixed_base, module)?)?;
    module.add_function(wrap_pyfunction!(g2_fixed_base, module)?)?;
    module.add_function(wrap_pyfunction!(g1_combinations, module)?)?;
    module.add_function(wrap_pyfunction!(g2_combinations, module)?)?;
    module.add_function(wrap_pyfunction!(verify, module)?)?;
    module.add_function(wrap_pyfunction!(set_threads, module)?)?;
    module.add_function(wrap_pyfunction!(thread_count, module)?)?;
    Ok(())
}
