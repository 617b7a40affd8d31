//! Decompression of modules inside the kernel, with the status numbers of the kernel's own decoders.
//!
//! These are not as strict as the tools: they stop at the end of the first stream, whatever follows; gzip's check sum is not
//! looked at; a zstd frame that is cut short gives the blocks that are there.

use std::io::ErrorKind;
use std::io::Read;

use lkm_kernel::DecompressFault;
use lkm_kernel::profile::Decompress;

/// Bytes that a module may have, and that a decoder may use for its window.
const LIMIT: u64 = 256 << 20;

/// zlib: the stream is no deflate stream.
const Z_DATA_ERROR: i32 = -3;
/// zlib: it ends early.
const Z_BUF_ERROR: i32 = -5;
/// xz: it ends early. The decoder sees nothing wrong, but no end either.
const XZ_OK: i32 = 0;
/// xz: its dictionary is larger than memory.
const XZ_MEM_ERROR: i32 = 3;
/// xz: flags, filters or check sums that the kernel's decoder does not have; of check sums it has CRC32 alone.
const XZ_OPTIONS_ERROR: i32 = 6;
/// xz: it is damaged.
const XZ_DATA_ERROR: i32 = 7;
/// zstd: it is damaged.
const ZSTD_CORRUPTION: i32 = 20;
/// zstd: what came out has another check sum.
const ZSTD_CHECKSUM_WRONG: i32 = 22;
/// zstd: it wants a dictionary.
const ZSTD_DICTIONARY_WRONG: i32 = 32;

/// Decompresses a stream; of gzip, what follows the header.
pub(crate) fn decompress(format: Decompress, stream: &[u8]) -> Result<Vec<u8>, DecompressFault> {
    let status = |status| DecompressFault::Stream(format, status);
    match format {
        Decompress::Gzip => inflate(stream).map_err(|fault| fault.map_or(DecompressFault::NoMemory, status)),
        Decompress::Xz => xz(stream).map_err(|fault| fault.map_or(DecompressFault::NoMemory, status)),
        Decompress::Zstd => zstd(stream).map_err(|fault| fault.map_or(DecompressFault::NoMemory, status)),
    }
}

/// A decoder's status; `None`: memory is not enough for what comes out.
type Status = Option<i32>;

fn inflate(stream: &[u8]) -> Result<Vec<u8>, Status> {
    use miniz_oxide::inflate::TINFLStatus;
    let limit = usize::try_from(LIMIT).unwrap_or(usize::MAX);
    miniz_oxide::inflate::decompress_to_vec_with_limit(stream, limit).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => None,
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => Some(Z_BUF_ERROR),
        _ => Some(Z_DATA_ERROR),
    })
}

fn xz(stream: &[u8]) -> Result<Vec<u8>, Status> {
    // Magic, flags of which the last four bits name the check sum, CRC32 of the flags.
    const CHECK: usize = 7;
    const CRC32: u8 = 1;
    let limit = u32::try_from(LIMIT / 1024).unwrap_or(u32::MAX);
    let reader = lzma_rust2::XzReader::new_mem_limit(stream, false, limit);
    let mut unpacked = Vec::new();
    let read = reader.take(LIMIT + 1).read_to_end(&mut unpacked);
    let header_is_whole = stream.len() >= 12;
    match read {
        Err(error) if unpacked.is_empty() && error.kind() == ErrorKind::InvalidData => {
            Err(Some(XZ_DATA_ERROR))
        }
        _ if header_is_whole && stream.get(CHECK).is_some_and(|&check| check > CRC32) => {
            Err(Some(XZ_OPTIONS_ERROR))
        }
        Err(error) => Err(Some(match error.kind() {
            ErrorKind::UnexpectedEof => XZ_OK,
            ErrorKind::Unsupported | ErrorKind::InvalidInput => XZ_OPTIONS_ERROR,
            ErrorKind::OutOfMemory => XZ_MEM_ERROR,
            _ => XZ_DATA_ERROR,
        })),
        Ok(_) if unpacked.len() as u64 > LIMIT => Err(None),
        Ok(_) => Ok(unpacked),
    }
}

/// The first frame of a zstd file (RFC 8878, 3.1.1).
struct Frame {
    /// Its header and its whole blocks, the last of which says so; without check sum.
    bytes: Vec<u8>,
    /// There is at least one whole block.
    any: bool,
    /// What stands behind the blocks, if the header promises a check sum and all of it is there.
    checksum: Option<u32>,
}

impl Frame {
    const CHECKSUM_FLAG: u8 = 4;

