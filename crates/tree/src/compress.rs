//! Compressed modules: gzip, xz, zstd, told apart by their first bytes, never by their names.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use lkm_module::Errno;

/// How a module file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all: an ELF file.
    None,
    /// RFC 1952.
    Gzip,
    /// The .xz container.
    Xz,
    /// Zstandard frames.
    Zstd,
}

impl Compression {
    /// Magic numbers, as the kernel's own decompressors and kmod know them.
    const MAGIC: [(&'static [u8], Compression); 3] = [
        (&[0x1f, 0x8b], Compression::Gzip),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    ];

    /// The compression that the first bytes of a file show.
    pub fn of(bytes: &[u8]) -> Compression {
        Self::MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)).map_or(Compression::None, |row| row.1)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
        })
    }
}

/// Why a compressed module gives no module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// The stream is damaged or ends early.
    Damaged(Compression, String),
    /// It would grow beyond the limit, in bytes.
    TooLarge(Compression, u64),
}

impl DecompressError {
    /// EINVAL as from the kernel's decompressors for damage, EFBIG beyond the limit.
    pub fn errno(&self) -> Errno {
        match self {
            DecompressError::Damaged(..) => Errno::EINVAL,
            DecompressError::TooLarge(..) => Errno::EFBIG,
        }
    }
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecompressError::Damaged(how, what) => {
                write!(f, "the {how} data is damaged or cut short: {what}")
            }
            DecompressError::TooLarge(how, limit) => {
                write!(f, "the {how} data unpacks to more than {limit} bytes, which is no sane module")
            }
        }
    }
}

impl std::error::Error for DecompressError {}

/// The module inside a file: the bytes themselves, or unpacked to at most `limit` bytes.
pub fn decompress(bytes: &[u8], limit: u64) -> Result<Cow<'_, [u8]>, DecompressError> {
    let how = Compression::of(bytes);
    let unpacked = match how {
        Compression::None => return Ok(Cow::Borrowed(bytes)),
        Compression::Gzip => gzip(bytes, limit)?,
        Compression::Xz => read_all(how, lzma_rust2::XzReader::new(bytes, true), limit)?,
        Compression::Zstd => zstd(bytes, limit)?,
    };
    Ok(Cow::Owned(unpacked))
}

fn read_all(how: Compression, reader: impl Read, limit: u64) -> Result<Vec<u8>, DecompressError> {
    let mut unpacked = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(|error| DecompressError::Damaged(how, error.to_string()))?;
    if unpacked.len() as u64 > limit {
        return Err(DecompressError::TooLarge(how, limit));
    }
    Ok(unpacked)
}

/// All frames of a zstd file one after another; skippable frames hold no data.
fn zstd(mut bytes: &[u8], limit: u64) -> Result<Vec<u8>, DecompressError> {
    use ruzstd::decoding::StreamingDecoder;
    use ruzstd::decoding::errors::FrameDecoderError;
    use ruzstd::decoding::errors::ReadFrameHeaderError;
    let how = Compression::Zstd;
    let mut unpacked = Vec::new();
    while !bytes.is_empty() {
        let before = bytes.len();
        match StreamingDecoder::new(&mut bytes) {
            Ok(decoder) => {
                unpacked.extend(
                    read_all(how, decoder, limit.saturating_sub(unpacked.len() as u64)).map_err(|error| {
                        match error {
                            DecompressError::TooLarge(how, _) => DecompressError::TooLarge(how, limit),
                            damaged => damaged,
                        }
                    })?,
                );
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                bytes = bytes.get(length as usize..).ok_or_else(|| {
                    DecompressError::Damaged(how, "a skippable frame is longer than the file".into())
                })?;
            }
            Err(error) => return Err(DecompressError::Damaged(how, error.to_string())),
        }
        if bytes.len() == before {
            return Err(DecompressError::Damaged(how, "a frame without contents".into()));
        }
    }
    Ok(unpacked)
}

/// All members of a gzip file one after another, with their check sums and lengths verified.
fn gzip(mut bytes: &[u8], limit: u64) -> Result<Vec<u8>, DecompressError> {
    let damaged = |what: &str| DecompressError::Damaged(Compression::Gzip, what.into());
    let mut unpacked = Vec::new();
    while !bytes.is_empty() {
        let header = gzip_header(bytes).ok_or_else(|| damaged("not a complete gzip header"))?;
        let (member, used) = inflate(&bytes[header..], limit.saturating_sub(unpacked.len() as u64), limit)?;
        let trailer =
            bytes.get(header + used..header + used + 8).ok_or_else(|| damaged("its trailer is missing"))?;
        let word =
            |at: usize| u32::from_le_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
        if word(0) != crc32(&member) || word(4) != member.len() as u32 {
            return Err(damaged("its check sum or length is wrong"));
        }
        unpacked.extend(member);
        bytes = &bytes[header + used + 8..];
    }
    Ok(unpacked)
}

