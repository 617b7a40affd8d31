use core::fmt;

/// A CMS message that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmsError {
    /// The part that is missing or damaged.
    pub part: &'static str,
}

impl fmt::Display for CmsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the signature's CMS message has no readable {}", self.part)
    }
}

impl core::error::Error for CmsError {}

/// What a CMS message says of its first signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerInfo<'data> {
    /// Common name of who issued the signer's certificate.
    pub issuer_cn: Option<&'data [u8]>,
    /// The whole issuer name, DER.
    pub issuer: Option<&'data [u8]>,
    /// Serial number of the certificate, as it is encoded (a leading zero byte included).
    pub serial: Option<&'data [u8]>,
    /// Subject key identifier, which version 3 has instead of issuer and serial number.
    pub skid: Option<&'data [u8]>,
    /// Digest algorithm.
    pub digest: Oid<'data>,
    /// Signature (or key) algorithm.
    pub algorithm: Oid<'data>,
    /// The signature.
    pub signature: &'data [u8],
    /// There are signed attributes, which kernels do not allow in modules.
    pub signed_attributes: bool,
    /// The message carries contents, which kernels do not allow in modules.
    pub has_content: bool,
}

/// An object identifier, by its encoded bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Oid<'data>(pub &'data [u8]);

/// Encodings and names as the kernel and kmod write them.
const OIDS: &[(&[u8], &str)] = &[
    (b"\x2a\x86\x48\x86\xf7\x0d\x02\x04", "md4"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x02\x05", "md5"),
    (b"\x2b\x0e\x03\x02\x1a", "sha1"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x01", "sha256"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x02", "sha384"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x03", "sha512"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x04", "sha224"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x08", "sha3-256"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x09", "sha3-384"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x0a", "sha3-512"),
    (b"\x2a\x81\x1c\xcf\x55\x01\x83\x11", "sm3"),
    (b"\x2a\x85\x03\x07\x01\x01\x02\x02", "streebog256"),
    (b"\x2a\x85\x03\x07\x01\x01\x02\x03", "streebog512"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "rsaEncryption"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "sha1WithRSAEncryption"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "sha256WithRSAEncryption"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", "sha384WithRSAEncryption"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", "sha512WithRSAEncryption"),
    (b"\x2a\x86\x48\xce\x3d\x04\x01", "ecdsa-with-SHA1"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", "ecdsa-with-SHA224"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", "ecdsa-with-SHA256"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", "ecdsa-with-SHA384"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", "ecdsa-with-SHA512"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0a", "ecdsa-with-SHA3-256"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0b", "ecdsa-with-SHA3-384"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0c", "ecdsa-with-SHA3-512"),
    (b"\x2a\x81\x1c\xcf\x55\x01\x83\x75", "sm2"),
    (b"\x2a\x85\x03\x07\x01\x01\x01\x01", "ecrdsa256"),
    (b"\x2a\x85\x03\x07\x01\x01\x01\x02", "ecrdsa512"),
];

const OID_SIGNED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const OID_COMMON_NAME: &[u8] = b"\x55\x04\x03";

impl Oid<'_> {
    /// Its name, for the algorithms of module signatures.
    pub fn name(self) -> Option<&'static str> {
        OIDS.iter().find(|(encoded, _)| *encoded == self.0).map(|(_, name)| *name)
    }
}

/// The name, else the numbers with dots.
impl fmt::Display for Oid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        let mut arc = 0u64;
        let mut first = true;
        for byte in self.0 {
            arc = arc << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 != 0 {
                continue;
            }
            if first {
                let top = (arc / 40).min(2);
                write!(f, "{top}.{}", arc - top * 40)?;
                first = false;
            } else {
                write!(f, ".{arc}")?;
            }
            arc = 0;
        }
        Ok(())
    }
}

impl fmt::Debug for Oid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed: contents of ContentInfo, certificates, signed attributes.
const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed: revocation lists.
const CONTEXT_1: u8 = 0xa1;
/// `[0]`, primitive: the subject key identifier.
const SKID: u8 = 0x80;

