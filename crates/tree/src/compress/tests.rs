use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use proptest::prelude::*;

use super::sums::xxh64;
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
        ("zstd", &["-qc", "-19", "--long=24"]),
        ("lzma", &["-c"]),
        ("lzma", &["-9c"]),
    ] {
        let small = packed(tool, options, &plain);
        assert_eq!(decompress(&small, LIMIT).unwrap().as_ref(), plain, "{tool} {options:?}");
        let some = decompress_until(&small, LIMIT, |bytes| bytes.len() > 1000).unwrap();
        assert!(some.len() > 1000 && some.len() < plain.len() && plain.starts_with(&some), "{tool}");
        if tool != "lzma" {
            let twice = [small.clone(), small].concat();
            assert_eq!(decompress(&twice, LIMIT).unwrap().as_ref(), [plain.clone(), plain.clone()].concat());
        }
    }
}

#[test]
fn damage_and_bombs_are_errors() {
    let plain = sample();
    for (tool, options) in [("gzip", &["-c"][..]), ("xz", &["-c"]), ("zstd", &["-qc"]), ("lzma", &["-c"])] {
        let small = packed(tool, options, &plain);
        // What an lzma file ends with is only known to its decoder, which may not need the last bytes.
        let last = if tool == "lzma" { small.len() - 20 } else { small.len() - 1 };
        for cut in [7, small.len() / 2, last] {
            let error = decompress(&small[..cut], LIMIT).unwrap_err();
            assert_eq!(error.errno(), Errno::EINVAL, "{tool} cut to {cut}");
        }
        let mut flipped = small.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x10;
        // Nothing checks an lzma file.
        if tool != "lzma" {
            assert!(matches!(decompress(&flipped, LIMIT), Err(DecompressError::Damaged(..))), "{tool}");
        }
        assert_eq!(decompress(&small, plain.len() as u64 - 1).unwrap_err().errno(), Errno::EFBIG);
        assert!(decompress(&small, plain.len() as u64).is_ok());
        let (part, error) = decompress_partly(&small[..small.len() - 30], LIMIT);
        assert!(error.is_some() && plain.starts_with(&part), "{tool}");
    }
}

#[test]
fn frames_that_hold_no_data_and_streams_without_their_length() {
    let plain = sample();
    // Through a pipe zstd cannot know the size.
    let unsized_frame = packed("zstd", &["-qc"], &plain);
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let file = [&skippable[..], &unsized_frame, &skippable, &unsized_frame].concat();
    assert_eq!(Compression::of(&file), Compression::Zstd);
    assert_eq!(decompress(&file, LIMIT).unwrap().len(), 2 * plain.len());
    let cut = [&unsized_frame[..], &skippable[..9]].concat();
    assert_eq!(decompress(&cut, LIMIT).unwrap_err().errno(), Errno::EINVAL);
    // Padding behind a gzip member, and between xz streams.
    let padded = [&packed("gzip", &["-c"], &plain)[..], &[0; 512]].concat();
    assert_eq!(decompress(&padded, LIMIT).unwrap().as_ref(), plain);
    let stream = packed("xz", &["-c"], &plain);
    let padded = [&stream[..], &[0; 8], &stream].concat();
    assert_eq!(decompress(&padded, LIMIT).unwrap().len(), 2 * plain.len());
}

#[test]
fn a_wrong_check_sum_of_a_frame_is_damage() {
    let mut file = packed("zstd", &["-qc"], &sample());
    if let Some(last) = file.last_mut() {
        *last ^= 1;
    }
    assert!(decompress(&file, LIMIT).unwrap_err().to_string().contains("check sum"));
}

#[test]
fn what_asks_for_more_memory_than_any_module_needs_is_refused() {
    let mut file = packed("lzma", &["-c"], &sample());
    file[1..5].copy_from_slice(&(1u32 << 31).to_le_bytes());
    assert_eq!(Compression::of(&file), Compression::Lzma);
    assert_eq!(decompress(&file, LIMIT).unwrap_err().errno(), Errno::EINVAL);
    let huge = packed("zstd", &["-qc", "--long=31", "--ultra", "-1"], &vec![7; 1 << 20]);
    let _ = decompress(&huge, LIMIT);
}

#[test]
fn xxh64_of_known_strings() {
    // Longer input is held to what real files end with, in the other tests.
    assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
    assert_eq!(xxh64(b"a"), 0xd24e_c4f1_a98c_6e5b);
    assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
}

#[test]
fn text_and_programs_are_not_taken_for_compressed() {
    for start in [&b"\x7fELF\x02\x01"[..], b"]text]", b"]\0\0\0\0\0", b"", b"]", b"\x5d\x00\x00"] {
        assert_eq!(Compression::of(start), Compression::None);
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
    fn any_bytes_end_without_panic(magic in 0usize..5, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        let start = match magic {
            3 => &[LZMA_PROPERTIES, 0, 0, 16, 0][..],
            4 => &[0x50, 0x2a, 0x4d, 0x18],
            known => Compression::MAGIC[known].0,
        };
        let bytes = [start, &rest].concat();
        let _ = decompress(&bytes, 1 << 16);
    }
}
