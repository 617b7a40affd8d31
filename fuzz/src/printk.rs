//! The kernel's format language.

use std::hint::black_box;

use lkm_link::Arch;
use lkm_machine::printk::Environment;
use lkm_machine::printk::Nested;
use lkm_machine::printk::Output;
use lkm_machine::printk::Source;
use lkm_machine::printk::Structures;
use lkm_machine::printk::Symbol;
use lkm_machine::printk::format;
use lkm_machine::printk::prefix;

/// Bytes of text that are kept, as in a record of the kernel's log.
const RECORD: usize = 1024;
/// Where the memory begins that pointers may lead to.
const MEMORY: u64 = 0x1000;

/// Formats with the bytes: the first tell how long the format is, the rest are arguments and memory.
pub fn printk(data: &[u8]) {
    let Some((&[length, size], rest)) = data.split_first_chunk() else { return };
    let (text, rest) = rest.split_at(usize::from(length).min(rest.len()));
    black_box(prefix(text));
    let environment = Memory { bytes: rest, size: if size & 1 == 0 { 8 } else { 4 } };
    let mut output = Output::new(RECORD);
    format(&mut output, text, &mut Arguments { bytes: rest }, &environment);
    assert!(output.bytes().len() <= RECORD);
    assert!(output.length() >= output.bytes().len());
}

struct Arguments<'a> {
    bytes: &'a [u8],
}

impl Source for Arguments<'_> {
    fn word(&mut self) -> u64 {
        self.double_word()
    }

    fn double_word(&mut self) -> u64 {
        let mut word = [0; 8];
        let taken = self.bytes.len().min(8);
        word[..taken].copy_from_slice(&self.bytes[..taken]);
        self.bytes = &self.bytes[taken..];
        u64::from_le_bytes(word)
    }
}

struct Memory<'a> {
    bytes: &'a [u8],
    size: u8,
}

impl Environment for Memory<'_> {
    fn pointer_size(&self) -> u8 {
        self.size
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let from = address.checked_sub(MEMORY).and_then(|offset| usize::try_from(offset).ok());
        let found = from.and_then(|from| self.bytes.get(from..)?.get(..bytes.len()));
        found.map(|found| bytes.copy_from_slice(found)).is_some()
    }

    fn symbol(&self, address: u64) -> Option<Symbol> {
        let module = (address & 2 != 0).then(|| b"module".to_vec());
        (address & 1 == 0).then(|| Symbol {
            name: b"symbol".to_vec(),
            offset: address & 0xff,
            size: 0x100,
            module,
        })
    }

    fn hash(&self, address: u64) -> u32 {
        address as u32
    }

    fn kptr_restrict(&self) -> u8 {
        0
    }

    fn nested(&self, address: u64) -> Option<Nested<'_>> {
        let from = usize::try_from(address.checked_sub(MEMORY)?).ok()?;
        let bytes = self.bytes.get(from..)?;
        Some(Nested { format: bytes.to_vec(), arguments: Box::new(Arguments { bytes }) })
    }

    fn structures(&self) -> &'static Structures {
        Structures::of(if self.size == 8 { Arch::X86_64 } else { Arch::Arm })
    }

    fn is_device_tree(&self, operations: u64) -> bool {
        operations & 1 == 0
    }
}
