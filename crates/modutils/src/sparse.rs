//! A module file of which only what `modinfo` looks at is read: headers, section names, `.modinfo`, the signature.
//!
//! The rest of a plain file is zeros that cost neither reading nor memory: the bytes are asked from the system as a
//! whole, and it provides those pages that are written to.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lkm_module::Errno;
use lkm_module::elf::Elf;
use lkm_module::elf::ElfError;
use lkm_module::elf::SectionHeader;
use lkm_module::modinfo::Modinfo;
use lkm_module::signature::MARKER;
use lkm_module::signature::SignerInfo;
use lkm_module::signature::TRAILER_SIZE;
use lkm_module::signature::appended_signature;
use lkm_tree::compress::Compression;
use lkm_tree::compress::Damage;
use lkm_tree::compress::DecompressError;
use lkm_tree::compress::decompress_partly_until;
use lkm_tree::file::LIMIT;

/// Bytes of the longest ELF header.
const HEADER: usize = 64;

/// A module file, partly read.
pub(crate) struct Source {
    image: Vec<u8>,
    /// What the rest of the image is read from; `None` if nothing is missing.
    file: Option<File>,
}

impl Source {
    /// Opens a file; reads all of it only if it is compressed. Where the signature at its end is not wanted, it is
    /// unpacked no further than to where its sections are known. Errors are those of kmod's library.
    pub(crate) fn open(path: &Path, with_signature: bool) -> Result<Source, Errno> {
        let mut file = File::open(path).map_err(errno)?;
        let size = file.metadata().map_err(errno)?.len();
        if size > LIMIT {
            return Err(Errno::EFBIG);
        }
        let mut start = Vec::with_capacity(HEADER);
        (&mut file).take(HEADER as u64).read_to_end(&mut start).map_err(errno)?;
        // Six bytes are the longest magic number: with fewer a file is nothing.
        if start.len() < 6 {
            return Err(Errno::EINVAL);
        }
        if Compression::of(&start) != Compression::None {
            file.take(LIMIT).read_to_end(&mut start).map_err(errno)?;
            let enough = |image: &[u8]| !with_signature && modinfo(image).is_ok();
            return match decompress_partly_until(&start, LIMIT, enough) {
                // kmod takes what is there for all that there is.
                (image, None | Some(DecompressError::Damaged(Compression::Zstd, Damage::CutShort))) => {
                    Ok(Source { image, file: None })
                }
                (_, Some(error)) => Err(error.errno()),
            };
        }
        let mut image = vec![0; usize::try_from(size).unwrap_or(0).max(start.len())];
        image[..start.len()].copy_from_slice(&start);
        Ok(Source { image, file: Some(file) })
    }

    /// Reads the part with `.modinfo`.
    pub(crate) fn read_modinfo(&mut self) -> Result<(), Errno> {
        self.fill(|image| {
            let header = Elf::parse(image).ok()?.header;
            let length = usize::from(header.shentsize) * usize::from(header.shnum);
            range(header.shoff, length as u64)
        })?;
        self.fill(|image| {
            let elf = Elf::parse(image).ok()?;
            extent(elf.sections.get(usize::from(elf.header.shstrndx))?)
        })?;
        self.fill(|image| {
            let elf = Elf::parse(image).ok()?;
            extent(elf.sections.get(elf.find_any_sec(b".modinfo")?)?)
        })
    }

