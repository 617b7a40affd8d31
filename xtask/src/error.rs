//! What went wrong, with the chain of reasons.

use std::fmt;

/// A failure as a person reads it: what was tried, then why it failed, the nearest cause last.
#[derive(Debug)]
pub(crate) struct Error {
    chain: Vec<String>,
}

/// The result of everything here.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that says all in one sentence.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { chain: vec![message.into()] }
    }

    /// The error with what was tried put before it.
    pub(crate) fn during(mut self, what: impl Into<String>) -> Self {
        self.chain.insert(0, what.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain.join(": "))
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Says what was tried when something fails.
pub(crate) trait Context<T> {
    /// Puts `what` before the reason.
    fn context(self, what: impl Into<String>) -> Result<T>;

    /// Like [`context`](Self::context), with a text that is made only when needed.
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().during(what))
    }

    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| error.into().during(what()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::new(what))
    }

    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::new(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_comes_last() {
        let failed: std::result::Result<(), &str> = Err("no space left");
        let error = failed.context("cannot write a.txt").context("cannot unpack").unwrap_err();
        assert_eq!(error.to_string(), "cannot unpack: cannot write a.txt: no space left");
    }
}
