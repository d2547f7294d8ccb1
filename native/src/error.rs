//! The one error of this crate: a sentence that says what is wrong, where, and what to do. Python sees it as
//! `ValueError`.

use std::fmt;

/// A sentence for a person; nothing branches on its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with the given sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
