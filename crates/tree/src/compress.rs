//! Compressed modules: gzip, xz, zstd, lzma, told apart by their first bytes, never by their names.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::io::Read;

use lkm_module::Errno;

mod sums;

use sums::crc32;
#[cfg(not(feature = "libzstd"))]
use sums::xxh64;

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
    /// The .lzma file of LZMA Utils, which busybox knows and neither kmod nor the kernel.
    Lzma,
}

impl Compression {
    /// Bytes at the start of a file that are enough to tell.
    pub const MAGIC_LENGTH: usize = 6;

    /// Magic numbers, as the kernel's own decompressors and kmod know them.
    const MAGIC: [(&'static [u8], Compression); 3] = [
        (&[0x1f, 0x8b], Compression::Gzip),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    ];

    /// The compression that the first bytes of a file show.
    pub fn of(bytes: &[u8]) -> Compression {
        let magic = Self::MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
        match (magic, bytes) {
            (Some((_, how)), _) => *how,
            (None, [LZMA_PROPERTIES, dictionary @ ..]) if is_lzma_dictionary(dictionary) => Compression::Lzma,
            // A frame that holds no data may be the first of a zstd file.
            (None, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) => Compression::Zstd,
            (None, _) => Compression::None,
        }
    }
}

/// An lzma file has no magic number, but every program that ever wrote one chose these literal and position bits.
const LZMA_PROPERTIES: u8 = 0x5d;

/// The size of a dictionary is a power of two or one and a half of one.
fn is_lzma_dictionary(bytes: &[u8]) -> bool {
    let Some(size) = bytes.first_chunk().copied().map(u32::from_le_bytes) else { return false };
    let high = size.checked_ilog2().map_or(0, |bit| 1 << bit);
    size >= 4096 && (size == high || size == high | high >> 1)
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
            Compression::Lzma => "lzma",
        })
    }
}

/// Why a compressed module gives no module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// The stream is damaged or ends early.
    Damaged(Compression, Damage),
    /// It would grow beyond the limit, in bytes.
    TooLarge(Compression, u64),
}

/// What is wrong with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Not even its header is complete and valid.
    Header,
    /// It ends early.
    CutShort,
    /// What lies behind its data, the check sums and lengths, is missing.
    Trailer,
    /// All data is there, but not what was packed.
    CheckSum,
    /// Its data is invalid; what the decoder says of it.
    Data(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Header => "it has no complete header",
            Damage::CutShort => "it ends early",
            Damage::Trailer => "its end is missing",
            Damage::CheckSum => "its check sum or length is wrong",
            Damage::Data(what) => what,
        })
    }
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
///
/// Several streams one behind the other give what they hold together, as with the tools that made them.
pub fn decompress(bytes: &[u8], limit: u64) -> Result<Cow<'_, [u8]>, DecompressError> {
    match Compression::of(bytes) {
        Compression::None => Ok(Cow::Borrowed(bytes)),
        _ => decompress_until(bytes, limit, |_| false).map(Cow::Owned),
    }
}

/// As [`decompress`], into a buffer that is kept from file to file. What was in it is gone.
pub fn decompress_into(bytes: &[u8], limit: u64, buffer: &mut Vec<u8>) -> Result<(), DecompressError> {
    buffer.clear();
    let (unpacked, error) = unpack(bytes, limit, &|_| false, std::mem::take(buffer));
    *buffer = unpacked;
    error.map_or(Ok(()), Err)
}

