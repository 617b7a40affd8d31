//! A client of QEMU's control socket: large reads of guest memory, and the end of the machine.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::Result;

/// A connection to the control socket.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    /// Where QEMU leaves memory that was asked for.
    file: PathBuf,
}

impl Qmp {
    /// Greets QEMU; `file` is a path for its answers that nobody else uses.
    pub(crate) fn new(stream: UnixStream, file: PathBuf) -> Result<Qmp> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut qmp = Qmp { stream: BufReader::new(stream), file };
        qmp.line()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Reads memory at a virtual address as the stopped processor sees it.
    pub(crate) fn read(&mut self, address: u64, size: u64) -> Result<Vec<u8>> {
        let arguments = json!({ "val": address as i64, "size": size, "filename": self.file });
        self.execute("memsave", arguments)?;
        let bytes = std::fs::read(&self.file)?;
        if bytes.len() as u64 != size {
            return Err(format!("{} of {size} bytes at {address:#x}", bytes.len()).into());
        }
        Ok(bytes)
    }

    /// As [`Qmp::read`], with zeros for pages that are not mapped.
    pub(crate) fn read_mapped(&mut self, address: u64, size: u64) -> Result<Vec<u8>> {
        match self.read(address, size) {
            Ok(bytes) => Ok(bytes),
            Err(_) if size <= 4096 => Ok(vec![0; size as usize]),
            Err(_) => {
                let half = (size / 2).next_multiple_of(4096);
                let mut bytes = self.read_mapped(address, half)?;
                bytes.extend(self.read_mapped(address + half, size - half)?);
                Ok(bytes)
            }
        }
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.line()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(format!("QEMU answers to {command}: {error}").into());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("QEMU is gone".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}
