//! The signature that `sign-file` appends behind a module: trailer, marker, and what the CMS message says.
//!
//! Nothing is verified here.

use alloc::string::String;
use core::fmt;

use crate::Errno;
use crate::Level;
use crate::elf::ElfGeneration;

mod cms;

pub use cms::CmsError;
pub use cms::Oid;
pub use cms::SignerInfo;

/// What the file ends with if a signature is appended (`MODULE_SIG_STRING`).
pub const MARKER: &[u8; 28] = b"~Module signature appended~\n";

/// Bytes of the trailer (`struct module_signature`) before the marker.
pub const TRAILER_SIZE: usize = 12;

/// `PKEY_ID_PKCS7`, the only kind of signature in use.
pub const ID_PKCS7: u8 = 2;

/// An appended signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedSignature<'data> {
    /// The module without anything appended: what the signature is of, and what the loader goes on with.
    pub body: &'data [u8],
    /// The CMS (PKCS#7) message, DER.
    pub cms: &'data [u8],
}

impl<'data> AppendedSignature<'data> {
    /// Reads the signer's data from the CMS message.
    pub fn signer(&self) -> Result<SignerInfo<'data>, CmsError> {
        SignerInfo::read(self.cms)
    }
}

/// What `mod_check_sig` objects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFault {
    /// Nothing stands before the trailer.
    NoTrailer,
    /// The signature does not fit before the trailer.
    Length {
        /// Bytes that the trailer tells.
        length: u32,
        /// Bytes before the trailer.
        available: u64,
    },
    /// The signature is no CMS (PKCS#7) message.
    IdType(u8),
    /// Fields are set that mean nothing for CMS messages.
    NonZero,
}

/// The marker is there, but not a trailer that the kernel accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureError<'data> {
    /// What is wrong.
    pub fault: SignatureFault,
    /// The file without the marker: what a kernel that tolerates the error (`ENOPKG`) goes on with.
    pub rest: &'data [u8],
}

impl SignatureError<'_> {
    /// `ENOPKG` for a signature of another kind, which kernels tolerate that do not enforce signatures; else
    /// `EBADMSG`, which is fatal everywhere.
    pub const fn errno(&self) -> Errno {
        match self.fault {
            SignatureFault::IdType(_) => Errno::ENOPKG,
            _ => Errno::EBADMSG,
        }
    }

    /// The line that the kernel logs, if any. 4.x has other words for it than the kernels from 5.4 on.
    pub fn log(&self, generation: ElfGeneration) -> Option<(Level, String)> {
        let old = generation == ElfGeneration::V4;
        let text = match self.fault {
            SignatureFault::NoTrailer | SignatureFault::Length { .. } => return None,
            SignatureFault::IdType(_) if old => "Module is not signed with expected PKCS#7 message",
            SignatureFault::IdType(_) => "module: not signed with expected PKCS#7 message",
            SignatureFault::NonZero if old => "PKCS#7 signature info has unexpected non-zero params",
            SignatureFault::NonZero => "module: PKCS#7 signature info has unexpected non-zero params",
        };
        Some((Level::Err, text.into()))
    }
}

impl fmt::Display for SignatureFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignatureFault::NoTrailer => {
                f.write_str("there is a signature marker but no signature before it")
            }
            SignatureFault::Length { length, available } => {
                write!(f, "the signature has {length} bytes by its trailer, but only {available} are there")
            }
            SignatureFault::IdType(kind) => write!(f, "the signature is of kind {kind}, not PKCS#7 (2)"),
            SignatureFault::NonZero => f.write_str("the signature trailer sets fields that must be zero"),
        }
    }
}

impl fmt::Display for SignatureError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl core::error::Error for SignatureError<'_> {}