/// As [`decompress`], but stops as soon as `enough` says so of what has been unpacked till then, which grows by pieces
/// of some 100 kB. What lies behind that place is neither looked at nor checked.
pub fn decompress_until(
    bytes: &[u8],
    limit: u64,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, DecompressError> {
    let (unpacked, error) = decompress_partly_until(bytes, limit, enough);
    error.map_or(Ok(unpacked), Err)
}

/// As [`decompress`], for those who go on with a damaged file: what could be unpacked, and what went wrong.
pub fn decompress_partly(bytes: &[u8], limit: u64) -> (Vec<u8>, Option<DecompressError>) {
    decompress_partly_until(bytes, limit, |_| false)
}

/// [`decompress_partly`] and [`decompress_until`] in one.
pub fn decompress_partly_until(
    bytes: &[u8],
    limit: u64,
    enough: impl Fn(&[u8]) -> bool,
) -> (Vec<u8>, Option<DecompressError>) {
    unpack(bytes, limit, &enough, Vec::new())
}

/// Unpacks into an empty buffer.
fn unpack(
    bytes: &[u8],
    limit: u64,
    enough: &dyn Fn(&[u8]) -> bool,
    buffer: Vec<u8>,
) -> (Vec<u8>, Option<DecompressError>) {
    let mut out = Unpacked { bytes: buffer, limit, how: Compression::of(bytes), enough };
    let result = match out.how {
        Compression::None => {
            out.bytes.extend_from_slice(bytes);
            Ok(())
        }
        Compression::Gzip => gzip(bytes, &mut out),
        Compression::Xz => match xz_reader(bytes) {
            Some(reader) => out.take(reader).map(drop),
            None => Err(out.damaged(Damage::Header)),
        },
        Compression::Zstd => zstd(bytes, &mut out),
        Compression::Lzma => match lzma_reader(bytes) {
            Some(reader) => out.take(reader).map(drop),
            None => Err(out.damaged(Damage::Header)),
        },
    };
    (out.bytes, result.err())
}

/// What xz and lzma may take for their dictionary: that of `xz -9` is 64 MiB.
const DICTIONARY_LIMIT_KIB: u32 = 128 << 10;

/// Reads xz streams one behind the other.
#[cfg(not(feature = "liblzma"))]
fn xz_reader(bytes: &[u8]) -> Option<impl Read> {
    Some(lzma_rust2::XzReader::new_mem_limit(bytes, true, DICTIONARY_LIMIT_KIB))
}

/// Reads an lzma file. `None` without a whole header.
#[cfg(not(feature = "liblzma"))]
fn lzma_reader(bytes: &[u8]) -> Option<impl Read> {
    lzma_rust2::LzmaReader::new_mem_limit(bytes, DICTIONARY_LIMIT_KIB, None).ok()
}

/// Reads xz streams one behind the other.
#[cfg(feature = "liblzma")]
fn xz_reader(bytes: &[u8]) -> Option<impl Read> {
    let limit = u64::from(DICTIONARY_LIMIT_KIB) << 10;
    let stream = liblzma::stream::Stream::new_stream_decoder(limit, liblzma::stream::CONCATENATED).ok()?;
    Some(liblzma::read::XzDecoder::new_stream(bytes, stream))
}

/// Reads an lzma file. `None` without a whole header.
#[cfg(feature = "liblzma")]
fn lzma_reader(bytes: &[u8]) -> Option<impl Read> {
    const HEADER: usize = 13;
    let stream = liblzma::stream::Stream::new_lzma_decoder(u64::from(DICTIONARY_LIMIT_KIB) << 10).ok()?;
    (bytes.len() >= HEADER).then(|| liblzma::read::XzDecoder::new_stream(bytes, stream))
}

/// Bytes between two looks at what is there.
const PIECE: u64 = 128 << 10;

/// Whether more is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Go,
    Stop,
}

/// What has been unpacked.
struct Unpacked<'e> {
    bytes: Vec<u8>,
    limit: u64,
    how: Compression,
    enough: &'e dyn Fn(&[u8]) -> bool,
}

impl Unpacked<'_> {
    fn damaged(&self, damage: Damage) -> DecompressError {
        DecompressError::Damaged(self.how, damage)
    }

    fn invalid(&self, what: impl fmt::Display) -> DecompressError {
        self.damaged(Damage::Data(what.to_string()))
    }

    fn unreadable(&self, error: &io::Error) -> DecompressError {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            if io.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
                return self.damaged(Damage::CutShort);
            }
            cause = error.source();
        }
        match self.how {
            // The decoder's own words are those of its programmers.
            Compression::Zstd => self.invalid("a block is not valid"),
            _ => self.invalid(error),
        }
    }

    /// After something has been added.
    fn look(&self) -> Result<Progress, DecompressError> {
        if self.bytes.len() as u64 > self.limit {
            return Err(DecompressError::TooLarge(self.how, self.limit));
        }
        Ok(if (self.enough)(&self.bytes) { Progress::Stop } else { Progress::Go })
    }

    /// Takes what a reader gives.
    fn take(&mut self, mut reader: impl Read) -> Result<Progress, DecompressError> {
        loop {
            let before = self.bytes.len();
            let result = (&mut reader).take(PIECE).read_to_end(&mut self.bytes);
            result.map_err(|error| self.unreadable(&error))?;
            let more = self.bytes.len() - before;
            if self.look()? == Progress::Stop {
                return Ok(Progress::Stop);
            }
            if (more as u64) < PIECE {
                return Ok(Progress::Go);
            }
        }
    }
}

