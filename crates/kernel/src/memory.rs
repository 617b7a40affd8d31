//! Kernel memory read and written in the kernel's word size, through the host.

use alloc::vec::Vec;

use lkm_link::Arch;
use lkm_module::elf::Class;
use lkm_module::elf::Endian;

use crate::Fault;
use crate::Host;

/// Longest text in a log line, in bytes.
const LOG_TEXT_MAX: usize = 1000;

/// Word size and byte order of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) class: Class,
    pub(crate) endian: Endian,
}

impl Words {
    pub(crate) const fn of(arch: Arch) -> Words {
        Words { class: arch.class(), endian: Endian::Little }
    }

    /// Bytes in a pointer.
    pub(crate) const fn size(self) -> u64 {
        self.class.pointer_size() as u64
    }

    pub(crate) fn read_pointer<H: Host>(self, host: &mut H, address: u64) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..self.class.pointer_size()).unwrap_or(&mut []);
        host.read(address, bytes)?;
        Ok(self.class.pointer(self.endian, bytes))
    }

    pub(crate) fn write_pointer<H: Host>(self, host: &mut H, address: u64, value: u64) -> Result<(), Fault> {
        match self.class {
            Class::Elf32 => host.write(address, &self.endian.u32_bytes(value as u32)),
            Class::Elf64 => host.write(address, &self.endian.u64_bytes(value)),
        }
    }

    pub(crate) fn read_u32<H: Host>(self, host: &mut H, address: u64) -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        host.read(address, &mut bytes)?;
        Ok(self.endian.u32(&bytes))
    }

    pub(crate) fn write_u32<H: Host>(self, host: &mut H, address: u64, value: u32) -> Result<(), Fault> {
        host.write(address, &self.endian.u32_bytes(value))
    }
}

/// The part of a text that is worth a log line: a record of the kernel's log holds no more. Hostile files have names
/// of megabytes, and many symbols of one name.
pub(crate) fn shown(text: &[u8]) -> &[u8] {
    text.get(..LOG_TEXT_MAX).unwrap_or(text)
}

/// Reads a string up to its NUL, at most `limit` bytes of it.
pub(crate) fn read_string<H: Host>(host: &mut H, address: u64, limit: usize) -> Result<Vec<u8>, Fault> {
    let mut string = Vec::new();
    let mut at = address;
    while string.len() < limit {
        // A read never crosses into the next 64 bytes, so that a string at the end of a page is read whole.
        let mut chunk = [0; 64];
        let size = 64 - (at % 64) as usize;
        let chunk = chunk.get_mut(..size).unwrap_or(&mut []);
        let whole = host.read(at, chunk).is_ok();
        let chunk = if whole {
            chunk
        } else {
            let chunk = chunk.get_mut(..1).unwrap_or(&mut []);
            host.read(at, chunk)?;
            chunk
        };
        if let Some(end) = chunk.iter().position(|&byte| byte == 0) {
            string.extend_from_slice(chunk.get(..end).unwrap_or(&[]));
            break;
        }
        string.extend_from_slice(chunk);
        at = at.wrapping_add(chunk.len() as u64);
    }
    string.truncate(limit);
    Ok(string)
}