    /// Takes the frame apart, up to where it ends or is cut short.
    fn read(stream: &[u8]) -> Option<Frame> {
        let descriptor = *stream.get(4)?;
        let single_segment = descriptor & 0x20 != 0;
        let size = match (descriptor >> 6, single_segment) {
            (0, false) => 0,
            (0, true) => 1,
            (1, _) => 2,
            (2, _) => 4,
            _ => 8,
        };
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let mut at = 5 + usize::from(!single_segment) + dictionary + size;
        let mut last = None;
        let mut ended = false;
        while let Some(&[a, b, c]) = stream.get(at..at + 3) {
            let header = u32::from_le_bytes([a, b, c, 0]);
            // A block of the second type is one byte many times.
            let length = if header >> 1 & 3 == 1 { 1 } else { (header >> 3) as usize };
            if stream.len() - at - 3 < length {
                break;
            }
            last = Some(at);
            at += 3 + length;
            ended = header & 1 != 0;
            if ended {
                break;
            }
        }
        let mut bytes = stream.get(..at.min(stream.len()))?.to_vec();
        if let Some(byte) = bytes.get_mut(4) {
            *byte &= !Frame::CHECKSUM_FLAG;
        }
        if let Some(byte) = last.and_then(|last| bytes.get_mut(last)) {
            *byte |= 1;
        }
        let checksum = stream.get(at..at + 4).filter(|_| ended && descriptor & Frame::CHECKSUM_FLAG != 0);
        let checksum = checksum.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        Some(Frame { bytes, any: last.is_some(), checksum })
    }
}

fn zstd(stream: &[u8]) -> Result<Vec<u8>, Status> {
    use ruzstd::decoding::FrameDecoder;
    use ruzstd::decoding::StreamingDecoder;
    use ruzstd::decoding::errors::FrameDecoderError;
    let frame = Frame::read(stream).ok_or(Some(ZSTD_CORRUPTION))?;
    if !frame.any {
        return Ok(Vec::new());
    }
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(LIMIT);
    let reader =
        StreamingDecoder::new_with_decoder(frame.bytes.as_slice(), decoder).map_err(|error| match error {
            FrameDecoderError::WindowSizeTooBig { .. } => None,
            FrameDecoderError::DictNotProvided { .. } => Some(ZSTD_DICTIONARY_WRONG),
            _ => Some(ZSTD_CORRUPTION),
        })?;
    let mut unpacked = Vec::new();
    reader.take(LIMIT + 1).read_to_end(&mut unpacked).map_err(|_| Some(ZSTD_CORRUPTION))?;
    if unpacked.len() as u64 > LIMIT {
        return Err(None);
    }
    if frame.checksum.is_some_and(|checksum| checksum != xxh64(&unpacked) as u32) {
        return Err(Some(ZSTD_CHECKSUM_WRONG));
    }
    Ok(unpacked)
}

