//! Type information of a module (`.BTF`), as far as it can be checked without that of the kernel: header, order of the
//! parts, strings.

use lkm_link::LoadInfo;
use lkm_module::Errno;
use lkm_module::Level;
use lkm_module::Text;
use lkm_module::elf::Endian;

use crate::Host;
use crate::Kernel;
use crate::Reason;
use crate::profile::Btf;

/// Bytes of `struct btf_header`.
const HEADER: usize = 24;
/// Bytes up to the end of its length field.
const MINIMUM: usize = 8;
/// `BTF_MAGIC`
const MAGIC: u16 = 0xeb9f;
/// `BTF_MAX_NAME_OFFSET`
const MAX_NAME_OFFSET: u32 = 0x00ff_ffff;
/// `ENOTSUPP`, an error of the kernel's own.
const ENOTSUPP: Errno = Errno::from_raw(524);

/// What is wrong: the answer, and the words of the kernel's BTF verifier.
type Fault = (Errno, &'static str);

/// `btf_module_notify()` for a module that is coming.
pub(crate) fn btf_module_notify<H: Host>(
    kernel: &Kernel,
    host: &mut H,
    info: &LoadInfo<'_>,
) -> Result<(), Reason> {
    let rule = kernel.profile.config.btf;
    // The section is looked up by its name alone, whatever its flags.
    let section = (1..info.sections.len()).find(|&index| info.section_name(index) == b".BTF");
    let Some(data) = section.map(|index| info.contents(index)).filter(|data| !data.is_empty()) else {
        return Ok(());
    };
    if rule == Btf::Ignored {
        return Ok(());
    }
    let Err((errno, what)) = check(info.elf.endian, data) else { return Ok(()) };
    host.log(Level::Err, format_args!("BPF: {what}"));
    if rule == Btf::MayDifferOnce {
        if kernel.once.first_btf_mismatch() {
            host.log(
                Level::Warning,
                format_args!(
                    "Kernel module BTF mismatch detected, BTF debug info may be unavailable for some modules"
                ),
            );
        }
        return Ok(());
    }
    host.log(
        Level::Warning,
        format_args!("failed to validate module [{}] BTF: -{}", Text(info.module_name), errno.raw()),
    );
    if rule == Btf::MustFit { Err(Reason::Btf { errno }) } else { Ok(()) }
}

/// The first checks of `btf_parse_module()`.
fn check(endian: Endian, data: &[u8]) -> Result<(), Fault> {
    let invalid = |what| (Errno::EINVAL, what);
    let word = |index: usize| data.get(4 * index..4 * index + 4).map_or(0, |bytes| endian.u32(bytes));
    if data.len() < MINIMUM {
        return Err(invalid("hdr_len not found"));
    }
    let length = word(1) as usize;
    if data.len() < length {
        return Err(invalid("btf_header not found"));
    }
    if data.get(HEADER..length).is_some_and(|more| more.iter().any(|&byte| byte != 0)) {
        return Err((Errno::E2BIG, "Unsupported btf_header"));
    }
    // Of a shorter header only that much is taken; the rest counts as 0.
    let field = |index: usize| if 4 * index + 4 <= length { word(index) } else { 0 };
    let (magic, version, flags) = match (data.get(..2), data.get(2), data.get(3)) {
        (Some(magic), Some(&version), Some(&flags)) => (endian.u16(magic), version, flags),
        _ => (0, 0, 0),
    };
    if length < 2 || magic != MAGIC {
        return Err(invalid("Invalid magic"));
    }
    if length < 3 || version != 1 {
        return Err((ENOTSUPP, "Unsupported version"));
    }
    if length >= 4 && flags != 0 {
        return Err((ENOTSUPP, "Unsupported flags"));
    }
    let (types, strings) = ((field(2), field(3)), (field(4), field(5)));
    let room = (data.len() - length) as u64;
    let mut parts = [types, strings];
    parts.sort_unstable_by_key(|part| part.0);
    let mut total = 0u64;
    for (offset, size) in parts.map(|(offset, size)| (u64::from(offset), u64::from(size))) {
        if room < offset {
            return Err(invalid("Invalid section offset"));
        }
        if total < offset {
            return Err(invalid("Unsupported section found"));
        }
        if total > offset {
            return Err(invalid("Section overlap found"));
        }
        if room - total < size {
            return Err(invalid("Total section length too long"));
        }
        total += size;
    }
    if total != room {
        return Err(invalid("Unsupported section found"));
    }
    if u64::from(strings.0) + u64::from(strings.1) != room {
        return Err(invalid("String section is not at the end"));
    }
    if strings.1 > 0 && (strings.1 - 1 > MAX_NAME_OFFSET || data.last() != Some(&0)) {
        return Err(invalid("Invalid string section"));
    }
    if types.0 & 3 != 0 {
        return Err(invalid("Unaligned type_off"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// A header with parts, in words as `include/uapi/linux/btf.h` has them.
    fn btf(words: [u32; 6], rest: &[u8]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).chain(rest.iter().copied()).collect()
    }

    fn says(data: &[u8]) -> &'static str {
        check(Endian::Little, data).map_or_else(|(_, what)| what, |()| "")
    }

    #[test]
    fn good_and_damaged_headers() {
        const FIRST: u32 = 0x0001_eb9f;
        assert_eq!(says(&btf([FIRST, 24, 0, 0, 0, 3], b"\0a\0")), "");
        assert_eq!(says(&btf([FIRST, 24, 0, 4, 4, 3], b"TYPE\0a\0")), "");
        assert_eq!(says(b"\x9f\xeb\x01\0"), "hdr_len not found");
        assert_eq!(says(&btf([FIRST, 25, 0, 0, 0, 0], b"")), "btf_header not found");
        assert_eq!(says(&btf([FIRST, 28, 0, 0, 0, 0], b"\0\0\x01\0")), "Unsupported btf_header");
        assert_eq!(says(&btf([0x0001_eb9e, 24, 0, 0, 0, 0], b"")), "Invalid magic");
        assert_eq!(says(&btf([0x0002_eb9f, 24, 0, 0, 0, 0], b"")), "Unsupported version");
        assert_eq!(says(&btf([0x0101_eb9f, 24, 0, 0, 0, 0], b"")), "Unsupported flags");
        assert_eq!(says(&btf([FIRST, 24, 9, 0, 0, 3], b"\0a\0")), "Invalid section offset");
        assert_eq!(says(&btf([FIRST, 24, 0, 1, 2, 1], b"abc")), "Unsupported section found");
        assert_eq!(says(&btf([FIRST, 24, 0, 3, 2, 1], b"abc")), "Section overlap found");
        assert_eq!(says(&btf([FIRST, 24, 0, 4, 4, 9], b"TYPE\0a\0")), "Total section length too long");
        assert_eq!(says(&btf([FIRST, 24, 0, 4, 4, 2], b"TYPE\0a\0")), "Unsupported section found");
        assert_eq!(says(&btf([FIRST, 24, 4, 4, 0, 4], b"\0ab\0TYPE")), "String section is not at the end");
        assert_eq!(says(&btf([FIRST, 24, 0, 4, 4, 2], b"TYPE\0a")), "Invalid string section");
        assert_eq!(
            check(Endian::Little, &btf([FIRST, 28, 0, 0, 0, 0], b"abcd")),
            Err((Errno::E2BIG, "Unsupported btf_header"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(data in proptest::collection::vec(any::<u8>(), 0..64), good: bool) {
            let mut data = data;
            if good && data.len() >= 8 {
                data[..8].copy_from_slice(&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0]);
            }
            let _ = check(Endian::Little, &data);
            let _ = check(Endian::Big, &data);
        }
    }
}
