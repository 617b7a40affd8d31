//! Bootable kernels: what a boot loader is given, unpacked to what then runs.
//!
//! `bzImage` (x86), `zImage` (ARM), `Image` (arm64, RISC-V), EFI images that unpack themselves, U-Boot's `uImage`, a
//! packed `vmlinux` or `Image`, and, where none of them is recognised, whatever packed stream inside a file holds a
//! kernel.

use std::borrow::Cow;

use crate::FactsError;
use crate::Machine;
use crate::Source;
use crate::unpack;
use crate::unpack::Packing;

/// A kernel as it lies in memory, or as an ELF file.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// The unpacked bytes.
    pub kernel: Cow<'a, [u8]>,
    /// What the image is for, where its form tells.
    pub machine: Option<Machine>,
    /// The usual name of its form.
    pub form: &'static str,
}

const X86_64: Machine = Machine { machine: 62, bits: 64, big_endian: false };
const X86: Machine = Machine { machine: 3, bits: 32, big_endian: false };
const ARM: Machine = Machine { machine: 40, bits: 32, big_endian: false };
const ARM64: Machine = Machine { machine: 183, bits: 64, big_endian: false };
const RISCV64: Machine = Machine { machine: 243, bits: 64, big_endian: false };

/// How deep images lie in images: a `uImage` of a `zImage` is two.
const DEPTH: usize = 4;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn part(bytes: &[u8], at: u32, length: u32) -> Option<&[u8]> {
    bytes.get(at as usize..)?.get(..length as usize)
}

/// Unpacks an image. `None` if the bytes are none.
pub fn open<'a>(bytes: &'a [u8], source: &Source) -> Result<Option<Image<'a>>, FactsError> {
    open_at(bytes, source, DEPTH)
}

fn open_at<'a>(bytes: &'a [u8], source: &Source, depth: usize) -> Result<Option<Image<'a>>, FactsError> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
    if let Some(machine) = Machine::of_elf(bytes) {
        return Ok(Some(Image { kernel: Cow::Borrowed(bytes), machine: Some(machine), form: "vmlinux" }));
    }
    if let Some((payload, machine, form)) = payload(bytes) {
        let payload = payload.ok_or_else(|| {
            FactsError::damaged(source, format_args!("the {form} is cut: its packed kernel is not all there"))
        })?;
        let kernel = unpack::unpack(payload).map_err(|error| {
            FactsError::damaged(source, format_args!("the kernel inside the {form}: {error}"))
        })?;
        let machine = machine.or_else(|| raw_machine(&kernel)).or_else(|| Machine::of_elf(&kernel));
        return Ok(Some(Image { kernel: Cow::Owned(kernel), machine, form }));
    }
    if let Some(machine) = raw_machine(bytes) {
        return Ok(Some(Image { kernel: Cow::Borrowed(bytes), machine: Some(machine), form: "Image" }));
    }
    if bytes.starts_with(&[0x27, 0x05, 0x19, 0x56]) {
        let inner = open_at(bytes.get(64..).unwrap_or_default(), source, depth)?;
        return Ok(inner.map(|inner| Image { form: "uImage", ..inner }));
    }
    if Packing::of(bytes).is_some() {
        // Packed text, such as a list of symbols, is no damaged image.
        let Ok(kernel) = unpack::unpack(bytes) else { return Ok(None) };
        let inner = open_at(&kernel, source, depth)?;
        return Ok(inner.map(|inner| {
            let (machine, form) = (inner.machine, inner.form);
            Image { kernel: Cow::Owned(inner.kernel.into_owned()), machine, form }
        }));
    }
    Ok(search(bytes))
}

/// The packed kernel of an image that says where it lies; inside, `None` if it does not lie in the file.
type Payload<'a> = (Option<&'a [u8]>, Option<Machine>, &'static str);

fn payload(bytes: &[u8]) -> Option<Payload<'_>> {
    if bytes.get(0x202..0x206) == Some(b"HdrS") {
        // Documentation/arch/x86/boot.rst: setup_sects, xloadflags bit 0, payload_offset and payload_length.
        let sectors = match *bytes.get(0x1f1)? {
            0 => 4,
            sectors => u32::from(sectors),
        };
        let machine = if word(bytes, 0x236)? & 1 == 1 { X86_64 } else { X86 };
        let offset = word(bytes, 0x248)?.checked_add((sectors + 1) * 512);
        let payload = offset.and_then(|offset| part(bytes, offset, word(bytes, 0x24c)?));
        return Some((payload, Some(machine), "bzImage"));
    }
    if bytes.starts_with(b"MZ") && bytes.get(4..8) == Some(b"zimg") {
        return Some((part(bytes, word(bytes, 8)?, word(bytes, 12)?), None, "EFI zboot image"));
    }
    if word(bytes, 0x24) == Some(0x016f_2818) {
        // The header tells where the image starts and ends; the packed kernel is the first stream inside that unpacks.
        let body = bytes.get(0x40..)?;
        let payload = Packing::anywhere(body).filter_map(|at| body.get(at..)).find(|rest| is_kernel(rest));
        return Some((payload, Some(ARM), "zImage"));
    }
    None
}

