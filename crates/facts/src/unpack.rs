//! Compressed payloads inside other files, where more may follow their end.

use std::io::Read;

/// More than any kernel unpacks to, in bytes.
pub(crate) const LIMIT: u64 = 512 << 20;

/// What a stream is packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Xz,
    Lzma,
    Bzip2,
    /// The legacy frame, as `lz4 -l` and the kernel's build make it.
    Lz4,
    Zstd,
}

impl Packing {
    /// Magic numbers. That of lzma is its usual properties and the low byte of a dictionary size, so that others come
    /// first.
    const MAGIC: [(&'static [u8], Packing); 6] = [
        (&[0x1f, 0x8b, 8], Packing::Gzip),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Xz),
        (b"BZh", Packing::Bzip2),
        (&[0x02, 0x21, 0x4c, 0x18], Packing::Lz4),
        (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Zstd),
        (&[0x5d, 0, 0], Packing::Lzma),
    ];

    pub(crate) fn of(bytes: &[u8]) -> Option<Packing> {
        Self::MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|row| row.1)
    }

    /// Offsets at which a stream may start, in order.
    pub(crate) fn anywhere(bytes: &[u8]) -> impl Iterator<Item = usize> {
        (0..bytes.len()).filter(|&at| bytes.get(at..).is_some_and(|rest| Packing::of(rest).is_some()))
    }
}

/// The first stream at the start of `bytes`, unpacked. The error is what is wrong with it, in a few words.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match Packing::of(bytes).ok_or("it is not packed in a known way")? {
        Packing::Gzip => gzip(bytes),
        Packing::Xz => read(lzma_rust2::XzReader::new(bytes, false)),
        Packing::Lzma => {
            let reader = lzma_rust2::LzmaReader::new_mem_limit(bytes, 1 << 18, None);
            read(reader.map_err(|error| text(&error))?)
        }
        Packing::Bzip2 => read(bzip2::read::BzDecoder::new(bytes)),
        Packing::Lz4 => lz4(bytes),
        Packing::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(bytes);
            read(decoder.map_err(|error| text(&error))?)
        }
    }
}

fn read(reader: impl Read) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    reader.take(LIMIT + 1).read_to_end(&mut unpacked).map_err(|error| error.to_string())?;
    if unpacked.len() as u64 > LIMIT {
        return Err(format!("it unpacks to more than {LIMIT} bytes"));
    }
    Ok(unpacked)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let body = gzip_body(bytes).ok_or("the gzip header is cut")?;
    let limit = usize::try_from(LIMIT).unwrap_or(usize::MAX);
    miniz_oxide::inflate::decompress_to_vec_with_limit(body, limit).map_err(|error| error.to_string())
}

/// What follows the header (RFC 1952).
fn gzip_body(bytes: &[u8]) -> Option<&[u8]> {
    let flags = *bytes.get(3)?;
    let mut rest = bytes.get(10..)?;
    if flags & 4 != 0 {
        let (length, after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & 2 != 0 { rest.get(2..) } else { Some(rest) }
}

/// Blocks of at most 8 MiB, each after its packed length, until something that is no such length.
fn lz4(bytes: &[u8]) -> Result<Vec<u8>, String> {
    const BLOCK: usize = 8 << 20;
    let mut unpacked = Vec::new();
    let mut rest = bytes.get(4..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((block, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            break;
        };
        // What follows the last block, such as the size that the kernel's build appends, looks like a length too.
        let Ok(block) = lz4_flex::block::decompress(block, BLOCK) else { break };
        unpacked.extend_from_slice(&block);
        if unpacked.len() as u64 > LIMIT {
            return Err(format!("it unpacks to more than {LIMIT} bytes"));
        }
        rest = after;
        if block.len() < BLOCK {
            break;
        }
    }
    if unpacked.is_empty() { Err("the lz4 data is damaged or cut short".into()) } else { Ok(unpacked) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;

    use proptest::prelude::*;

    use super::*;

    /// `data` through a program of the system.
    fn through(program: &str, args: &[&str], data: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program}: {error}; `cargo xtask test` installs what the tests need")
            });
        let mut stdin = child.stdin.take().unwrap();
        let data = data.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&data));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn what_the_usual_programs_pack_is_unpacked_whatever_follows() {
        let data: Vec<u8> = (0..300_000u32).flat_map(|number| (number / 7 * 3).to_le_bytes()).collect();
        let programs: [(&str, &[&str], Packing); 6] = [
            ("gzip", &["-n9"], Packing::Gzip),
            ("xz", &["--check=crc32"], Packing::Xz),
            ("xz", &["--format=lzma"], Packing::Lzma),
            ("bzip2", &["-9"], Packing::Bzip2),
            ("lz4", &["-l", "-9"], Packing::Lz4),
            ("zstd", &["-19", "-q"], Packing::Zstd),
        ];
        for (program, args, packing) in programs {
            let mut packed = through(program, args, &data);
            assert_eq!(Packing::of(&packed), Some(packing));
            packed.extend((data.len() as u32).to_le_bytes());
            assert!(unpack(&packed).as_deref() == Ok(&data[..]), "{packing:?}");
            packed.truncate(packed.len() / 2);
            assert!(unpack(&packed).as_deref() != Ok(&data[..]), "{packing:?}");
        }
    }

    #[test]
    fn a_gzip_header_may_have_everything() {
        let mut bytes = vec![0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 0];
        bytes.extend(b"\x03\0abcname\0comment\0cc");
        bytes.extend(miniz_oxide::deflate::compress_to_vec(b"hello", 6));
        assert_eq!(unpack(&bytes).unwrap(), b"hello");
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(kind in 0usize..6, tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [Packing::MAGIC[kind].0, &tail].concat();
            let _ = unpack(&bytes);
        }
    }
}
