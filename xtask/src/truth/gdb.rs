//! A client of QEMU's gdb stub: the few packets that stopping a kernel and reading its registers take.

use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Result;

/// Bytes of memory in one packet; QEMU takes packets of 4096 characters.
const CHUNK: usize = 1024;

/// A connection to the stub. The machine stands still whenever no [`Gdb::resume`] is under way.
#[derive(Debug)]
pub(crate) struct Gdb {
    stream: UnixStream,
    /// Bytes received and not looked at.
    input: Vec<u8>,
}

impl Gdb {
    /// Takes over a connection; the machine must be stopped.
    pub(crate) fn new(stream: UnixStream) -> Result<Gdb> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut gdb = Gdb { stream, input: Vec::new() };
        // Without this the stub does not offer single registers.
        gdb.request("qSupported:xmlRegisters=i386,arm")?;
        gdb.request("qXfer:features:read:target.xml:0,ffb")?;
        Ok(gdb)
    }

    /// Stops the machine whenever it comes to a virtual address, in whatever address space. The stub keeps the
    /// breakpoint outside the guest's memory.
    pub(crate) fn set_breakpoint(&mut self, address: u64) -> Result<()> {
        self.ok(&format!("Z1,{address:x},4"))
    }

    /// Takes a breakpoint away.
    pub(crate) fn clear_breakpoint(&mut self, address: u64) -> Result<()> {
        self.ok(&format!("z1,{address:x},4"))
    }

    /// Runs the machine until its next stop, or for as long as `limit`.
    pub(crate) fn resume(&mut self, limit: Duration) -> Result<()> {
        self.send("c")?;
        self.stream.set_read_timeout(Some(limit))?;
        let stop = self.receive();
        self.stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        match stop {
            Ok(stop) if stop.starts_with('T') || stop.starts_with('S') => Ok(()),
            Ok(stop) => Err(format!("the machine ended with {stop:?} instead of a stop").into()),
            Err(error) => Err(format!("no stop within {} s: {error}", limit.as_secs()).into()),
        }
    }

    /// A register by its number in gdb's order, little endian.
    pub(crate) fn register(&mut self, number: u32) -> Result<u64> {
        let bytes = self.hex(&format!("p{number:x}"))?;
        Ok(bytes.iter().take(8).rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// Sets a register of `size` bytes.
    pub(crate) fn set_register(&mut self, number: u32, value: u64, size: usize) -> Result<()> {
        let value = to_hex(value.to_le_bytes().get(..size).unwrap_or_default());
        self.ok(&format!("P{number:x}={value}"))
    }

    /// Reads memory at a virtual address of the current address space and mode.
    pub(crate) fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let mut at = address;
        for chunk in bytes.chunks_mut(CHUNK) {
            let got = self.hex(&format!("m{at:x},{:x}", chunk.len()))?;
            if got.len() != chunk.len() {
                return Err(format!("{} of {} bytes at {at:#x}", got.len(), chunk.len()).into());
            }
            chunk.copy_from_slice(&got);
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Writes memory.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let mut at = address;
        for chunk in bytes.chunks(CHUNK) {
            self.ok(&format!("M{at:x},{:x}:{}", chunk.len(), to_hex(chunk)))?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    fn ok(&mut self, packet: &str) -> Result<()> {
        match self.request(packet)?.as_str() {
            "OK" => Ok(()),
            answer => {
                let command: String = packet.chars().take(40).collect();
                Err(format!("the stub answers {answer:?} to {command}").into())
            }
        }
    }

    fn hex(&mut self, packet: &str) -> Result<Vec<u8>> {
        let answer = self.request(packet)?;
        from_hex(&answer).ok_or_else(|| format!("the stub answers {answer:?} to {packet}").into())
    }

    fn request(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        self.receive()
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        self.stream.write_all(format!("${packet}#{sum:02x}").as_bytes())?;
        Ok(())
    }

    /// The next packet. The transport is reliable: its checksum needs no test.
    fn receive(&mut self) -> Result<String> {
        loop {
            let start = self.input.iter().position(|&byte| byte == b'$');
            let end = self.input.iter().position(|&byte| byte == b'#');
            if let (Some(start), Some(end)) = (start, end)
                && self.input.len() >= end + 3
            {
                let packet =
                    String::from_utf8_lossy(self.input.get(start + 1..end).unwrap_or_default()).into_owned();
                self.input.drain(..end + 3);
                self.stream.write_all(b"+")?;
                return Ok(packet);
            }
            let mut buffer = [0; 8192];
            match self.stream.read(&mut buffer)? {
                0 => return Err("QEMU is gone".into()),
                count => self.input.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::Gdb;

    #[test]
    fn packets_carry_their_checksum_and_answers_are_taken_apart() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stub = std::thread::spawn(move || {
            let mut said = Vec::new();
            let mut answers = ["+$PacketSize=1000#00", "+$l<target/>#00", "+$efbe0000#00"].into_iter();
            let mut buffer = [0; 256];
            while let Ok(count @ 1..) = theirs.read(&mut buffer) {
                said.extend_from_slice(&buffer[..count]);
                if buffer[..count].contains(&b'#') {
                    theirs.write_all(answers.next().unwrap().as_bytes()).unwrap();
                }
            }
            String::from_utf8(said).unwrap()
        });
        let mut gdb = Gdb::new(ours).unwrap();
        assert_eq!(gdb.register(15).unwrap(), 0xbeef);
        drop(gdb);
        assert!(stub.join().unwrap().contains("$pf#d6"), "'p' + 'f' = 0xd6");
    }
}