/// DER elements that follow each other. Lengths must be definite and fit.
#[derive(Clone, Copy)]
struct Der<'data>(&'data [u8]);

impl<'data> Der<'data> {
    fn peek(self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element: tag, contents, and the whole of it.
    fn next(&mut self) -> Option<(u8, &'data [u8], &'data [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>()?;
        // Tags of more than one byte do not occur in these messages.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let (digits, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            rest = behind;
            digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
        };
        let (contents, behind) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at_checked(self.0.len() - behind.len())?;
        self.0 = behind;
        Some((tag, contents, whole))
    }

    fn expect(&mut self, tag: u8, part: &'static str) -> Result<&'data [u8], CmsError> {
        match self.next() {
            Some((found, contents, _)) if found == tag => Ok(contents),
            _ => Err(CmsError { part }),
        }
    }

    fn enter(&mut self, tag: u8, part: &'static str) -> Result<Der<'data>, CmsError> {
        self.expect(tag, part).map(Der)
    }

    fn skip_optional(&mut self, tag: u8, part: &'static str) -> Result<bool, CmsError> {
        if self.peek() != Some(tag) {
            return Ok(false);
        }
        self.expect(tag, part).map(|_| true)
    }
}

impl<'data> SignerInfo<'data> {
    /// Reads a ContentInfo with SignedData (RFC 5652); what stands behind it is ignored.
    pub fn read(cms: &'data [u8]) -> Result<SignerInfo<'data>, CmsError> {
        let mut info = Der(cms).enter(SEQUENCE, "ContentInfo")?;
        if info.expect(OBJECT_IDENTIFIER, "content type")? != OID_SIGNED_DATA {
            return Err(CmsError { part: "SignedData type" });
        }
        let mut signed = info.enter(CONTEXT_0, "SignedData")?.enter(SEQUENCE, "SignedData")?;
        signed.expect(INTEGER, "SignedData version")?;
        signed.expect(SET, "digest algorithms")?;
        let mut content = signed.enter(SEQUENCE, "encapsulated content")?;
        content.expect(OBJECT_IDENTIFIER, "encapsulated content type")?;
        let has_content = content.peek().is_some();
        signed.skip_optional(CONTEXT_0, "certificates")?;
        signed.skip_optional(CONTEXT_1, "revocation lists")?;

        let mut signer = signed.enter(SET, "list of signers")?.enter(SEQUENCE, "SignerInfo")?;
        signer.expect(INTEGER, "SignerInfo version")?;
        let (mut issuer, mut issuer_cn, mut serial, mut skid) = (None, None, None, None);
        if signer.peek() == Some(SKID) {
            skid = Some(signer.expect(SKID, "subject key identifier")?);
        } else {
            let mut id = signer.enter(SEQUENCE, "issuer and serial number")?;
            let (tag, name, whole) = id.next().ok_or(CmsError { part: "issuer" })?;
            if tag != SEQUENCE {
                return Err(CmsError { part: "issuer" });
            }
            issuer = Some(whole);
            issuer_cn = common_name(Der(name));
            serial = Some(id.expect(INTEGER, "serial number")?);
        }
        let digest = algorithm(&mut signer, "digest algorithm")?;
        let signed_attributes = signer.skip_optional(CONTEXT_0, "signed attributes")?;
        let algorithm = algorithm(&mut signer, "signature algorithm")?;
        let signature = signer.expect(OCTET_STRING, "signature")?;
        Ok(SignerInfo {
            issuer_cn,
            issuer,
            serial,
            skid,
            digest,
            algorithm,
            signature,
            signed_attributes,
            has_content,
        })
    }
}

fn algorithm<'data>(der: &mut Der<'data>, part: &'static str) -> Result<Oid<'data>, CmsError> {
    der.enter(SEQUENCE, part)?.expect(OBJECT_IDENTIFIER, part).map(Oid)
}

/// The first common name in an issuer name: a sequence of sets of (type, value).
fn common_name(mut name: Der<'_>) -> Option<&[u8]> {
    while let Some((_, set, _)) = name.next() {
        let mut set = Der(set);
        while let Some((_, pair, _)) = set.next() {
            let mut pair = Der(pair);
            if pair.next().is_some_and(|(tag, oid, _)| tag == OBJECT_IDENTIFIER && oid == OID_COMMON_NAME) {
                return pair.next().map(|(_, value, _)| value);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    const EC: &[u8] = include_bytes!("messages/ec.der");
    const RSA_KEYID: &[u8] = include_bytes!("messages/rsa-keyid.der");
    const ATTRIBUTES: &[u8] = include_bytes!("messages/attributes.der");

    // The expected values are what `openssl cms -cmsout -print` shows of the messages.
    #[test]
    fn issuer_and_serial_number() {
        let signer = SignerInfo::read(EC).unwrap();
        assert_eq!(signer.issuer_cn, Some(&b"Test module key"[..]));
        assert_eq!(signer.serial, Some(&[0, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x08][..]));
        assert_eq!(signer.issuer.unwrap()[..2], [0x30, 44], "the whole name, with its tag");
        assert_eq!(signer.issuer.unwrap().len(), 46);
        assert_eq!(signer.skid, None);
        assert_eq!(signer.digest.name(), Some("sha256"));
        assert_eq!(signer.algorithm.name(), Some("ecdsa-with-SHA256"));
        assert_eq!(signer.signature.len(), 71);
        assert_eq!(signer.signature[..4], [0x30, 0x45, 0x02, 0x20]);
        assert!(!signer.signed_attributes && !signer.has_content);
    }

    #[test]
    fn subject_key_identifier() {
        let signer = SignerInfo::read(RSA_KEYID).unwrap();
        assert_eq!((signer.issuer, signer.issuer_cn, signer.serial), (None, None, None));
        let skid = b"\xe7\x5e\xdf\xed\x79\x65\x14\x90\x0a\xa0\x42\x6a\x5d\x17\x8c\xe8\x70\x37\x66\xf1";
        assert_eq!(signer.skid, Some(&skid[..]));
        assert_eq!((signer.digest.name(), signer.algorithm.name()), (Some("sha512"), Some("rsaEncryption")));
        assert_eq!(signer.signature.len(), 128);
    }

    #[test]
    fn contents_certificates_and_attributes() {
        let signer = SignerInfo::read(ATTRIBUTES).unwrap();
        assert!(signer.signed_attributes && signer.has_content);
        assert_eq!(signer.serial, Some(&[0x47, 0x11][..]));
        assert_eq!(signer.digest.name(), Some("sha1"));
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error() {
        for message in [EC, RSA_KEYID, ATTRIBUTES] {
            for length in 0..message.len() {
                assert!(SignerInfo::read(&message[..length]).is_err(), "{length} bytes");
            }
            let longer = [message, b"\0"].concat();
            assert_eq!(SignerInfo::read(&longer).unwrap(), SignerInfo::read(message).unwrap());
        }
    }

    #[test]
    fn a_message_with_any_byte_changed_is_read_or_refused() {
        let mut accepted = 0;
        for message in [EC, RSA_KEYID, ATTRIBUTES] {
            let mut message = Vec::from(message);
            for at in 0..message.len() {
                for flip in 1..=255 {
                    message[at] ^= flip;
                    accepted += usize::from(SignerInfo::read(&message).is_ok());
                    message[at] ^= flip;
                }
            }
        }
        assert!(accepted > 1000, "names and numbers may be anything: {accepted}");
    }

    #[test]
    fn unknown_identifiers_are_written_in_numbers() {
        assert_eq!(Oid(b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02").to_string(), "1.2.840.113549.1.7.2");
        assert_eq!(Oid(b"\x60\x86\x48\x01\x65\x03\x04\x02\x01").to_string(), "sha256");
        assert_eq!(Oid(b"\x88\x37\x03").to_string(), "2.999.3");
        assert_eq!(Oid(b"").to_string(), "");
    }
}