/// All frames of a zstd file one after another; skippable frames hold no data.
#[cfg(feature = "libzstd")]
fn zstd(bytes: &[u8], out: &mut Unpacked<'_>) -> Result<(), DecompressError> {
    use zstd_safe::InBuffer;
    use zstd_safe::OutBuffer;
    use zstd_safe::zstd_sys::ZSTD_ErrorCode;
    let Some(mut decoder) = zstd_safe::DCtx::try_create() else {
        return Err(out.invalid("there is no memory for unpacking"));
    };
    let mut input = InBuffer::around(bytes);
    loop {
        let before = out.bytes.len();
        let place = before.saturating_add(PIECE as usize);
        out.bytes.reserve(PIECE as usize);
        let (at, result) = {
            let mut output = OutBuffer::around_pos(&mut out.bytes, before);
            let result = decoder.decompress_stream(&mut output, &mut input);
            (output.pos(), result)
        };
        out.bytes.truncate(at);
        // How much more is wanted; nothing at the end of a frame.
        let finished = match result {
            Ok(hint) => hint == 0,
            Err(code) if code == (ZSTD_ErrorCode::ZSTD_error_checksum_wrong as usize).wrapping_neg() => {
                return Err(out.damaged(Damage::CheckSum));
            }
            Err(_) => return Err(out.invalid("a block is not valid")),
        };
        if out.look()? == Progress::Stop {
            return Ok(());
        }
        // With room left nothing more comes out of what was given.
        if input.pos() == bytes.len() && (finished || at < place) {
            return if finished { Ok(()) } else { Err(out.damaged(Damage::CutShort)) };
        }
    }
}

/// All frames of a zstd file one after another; skippable frames hold no data.
#[cfg(not(feature = "libzstd"))]
fn zstd(mut bytes: &[u8], out: &mut Unpacked<'_>) -> Result<(), DecompressError> {
    use ruzstd::decoding::FrameDecoder;
    use ruzstd::decoding::StreamingDecoder;
    use ruzstd::decoding::errors::FrameDecoderError;
    use ruzstd::decoding::errors::ReadFrameHeaderError;
    let mut decoder = FrameDecoder::new();
    while !bytes.is_empty() {
        let before = bytes.len();
        let start = out.bytes.len();
        match StreamingDecoder::new_with_decoder(&mut bytes, &mut decoder) {
            Ok(reader) => {
                if out.take(reader)? == Progress::Stop {
                    return Ok(());
                }
                let frame = out.bytes.get(start..).unwrap_or(&[]);
                if decoder.get_checksum_from_data().is_some_and(|sum| sum != xxh64(frame) as u32) {
                    return Err(out.damaged(Damage::CheckSum));
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                bytes = usize::try_from(length)
                    .ok()
                    .and_then(|length| bytes.get(length..))
                    .ok_or_else(|| out.damaged(Damage::CutShort))?;
            }
            Err(error) => return Err(out.unreadable(&io::Error::other(error))),
        }
        if bytes.len() == before {
            return Err(out.invalid("a frame without contents"));
        }
    }
    Ok(())
}

/// All members of a gzip file one after another, with their check sums and lengths verified. What follows them and is
/// no member, such as padding, is passed over, as zlib does.
fn gzip(mut bytes: &[u8], out: &mut Unpacked<'_>) -> Result<(), DecompressError> {
    while bytes.starts_with(&[0x1f, 0x8b]) {
        let header = gzip_header(bytes).ok_or_else(|| out.damaged(Damage::Header))?;
        let start = out.bytes.len();
        let stream = bytes.get(header..).unwrap_or(&[]);
        let Some(used) = inflate(stream, out)? else { return Ok(()) };
        let member = out.bytes.get(start..).unwrap_or(&[]);
        let trailer = stream.get(used..).and_then(|rest| rest.split_first_chunk::<8>());
        let Some(([c0, c1, c2, c3, l0, l1, l2, l3], rest)) = trailer else {
            return Err(out.damaged(Damage::Trailer));
        };
        let sum = u32::from_le_bytes([*c0, *c1, *c2, *c3]);
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
        if sum != crc32(member) || length != member.len() as u32 {
            return Err(out.damaged(Damage::CheckSum));
        }
        bytes = rest;
    }
    Ok(())
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

/// Unpacks one deflate stream: how many bytes of input it took; `None` if no more was wanted before its end.
fn inflate(input: &[u8], out: &mut Unpacked<'_>) -> Result<Option<usize>, DecompressError> {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::DecompressorOxide;
    use miniz_oxide::inflate::core::decompress;
    use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;

    let mut state = DecompressorOxide::new();
    let start = out.bytes.len();
    let (mut read, mut written) = (0, 0);
    loop {
        // Room for the next piece.
        let end = start.saturating_add(written).saturating_add(PIECE as usize);
        out.bytes.resize(end, 0);
        let window = out.bytes.get_mut(start..).unwrap_or(&mut []);
        let (status, taken, made) = decompress(
            &mut state,
            input.get(read..).unwrap_or(&[]),
            window,
            written,
            TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
        );
        read += taken;
        written += made;
        out.bytes.truncate(start + written);
        if out.look()? == Progress::Stop {
            return Ok(None);
        }
        match status {
            TINFLStatus::Done => return Ok(Some(read)),
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
                return Err(out.damaged(Damage::CutShort));
            }
            _ => return Err(out.invalid("not a valid deflate stream")),
        }
    }
}

#[cfg(test)]
mod tests;
