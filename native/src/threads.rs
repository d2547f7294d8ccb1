//! The worker threads of this crate: one pool of its own, so that the caller can say how many cores a proof
//! may take.
//!
//! A forked child inherits the pool's memory but none of its threads, and would wait for them forever. So the
//! pool remembers its process, and a child starts one of the same size.

use std::mem;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// More threads than this are a mistake: a proof has about 130 parallel tasks.
pub const MAX_THREADS: usize = 64;

struct Owned {
    process: u32,
    pool: Arc<ThreadPool>,
}

static POOL: Mutex<Option<Owned>> = Mutex::new(None);

/// Uses `count` threads from the next call on; calls under way keep theirs.
pub fn set_threads(count: usize) -> Result<()> {
    if !(1..=MAX_THREADS).contains(&count) {
        return Err(Error::new(format!("cannot prove with {count} threads: choose 1 to {MAX_THREADS}")));
    }
    replace(&mut lock(), count)?;
    Ok(())
}

/// How many threads the next call uses: what `set_threads` said, else one for each core.
pub fn threads() -> Result<usize> {
    Ok(pool()?.current_num_threads())
}

/// Runs `work` with its parallel parts on the pool.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    Ok(pool()?.install(work))
}

fn lock() -> MutexGuard<'static, Option<Owned>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pool() -> Result<Arc<ThreadPool>> {
    let mut current = lock();
    let count = match current.as_ref() {
        Some(owned) if owned.process == process::id() => return Ok(Arc::clone(&owned.pool)),
        Some(inherited) => inherited.pool.current_num_threads(),
        None => std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS),
    };
    replace(&mut current, count)
}

fn replace(current: &mut Option<Owned>, count: usize) -> Result<Arc<ThreadPool>> {
    let pool = build(count)?;
    if let Some(old) = current.replace(Owned { process: process::id(), pool: Arc::clone(&pool) }) {
        if old.process != process::id() {
            // To close an inherited pool means to signal threads that do not exist.
            mem::forget(old);
        }
    }
    Ok(pool)
}

fn build(count: usize) -> Result<Arc<ThreadPool>> {
    ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|i| format!("openmg-native-{i}"))
        .build()
        .map(Arc::new)
        .map_err(|e| {
            Error::new(format!("cannot start {count} prover threads ({e}): choose fewer with set_threads"))
        })
}