/// XXH64 with seed 0, of which a frame's check sum is the lower half.
fn xxh64(bytes: &[u8]) -> u64 {
    const P1: u64 = 0x9e37_79b1_85eb_ca87;
    const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
    const P3: u64 = 0x1656_67b1_9e37_79f9;
    const P4: u64 = 0x85eb_ca77_c2b2_ae63;
    const P5: u64 = 0x27d4_eb2f_1656_67c5;
    let round =
        |lane: u64, input: u64| lane.wrapping_add(input.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1);
    let (stripes, mut rest) = bytes.as_chunks::<32>();
    let mut hash = P5;
    if !stripes.is_empty() {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, 0_u64.wrapping_sub(P1)];
        for stripe in stripes {
            for (lane, input) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*input));
            }
        }
        let [a, b, c, d] = lanes;
        hash = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
        for lane in lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
        }
    }
    hash = hash.wrapping_add(bytes.len() as u64);
    while let Some((input, more)) = rest.split_first_chunk::<8>() {
        hash ^= round(0, u64::from_le_bytes(*input));
        hash = hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = more;
    }
    if let Some((input, more)) = rest.split_first_chunk::<4>() {
        hash ^= u64::from(u32::from_le_bytes(*input)).wrapping_mul(P1);
        hash = hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = more;
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(P2);
    hash = (hash ^ hash >> 29).wrapping_mul(P3);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;

    use lkm_kernel::COMPRESSED_FILE;
    use lkm_kernel::FileFacts;
    use lkm_kernel::Kernel;
    use lkm_kernel::Profile;
    use lkm_link::Arch;
    use proptest::prelude::*;

    use super::*;
    use crate::Config;
    use crate::Machine;

    /// What the real tool makes of `bytes`.
    fn packed(command: &str, bytes: &[u8]) -> Vec<u8> {
        let mut words = command.split(' ');
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command} is needed: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        let input = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    /// A kernel with this format takes a file: how `finit_module` ends, and what is logged of it.
    fn load(format: Decompress, file: &[u8]) -> (i64, String) {
        let mut profile = Profile::by_name("linux-6.12-x86_64").unwrap();
        profile.config.decompress = Some(format);
        let mut kernel = Kernel::new(profile);
        let mut machine = Machine::new(Config::new(Arch::X86_64)).unwrap();
        let facts = FileFacts::regular(file.len() as u64);
        let result =
            lkm_kernel::finit_module(&mut kernel, &mut machine, &facts, file, Some(b""), COMPRESSED_FILE);
        let log = machine.log_lines().iter().map(|line| line.text.clone()).collect::<Vec<_>>().join("|");
        (result.map_or_else(|error| error.returned(), |_| 0), log)
    }

    /// Blocks of 128 KiB, so that a file cut short has whole ones.
    fn sample() -> Vec<u8> {
        (0u32..150_000).flat_map(|n| (n.wrapping_mul(n) / 7).to_le_bytes()).collect()
    }

    #[test]
    fn what_the_real_tools_pack_is_unpacked() {
        let plain = sample();
        for (format, command, header) in [
            (Decompress::Gzip, "gzip -nc", 10),
            (Decompress::Gzip, "gzip -n9c", 10),
            (Decompress::Xz, "xz -c --check=crc32", 0),
            (Decompress::Xz, "xz -c --check=none", 0),
            (Decompress::Xz, "xz -c --check=crc32 --x86 --lzma2", 0),
            (Decompress::Zstd, "zstd -qc", 0),
            (Decompress::Zstd, "zstd -qc --no-check", 0),
            (Decompress::Zstd, "zstd -qc -19", 0),
        ] {
            let mut file = packed(command, &plain).split_off(header);
            assert!(decompress(format, &file).unwrap() == plain, "{command}");
            // What follows does not count.
            file.extend(b"more");
            assert!(decompress(format, &file).unwrap() == plain, "{command}");
        }
    }

    #[test]
    fn the_kernel_says_what_is_wrong() {
        let plain = sample();
        let not_a_module = "Invalid ELF header magic: != \x7fELF";
        let cut = |file: &[u8], by: usize| file[..file.len() - by].to_vec();
        let flip = |file: &[u8], at: usize| {
            let mut file = file.to_vec();
            file[at] ^= 0x10;
            file
        };

        let gzip = packed("gzip -nc", &plain);
        let format = Decompress::Gzip;
        assert_eq!(load(format, &gzip), (-8, not_a_module.into()), "unpacked, and no module");
        assert_eq!(load(format, &cut(&gzip, 8)), (-8, not_a_module.into()), "the check sum is not looked at");
        assert_eq!(load(format, &cut(&gzip, 9)), (-22, "decompression failed with status -5".into()));
        let mut bad = gzip.clone();
        bad[10] = 0xff;
        assert_eq!(load(format, &bad), (-22, "decompression failed with status -3".into()));
        assert_eq!(load(format, b"\x1f\x8b\x08"), (-22, "not a gzip compressed module".into()));

        let xz = packed("xz -c --check=crc32", &plain);
        let format = Decompress::Xz;
        assert_eq!(load(format, &xz), (-8, not_a_module.into()));
        assert_eq!(load(format, &cut(&xz, 1)), (-22, "decompression failed with status 0".into()));
        assert_eq!(load(format, &xz[..8]), (-22, "decompression failed with status 0".into()));
        assert_eq!(load(format, &flip(&xz, 8)), (-22, "decompression failed with status 7".into()));
        assert_eq!(
            load(format, &flip(&xz, xz.len() / 2)),
            (-22, "decompression failed with status 7".into())
        );
        let usual = packed("xz -c", &plain);
        assert_eq!(load(format, &usual), (-22, "decompression failed with status 6".into()), "CRC64");

        let zstd = packed("zstd -qc", &plain);
        let format = Decompress::Zstd;
        assert_eq!(load(format, &zstd), (-8, not_a_module.into()));
        assert_eq!(load(format, &zstd[..5]).1, "ZSTD-compressed data has an incomplete frame header");
        assert_eq!(
            load(format, &flip(&zstd, zstd.len() - 1)),
            (-22, "ZSTD-decompression failed with status 22".into())
        );
        let mut bad = zstd.clone();
        bad[9..20].fill(0xff);
        assert_eq!(load(format, &bad).0, -22);
        assert_eq!(load(format, &cut(&zstd, 4)), (-8, not_a_module.into()));
    }

    #[test]
    fn a_zstd_frame_that_is_cut_short_gives_its_whole_blocks() {
        let plain = sample();
        let file = packed("zstd -qc", &plain);
        let part = decompress(Decompress::Zstd, &file[..file.len() * 3 / 4]).unwrap();
        assert!(!part.is_empty() && part.len() < plain.len() && part.len().is_multiple_of(128 << 10));
        assert!(plain.starts_with(&part));
        assert_eq!(decompress(Decompress::Zstd, &file[..20]), Ok(Vec::new()));
    }

    #[test]
    fn xxh64_of_known_texts() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(
            start in proptest::sample::select(vec![
                &b""[..], b"\xfd7zXZ\0", b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x04\x58",
            ]),
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start, &rest].concat();
            for format in [Decompress::Gzip, Decompress::Xz, Decompress::Zstd] {
                let _ = decompress(format, &bytes);
            }
        }
    }
}