    /// The strings of `.modinfo`, which were read before.
    pub(crate) fn modinfo(&self) -> Result<Modinfo<'_>, Errno> {
        modinfo(&self.image)
    }

    /// Reads the part with the signature.
    pub(crate) fn read_signature(&mut self) -> Result<(), Errno> {
        let tail = MARKER.len() + TRAILER_SIZE;
        self.fill(|image| Some(image.len().checked_sub(tail)?..image.len()))?;
        self.fill(|image| {
            let (before, trailer) = image.strip_suffix(MARKER)?.split_last_chunk::<TRAILER_SIZE>()?;
            let length = u32::from_be_bytes(*trailer.last_chunk::<4>()?);
            Some(before.len().checked_sub(usize::try_from(length).ok()?)?..before.len())
        })
    }

    /// The signer, if there is a signature and it can be read; the signature was read before.
    pub(crate) fn signer(&self) -> Option<SignerInfo<'_>> {
        appended_signature(&self.image).ok()??.signer().ok()
    }

    /// Reads the bytes of the image that are asked for from the file.
    fn fill(&mut self, wanted: impl Fn(&[u8]) -> Option<Range<usize>>) -> Result<(), Errno> {
        let (Some(file), Some(range)) = (&self.file, wanted(&self.image)) else { return Ok(()) };
        let start = range.start as u64;
        match self.image.get_mut(range) {
            Some(bytes) => file.read_exact_at(bytes, start).map_err(errno),
            // What lies outside the file is an error of who needs it.
            None => Ok(()),
        }
    }
}

fn modinfo(image: &[u8]) -> Result<Modinfo<'_>, Errno> {
    let elf = Elf::parse(image).map_err(|error| match error {
        ElfError::Magic | ElfError::Ident => Errno::ENOEXEC,
        // Not even the identification.
        _ if image.len() < 16 => Errno::ENOEXEC,
        ElfError::Truncated | ElfError::SectionHeaderSize | ElfError::SectionHeaders => Errno::EINVAL,
    })?;
    let index = elf.find_any_sec(b".modinfo").ok_or(Errno::ENOENT)?;
    elf.section_data(index).map(Modinfo::new).ok_or(Errno::EINVAL)
}

fn extent(section: &SectionHeader) -> Option<Range<usize>> {
    range(section.offset, section.size)
}

fn range(start: u64, length: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start).ok()?;
    Some(start..start.checked_add(usize::try_from(length).ok()?)?)
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().and_then(|number| u16::try_from(number).ok()).map_or(Errno::EINVAL, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_partly_read_file_says_what_the_whole_file_says() {
        for name in ["fixtures/x86_64/params.ko", "fixtures/arm/user.ko", "fuzz/corpus/module/signed.ko"] {
            let path = format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"));
            let whole = std::fs::read(&path).unwrap();
            let module = lkm_module::Module::parse(&whole).unwrap();
            let mut source = Source::open(Path::new(&path), true).unwrap();
            source.read_modinfo().unwrap();
            assert_eq!(source.modinfo(), Ok(module.modinfo()));
            source.read_signature().unwrap();
            let signer = module.signature().unwrap().map(|signature| signature.signer().unwrap());
            assert_eq!(source.signer(), signer);
            let unread = source.image.iter().zip(&whole).filter(|(here, there)| here != there).count();
            assert!(unread > 0, "{name} was read whole");
        }
    }
    proptest! {
        #[test]
        fn a_damaged_file_is_read_as_its_bytes_are(
            damage in prop::collection::vec((0.0..1.0f64, any::<u8>()), 0..12),
            in_headers in any::<bool>(),
            cut in 0.0..1.2f64,
        ) {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/module/signed.ko");
            let mut bytes = std::fs::read(path).unwrap();
            let header = Elf::parse(&bytes).unwrap().header;
            let length = bytes.len();
            for (place, byte) in damage {
                let table = length - header.shoff as usize;
                let at = match (in_headers, byte & 1) {
                    (true, 0) => (place * 64.0) as usize,
                    (true, _) => header.shoff as usize + (place * table as f64) as usize,
                    (false, _) => (place * length as f64) as usize,
                };
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            bytes.truncate((cut * length as f64) as usize);
            let damaged = std::env::temp_dir().join(format!("modutils-sparse-{}", std::process::id()));
            std::fs::write(&damaged, &bytes).unwrap();
            let source = Source::open(&damaged, true);
            std::fs::remove_file(&damaged).unwrap();
            let Ok(mut source) = source else { return Ok(()) };
            source.read_modinfo().unwrap();
            let whole = Source { image: bytes, file: None };
            prop_assert_eq!(source.modinfo(), whole.modinfo());
            source.read_signature().unwrap();
            prop_assert_eq!(source.signer(), whole.signer());
        }
    }
}
