//! What the flags of `finit_module` do, done to the bytes for `init_module`, which has no flags.

use lkm_module::Module;
use lkm_module::elf::Class;
use lkm_syscall::InitFlags;

/// `SHF_ALLOC`.
const ALLOC: u8 = 2;

/// Hides the symbol versions or the version magic from the kernel. What is no module stays as it is: the kernel says
/// what it is.
pub(super) fn strip(image: &mut [u8], flags: InitFlags) {
    if flags.contains(InitFlags::IGNORE_MODVERSIONS)
        && let Some(at) = flags_of_versions(image)
        && let Some(byte) = image.get_mut(at)
    {
        // A section that is not loaded does not exist for the kernel.
        *byte &= !ALLOC;
    }
    if flags.contains(InitFlags::IGNORE_VERMAGIC)
        && let Some((start, length)) = vermagic(image)
        && let Some(string) = image.get_mut(start..start + length)
    {
        string.fill(0);
    }
}

/// Offset of the byte with `SHF_ALLOC` in the section header of `__versions`.
fn flags_of_versions(image: &[u8]) -> Option<usize> {
    let module = Module::parse(image).ok()?;
    let elf = module.elf();
    let index = elf.find_any_sec(b"__versions")?;
    let header =
        usize::try_from(elf.header.shoff).ok()?.checked_add(index * elf.class.section_header_size())?;
    let width = match elf.class {
        Class::Elf32 => 4,
        Class::Elf64 => 8,
    };
    let little = elf.endian.u16(&[1, 0]) == 1;
    header.checked_add(8 + if little { 0 } else { width - 1 })
}

/// Offset and length of `vermagic=...` in `.modinfo`.
fn vermagic(image: &[u8]) -> Option<(usize, usize)> {
    let module = Module::parse(image).ok()?;
    let elf = module.elf();
    let section = elf.sections.get(elf.find_any_sec(b".modinfo")?)?;
    let start = usize::try_from(section.offset).ok()?;
    let bytes = elf.contents(section)?;
    let mut at = 0;
    for string in bytes.split(|&byte| byte == 0) {
        if string.starts_with(b"vermagic=") {
            return Some((start.checked_add(at)?, string.len()));
        }
        at += string.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_vermagic_vanish_and_nothing_else() {
        for arch in ["x86_64", "arm"] {
            let path = format!("{}/../../fixtures/{arch}/hello.ko", env!("CARGO_MANIFEST_DIR"));
            let original = std::fs::read(path).unwrap();
            let mut image = original.clone();
            strip(&mut image, InitFlags::empty());
            assert_eq!(image, original);
            strip(&mut image, InitFlags::IGNORE_MODVERSIONS);
            let changed = image.iter().zip(&original).filter(|(new, old)| new != old).count();
            assert_eq!(changed, 1, "{arch}");
            let module = Module::parse(&image).unwrap();
            assert!(module.elf().find_sec(b"__versions").is_none());
            assert!(module.elf().find_any_sec(b"__versions").is_some());
            assert!(module.vermagic().is_some());
            strip(&mut image, InitFlags::IGNORE_VERMAGIC);
            let module = Module::parse(&image).unwrap();
            assert_eq!(module.vermagic(), None);
            let before = Module::parse(&original).unwrap();
            let others = before.modinfo().strings().filter(|string| !string.starts_with(b"vermagic="));
            assert!(module.modinfo().strings().eq(others));
        }
    }

    #[test]
    fn anything_else_stays_as_it_is() {
        for length in 0..80 {
            let mut image = b"\x7fELF\x02\x01\x01".repeat(12);
            image.truncate(length);
            let before = image.clone();
            strip(&mut image, InitFlags::all());
            assert_eq!(image, before);
        }
    }
}