/// Length of the gzip header at the start of `bytes` (RFC 1952, 2.3).
fn gzip_header(bytes: &[u8]) -> Option<usize> {
    const FHCRC: u8 = 2;
    const FEXTRA: u8 = 4;
    const FNAME: u8 = 8;
    const FCOMMENT: u8 = 16;
    let fixed = bytes.get(..10)?;
    if fixed[..3] != [0x1f, 0x8b, 8] {
        return None;
    }
    let flags = fixed[3];
    let mut end = 10;
    if flags & FEXTRA != 0 {
        let length = bytes.get(end..end + 2)?;
        end += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for flag in [FNAME, FCOMMENT] {
        if flags & flag != 0 {
            end += bytes.get(end..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & FHCRC != 0 {
        end += 2;
    }
    (end <= bytes.len()).then_some(end)
}

/// Unpacks one deflate stream of at most `room` bytes: the data and how many bytes of input it took.
fn inflate(input: &[u8], room: u64, limit: u64) -> Result<(Vec<u8>, usize), DecompressError> {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::DecompressorOxide;
    use miniz_oxide::inflate::core::decompress;
    use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;

    let damaged = |what: &str| DecompressError::Damaged(Compression::Gzip, what.into());
    let mut state = DecompressorOxide::new();
    let mut output = vec![0; input.len().saturating_mul(3).clamp(4096, 1 << 20)];
    let (mut read, mut written) = (0, 0);
    loop {
        let (status, taken, made) = decompress(
            &mut state,
            &input[read..],
            &mut output,
            written,
            TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
        );
        read += taken;
        written += made;
        if written as u64 > room {
            return Err(DecompressError::TooLarge(Compression::Gzip, limit));
        }
        match status {
            TINFLStatus::Done => {
                output.truncate(written);
                return Ok((output, read));
            }
            TINFLStatus::HasMoreOutput => output.resize(output.len() * 2, 0),
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
                return Err(damaged("it ends early"));
            }
            _ => return Err(damaged("not a valid deflate stream")),
        }
    }
}

/// CRC-32 of RFC 1952, 8.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut c = n as u32;
            let mut k = 0;
            while k < 8 {
                c = if c & 1 != 0 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
                k += 1;
            }
            table[n] = c;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 1 << 24;

    /// What the real tool makes of `bytes`.
    fn packed(tool: &str, options: &[&str], bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new(tool)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{tool} is needed: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        let input = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    fn sample() -> Vec<u8> {
        (0u32..60_000).flat_map(|n| (n * n / 7).to_le_bytes()).collect()
    }

    #[test]
    fn unpacks_what_the_real_tools_pack() {
        let plain = sample();
        for (tool, options) in [
            ("gzip", &["-c"][..]),
            ("gzip", &["-9c"]),
            ("xz", &["-c"]),
            ("xz", &["-c", "--check=crc32"]),
            ("xz", &["-c", "--check=none"]),
            ("zstd", &["-qc"]),
            ("zstd", &["-qc", "--no-check"]),
        ] {
            let small = packed(tool, options, &plain);
            assert_eq!(decompress(&small, LIMIT).unwrap().as_ref(), plain, "{tool} {options:?}");
            let twice = [small.clone(), small].concat();
            assert_eq!(decompress(&twice, LIMIT).unwrap().as_ref(), [plain.clone(), plain.clone()].concat());
        }
    }

    #[test]
    fn damage_and_bombs_are_errors() {
        let plain = sample();
        for (tool, options) in [("gzip", &["-c"][..]), ("xz", &["-c"]), ("zstd", &["-qc"])] {
            let small = packed(tool, options, &plain);
            for cut in [7, small.len() / 2, small.len() - 1] {
                let error = decompress(&small[..cut], LIMIT).unwrap_err();
                assert_eq!(error.errno(), Errno::EINVAL, "{tool} cut to {cut}");
            }
            let mut flipped = small.clone();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 0x10;
            assert!(matches!(decompress(&flipped, LIMIT), Err(DecompressError::Damaged(..))), "{tool}");
            assert_eq!(decompress(&small, plain.len() as u64 - 1).unwrap_err().errno(), Errno::EFBIG);
            assert!(decompress(&small, plain.len() as u64).is_ok());
        }
    }

    #[test]
    fn a_gzip_header_with_every_optional_field() {
        let mut file = vec![0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 3];
        file.extend([3, 0, 1, 2, 3]);
        file.extend(b"hello.ko\0a comment\0");
        file.extend([0xaa, 0xbb]);
        // One stored block that holds "hi".
        file.extend([1, 2, 0, 0xfd, 0xff, b'h', b'i']);
        file.extend(crc32(b"hi").to_le_bytes());
        file.extend(2u32.to_le_bytes());
        assert_eq!(decompress(&file, LIMIT).unwrap().as_ref(), b"hi");
    }

    #[test]
    fn crc32_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(magic in 0usize..3, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [Compression::MAGIC[magic].0, &rest].concat();
            let _ = decompress(&bytes, 1 << 16);
        }
    }
}