fn is_kernel(packed: &[u8]) -> bool {
    unpack::unpack(packed).is_ok_and(|kernel| crate::vmlinux::banner(&kernel).is_some())
}

/// The machine of an image that is not packed.
fn raw_machine(bytes: &[u8]) -> Option<Machine> {
    match bytes.get(0x38..0x3c)? {
        b"ARM\x64" => Some(ARM64),
        b"RSC\x05" => Some(RISCV64),
        _ => None,
    }
}

/// A kernel in whatever form: the first packed stream in it that holds one, or the bytes themselves.
fn search(bytes: &[u8]) -> Option<Image<'_>> {
    // Text and small files cost nothing to rule out.
    if bytes.len() < 1 << 16 {
        return None;
    }
    let streams = Packing::anywhere(bytes).filter_map(|at| bytes.get(at..)).take(64);
    for kernel in streams.filter_map(|rest| unpack::unpack(rest).ok()) {
        if crate::vmlinux::banner(&kernel).is_some() {
            let machine = Machine::of_elf(&kernel).or_else(|| raw_machine(&kernel));
            return Some(Image { kernel: Cow::Owned(kernel), machine, form: "packed kernel" });
        }
    }
    crate::vmlinux::banner(bytes).map(|_| Image {
        kernel: Cow::Borrowed(bytes),
        machine: None,
        form: "raw kernel",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        packed.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
        packed.extend([0; 8]);
        packed
    }

    fn open(bytes: &[u8]) -> Result<Option<Image<'_>>, FactsError> {
        super::open(bytes, &Source::new("k"))
    }

    const KERNEL: &[u8] = b"....Linux version 6.1.0-test (builder@host) #1 SMP\n....";

    #[test]
    fn a_bzimage_says_where_its_kernel_lies() {
        let packed = gzip(KERNEL);
        let mut image = vec![0; 0x400];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x236] = 1;
        image[0x248] = 16;
        image[0x24c..0x250].copy_from_slice(&(packed.len() as u32).to_le_bytes());
        image.extend([0; 16]);
        image.extend(&packed);
        let opened = open(&image).unwrap().unwrap();
        assert_eq!((&*opened.kernel, opened.machine, opened.form), (KERNEL, Some(X86_64), "bzImage"));
        image.truncate(image.len() - 1);
        assert!(open(&image).unwrap_err().to_string().contains("the bzImage is cut"));
    }

    #[test]
    fn a_zimage_and_wrappings_of_it() {
        let mut zimage = vec![0; 0x40];
        zimage[0x24..0x28].copy_from_slice(&0x016f_2818u32.to_le_bytes());
        zimage.extend([0x1f, 0x8b, 8, 0, 9, 9]);
        zimage.extend(gzip(KERNEL));
        let opened = open(&zimage).unwrap().unwrap();
        assert_eq!((&*opened.kernel, opened.machine, opened.form), (KERNEL, Some(ARM), "zImage"));
        let mut uimage = vec![0; 64];
        uimage[..4].copy_from_slice(&[0x27, 0x05, 0x19, 0x56]);
        uimage.extend(&zimage);
        assert_eq!(open(&uimage).unwrap().unwrap().form, "uImage");
        let packed = gzip(&zimage);
        assert_eq!(&*open(&packed).unwrap().unwrap().kernel, KERNEL);
    }

    #[test]
    fn raw_images_and_what_is_none() {
        let mut raw = vec![0; 0x40];
        raw[0x38..0x3c].copy_from_slice(b"ARM\x64");
        assert_eq!(open(&raw).unwrap().unwrap().machine, Some(ARM64));
        let packed = gzip(b"just text");
        for none in [&b""[..], b"text", &[0; 100_000], &packed] {
            assert!(open(none).unwrap().is_none());
        }
        let mut other = vec![7; 100_000];
        other.extend(gzip(KERNEL));
        assert_eq!(&*open(&other).unwrap().unwrap().kernel, KERNEL);
    }

    proptest! {
        #[test]
        fn damaged_images_never_panic(at in 0usize..0x440, value: u8, end in 0usize..0x500) {
            let mut image = vec![0; 0x400];
            image[0x1f1] = 1;
            image[0x202..0x206].copy_from_slice(b"HdrS");
            image.extend(gzip(KERNEL));
            if let Some(byte) = image.get_mut(at) {
                *byte = value;
            }
            image.truncate(end);
            let _ = open(&image);
        }
    }
}
