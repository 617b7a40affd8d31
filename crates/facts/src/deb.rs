//! Debian packages, read without unpacking them to disk.
//!
//! A `.deb` is an `ar` archive with `debian-binary`, `control.tar.*` and `data.tar.*`; the files are in the last.

use std::io;
use std::io::Read;

use crate::FactsError;
use crate::Source;

/// First bytes of a package.
pub const MAGIC: &[u8] = b"!<arch>\ndebian-binary";

/// No file that is taken from a package is larger, in bytes.
const LARGEST: u64 = 1 << 30;

/// Reads the files of a package whose paths are wanted, and gives each to `take` with its path, without the `./` before
/// it. Links are no files.
pub fn read(
    package: &[u8],
    source: &Source,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(&str, Vec<u8>) -> Result<(), FactsError>,
) -> Result<(), FactsError> {
    let data = member(package, "data.tar")
        .ok_or_else(|| FactsError::damaged(source, "the package is cut or holds no files"))?;
    let damaged =
        |error: io::Error| FactsError::damaged(source, format_args!("the package is damaged: {error}"));
    let mut archive = tar::Archive::new(decoder(data).map_err(damaged)?);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() || entry.size() > LARGEST {
            continue;
        }
        let path = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./");
        if wanted(path) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            take(path, bytes)?;
        }
    }
    Ok(())
}

fn decoder<'a>(data: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match data {
        [0xfd, b'7', ..] => Box::new(lzma_rust2::XzReader::new(data, true)),
        [0x28, 0xb5, ..] => {
            Box::new(ruzstd::decoding::StreamingDecoder::new(data).map_err(io::Error::other)?)
        }
        [0x1f, 0x8b, ..] => Box::new(io::Cursor::new(crate::unpack::unpack(data).map_err(io::Error::other)?)),
        _ => Box::new(data),
    })
}

/// The member of the archive whose name starts so: headers of 60 bytes with name, length and a mark, each at an even
/// offset.
fn member<'a>(package: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = package.get(8..)?;
    loop {
        let (header, after) = rest.split_at_checked(60)?;
        let length = std::str::from_utf8(header.get(48..58)?).ok()?.trim_end().parse().ok()?;
        let (data, after) = after.split_at_checked(length)?;
        if header.starts_with(name.as_bytes()) {
            return Some(data);
        }
        rest = after.get(length % 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, data) in members {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, data.len()).bytes(),
            );
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        }
        bytes
    }

    fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn wanted_files_are_read() {
        let data = tarball(&[("./boot/config-1", b"CONFIG_A=y\n"), ("./usr/share/doc/x", b"text")]);
        let package = archive(&[("debian-binary", b"2.0\n"), ("control.tar", b"odd"), ("data.tar", &data)]);
        assert!(package.starts_with(MAGIC));
        let mut found = Vec::new();
        let source = Source::new("p");
        read(
            &package,
            &source,
            |path| path.starts_with("boot/"),
            |path, bytes| {
                found.push((path.to_owned(), bytes));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(found, [("boot/config-1".to_owned(), b"CONFIG_A=y\n".to_vec())]);
        let cut = &package[..package.len() / 2];
        let error = read(cut, &source, |_| true, |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("the package is"), "{error}");
    }
}
