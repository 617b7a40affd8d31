//! Standard output of a program that mostly prints nothing: it costs no memory until something is printed.

use std::io;
use std::io::Write;

/// Standard output, written in large pieces.
#[derive(Debug, Default)]
pub struct Output {
    pending: Vec<u8>,
}

impl Output {
    /// Bytes that are gathered before they are written.
    const PIECE: usize = 32 << 10;

    /// Nothing is waiting to be written.
    pub const fn new() -> Output {
        Output { pending: Vec::new() }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.pending.len() >= Output::PIECE {
            self.flush()?;
        }
        if self.pending.capacity() == 0 {
            // Most commands print less than this, and growing to it in small steps costs more.
            self.pending.reserve_exact(2 << 10);
        }
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let mut out = io::stdout().lock();
        let result = out.write_all(&pending).and_then(|()| out.flush());
        self.pending = pending;
        self.pending.clear();
        result
    }
}
