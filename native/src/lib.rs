//! The heavy arithmetic of Open MG's Groth16 prover over BN254: fixed-base set-up, proving, verifying.
//!
//! Rules: bytes in, bytes out; no randomness, clock or network, and no file but the proving key. The same
//! key, witness and blinding give the same bytes as the portable Python backend. Every fault is one `Error`
//! sentence; nothing panics on input.
//!
//! Not here: circuits, witnesses, toxic scalars, note and key formats other than the proving-key file (all in
//! Python).

mod combine;
mod encoding;
mod error;
mod key;
mod msm;
mod prove;
#[cfg(feature = "python")]
mod python;
mod qap;
mod setup;
mod threads;
mod verify;

pub use combine::{g1_combinations, g2_combinations};
pub use error::{Error, Result};
pub use key::ProvingKey;
pub use prove::PROOF_BYTES;
pub use setup::{g1_fixed_base, g2_fixed_base};
pub use threads::{run, set_threads, threads, MAX_THREADS};
pub use verify::verify;
