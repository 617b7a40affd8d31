//! Module files of the fixtures.

use lkm_module::elf::Class;
use lkm_module::elf::Endian;
use lkm_module::elf::consts;
use lkm_module::exports::ExportTable;
use lkm_module::exports::KsymtabForm;
use lkm_module::testing::NewExport;
use lkm_module::testing::ObjectBuilder;

use crate::fixture::RELEASE;

/// A module to be built.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    name: &'static str,
    info: Vec<(&'static str, String)>,
    exports: Vec<(&'static str, u32)>,
    imports: Vec<(&'static str, u32)>,
    signature: Option<&'static [u8]>,
    big_endian: bool,
}

impl Module {
    /// A module that needs nothing.
    pub(crate) fn new(name: &'static str) -> Module {
        Module {
            name,
            info: Vec::new(),
            exports: Vec::new(),
            imports: Vec::new(),
            signature: None,
            big_endian: false,
        }
    }

    /// Adds a tag of `.modinfo`; `depends`, `name` and `vermagic` are added behind these.
    pub(crate) fn info(mut self, tag: &'static str, value: &str) -> Module {
        self.info.push((tag, value.to_owned()));
        self
    }

    /// What its `depends` says, separated by commas.
    pub(crate) fn depends(self, names: &str) -> Module {
        self.info("depends", names)
    }

    /// Exports a symbol with a CRC.
    pub(crate) fn exports(mut self, symbol: &'static str, crc: u32) -> Module {
        self.exports.push((symbol, crc));
        self
    }

    /// Needs a symbol with a CRC.
    pub(crate) fn imports(mut self, symbol: &'static str, crc: u32) -> Module {
        self.imports.push((symbol, crc));
        self
    }

    /// Ends with this CMS message as signature.
    pub(crate) fn signed(mut self, message: &'static [u8]) -> Module {
        self.signature = Some(message);
        self
    }

    /// For a 32-bit big-endian machine.
    pub(crate) fn foreign(mut self) -> Module {
        self.big_endian = true;
        self
    }

    /// The file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut object = if self.big_endian {
            ObjectBuilder::new(Class::Elf32, Endian::Big, consts::EM_PPC)
        } else {
            ObjectBuilder::new(Class::Elf64, Endian::Little, consts::EM_X86_64)
        };
        let flags = consts::SHF_ALLOC | consts::SHF_EXECINSTR;
        let text = object.section(".text", consts::SHT_PROGBITS, flags, 16, &[0xc3; 16]);
        let mut info: Vec<(&str, &str)> =
            self.info.iter().map(|(tag, value)| (*tag, value.as_str())).collect();
        let has = |info: &[(&str, &str)], wanted| info.iter().any(|(tag, _)| *tag == wanted);
        if !has(&info, "license") {
            info.insert(0, ("license", "GPL"));
        }
        if !has(&info, "depends") {
            info.push(("depends", ""));
        }
        info.push(("name", self.name));
        let vermagic = format!("{RELEASE} SMP mod_unload modversions ");
        if !has(&info, "vermagic") {
            info.push(("vermagic", &vermagic));
        }
        object.modinfo(&info);
        let init = object.global("init_module", text, 0);
        object.this_module(self.name, 0x380, Some((0x138, init)), None);
        if !self.imports.is_empty() {
            object.versions(&self.imports);
        }
        for (symbol, _) in &self.imports {
            object.undefined(symbol);
        }
        for (symbol, crc) in &self.exports {
            object.absolute(&format!("__crc_{symbol}"), u64::from(*crc));
        }
        let exports: Vec<NewExport<'_>> = self
            .exports
            .iter()
            .map(|(name, crc)| NewExport { name, namespace: "", symbol: init, crc: Some(*crc) })
            .collect();
        if !exports.is_empty() {
            object.exports(ExportTable::Plain, KsymtabForm { relative: true, namespace: true }, &exports);
        }
        let mut file = object.finish();
        if let Some(message) = self.signature {
            // The trailer: no algorithm and no key of its own, PKCS#7, the length, the marker.
            file.extend(message);
            file.extend([0, 0, 2, 0, 0, 0, 0, 0]);
            file.extend((message.len() as u32).to_be_bytes());
            file.extend(b"~Module signature appended~\n");
        }
        file
    }
}

/// A zstd frame without the size of its contents, as a pipe makes it; the contents are stored as they are.
pub(crate) fn zstd_without_size(bytes: &[u8]) -> Vec<u8> {
    // Magic; neither size nor checksum, a window follows; a window of 1 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3];
    const BLOCK: usize = 0x1_0000;
    let count = bytes.len().div_ceil(BLOCK).max(1);
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        let header = (block.len() as u32) << 3 | u32::from(number + 1 == count);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(block);
    }
    frame
}

/// A gzip member; the contents are stored as they are.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let count = bytes.len().div_ceil(0xffff).max(1);
    for (number, block) in bytes.chunks(0xffff).enumerate() {
        let len = block.len() as u16;
        member.push(u8::from(number + 1 == count));
        member.extend(len.to_le_bytes());
        member.extend((!len).to_le_bytes());
        member.extend(block);
    }
    let crc = !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    member.extend(crc.to_le_bytes());
    member.extend((bytes.len() as u32).to_le_bytes());
    member
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_by_the_usual_programs() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
        for (program, packed) in [("gzip", gzip(&bytes)), ("zstd", zstd_without_size(&bytes))] {
            let mut child = Command::new(program)
                .args(["-d", "-c"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}"));
            let mut input = child.stdin.take().unwrap();
            let writer = std::thread::spawn(move || input.write_all(&packed));
            let output = child.wait_with_output().unwrap();
            writer.join().unwrap().unwrap();
            assert!(output.status.success() && output.stdout == bytes, "{program}");
        }
    }
}