/// Takes the appended signature apart, as `mod_check_sig` does and in its order. `Ok(None)`: the module is unsigned.
/// Only the very end of the file is looked at.
pub fn appended_signature(data: &[u8]) -> Result<Option<AppendedSignature<'_>>, SignatureError<'_>> {
    let Some(rest) = data.strip_suffix(MARKER).filter(|rest| !rest.is_empty()) else { return Ok(None) };
    let error = |fault| SignatureError { fault, rest };
    let (before, trailer) = match rest.split_last_chunk::<TRAILER_SIZE>() {
        Some(parts) if !parts.0.is_empty() => parts,
        _ => return Err(error(SignatureFault::NoTrailer)),
    };
    let [algo, hash, id_type, signer_len, key_id_len, pad @ .., l0, l1, l2, l3] = *trailer;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    let body_length = usize::try_from(length).ok().and_then(|length| before.len().checked_sub(length));
    // A signature must leave at least a byte of the module.
    let Some((body, cms)) = body_length.filter(|&body| body > 0).and_then(|at| before.split_at_checked(at))
    else {
        return Err(error(SignatureFault::Length { length, available: before.len() as u64 }));
    };
    if id_type != ID_PKCS7 {
        return Err(error(SignatureFault::IdType(id_type)));
    }
    if [algo, hash, signer_len, key_id_len] != [0; 4] || pad != [0; 3] {
        return Err(error(SignatureFault::NonZero));
    }
    Ok(Some(AppendedSignature { body, cms }))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn file(body: &[u8], cms: &[u8], trailer: [u8; 8], length: u32) -> Vec<u8> {
        [body, cms, &trailer, &length.to_be_bytes(), MARKER].concat()
    }

    const PLAIN: [u8; 8] = [0, 0, 2, 0, 0, 0, 0, 0];

    #[test]
    fn a_signature_is_taken_apart() {
        let data = file(b"body", b"signature", PLAIN, 9);
        assert_eq!(
            appended_signature(&data),
            Ok(Some(AppendedSignature { body: b"body", cms: b"signature" }))
        );
    }

    #[test]
    fn anything_behind_the_marker_or_nothing_before_it_makes_it_unsigned() {
        let mut data = file(b"body", b"signature", PLAIN, 9);
        data.push(0);
        assert_eq!(appended_signature(&data), Ok(None));
        assert_eq!(appended_signature(MARKER), Ok(None));
        assert_eq!(appended_signature(b""), Ok(None));
    }

    #[test]
    fn errors_come_in_the_kernels_order() {
        let fault = |data: &[u8]| appended_signature(data).unwrap_err().fault;
        // 12 bytes left are not more than a trailer.
        assert_eq!(fault(&file(b"", b"", PLAIN, 0)), SignatureFault::NoTrailer);
        assert_eq!(fault(&[b"x", &MARKER[..]].concat()), SignatureFault::NoTrailer);
        // The length is tested before the kind, the kind before the other fields.
        let bad = [1, 1, 1, 0, 0, 0, 0, 0];
        assert_eq!(fault(&file(b"ab", b"", bad, 2)), SignatureFault::Length { length: 2, available: 2 });
        assert_eq!(
            fault(&file(b"ab", b"", PLAIN, u32::MAX)),
            SignatureFault::Length { length: u32::MAX, available: 2 }
        );
        assert_eq!(fault(&file(b"ab", b"", bad, 1)), SignatureFault::IdType(1));
        for field in [0, 1, 3, 4, 5, 6, 7] {
            let mut trailer = PLAIN;
            trailer[field] = 1;
            assert_eq!(fault(&file(b"ab", b"", trailer, 1)), SignatureFault::NonZero, "field {field}");
        }
    }

    #[test]
    fn errno_and_log_lines() {
        let data = file(b"ab", b"", [0, 0, 1, 0, 0, 0, 0, 0], 0);
        let error = appended_signature(&data).unwrap_err();
        assert_eq!(error.errno(), Errno::ENOPKG);
        assert_eq!(error.rest.len(), data.len() - 28);
        let line = |generation| error.log(generation).unwrap().1;
        assert_eq!(line(ElfGeneration::V6_1), "module: not signed with expected PKCS#7 message");
        assert_eq!(line(ElfGeneration::V4), "Module is not signed with expected PKCS#7 message");
        let data = file(b"ab", b"", PLAIN, 9);
        let error = appended_signature(&data).unwrap_err();
        assert_eq!((error.errno(), error.log(ElfGeneration::V6_1)), (Errno::EBADMSG, None));
    }
}
