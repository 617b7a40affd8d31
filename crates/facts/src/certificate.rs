//! X.509 certificates that a kernel trusts.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use x509_cert::der::Decode;
use x509_cert::der::Encode;
use x509_cert::der::oid::db::rfc4519;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

/// One certificate, with what identifies it in a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Common name of whom it is for; empty if it has none.
    pub subject: String,
    /// Common name of who signed it; empty if it has none.
    pub issuer: String,
    /// Serial number in hexadecimal, without the zero byte that only makes it positive.
    pub serial: String,
    /// Subject key identifier in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_id: Option<String>,
    /// The certificate, as DER in hexadecimal.
    pub der: Hex,
}

/// Bytes that are written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Vec<u8>);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> String {
        hex.to_string()
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Hex, &'static str> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = text.as_bytes().chunks_exact(2);
        let even = pairs.remainder().is_empty();
        let bytes: Option<Vec<u8>> = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
        bytes.filter(|_| even).map(Hex).ok_or("no bytes in hexadecimal")
    }
}

impl Certificate {
    /// Reads a certificate in DER. `None` if it is none.
    pub fn from_der(der: &[u8]) -> Option<Certificate> {
        let parsed = x509_cert::Certificate::from_der(der).ok()?;
        let fields = parsed.tbs_certificate();
        let serial = match fields.serial_number().as_bytes() {
            [0, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        let key_id = fields.get_extension::<SubjectKeyIdentifier>().ok().flatten();
        Some(Certificate {
            subject: common_name(fields.subject()),
            issuer: common_name(fields.issuer()),
            serial: Hex(serial.to_vec()).to_string(),
            key_id: key_id.map(|(_, id)| Hex(id.0.as_bytes().to_vec()).to_string()),
            der: Hex(der.to_vec()),
        })
    }

    /// Reads a file: DER, or any number of certificates in PEM.
    pub fn from_file(bytes: &[u8]) -> Vec<Certificate> {
        match x509_cert::Certificate::load_pem_chain(bytes) {
            Ok(chain) => chain
                .iter()
                .filter_map(|certificate| Certificate::from_der(&certificate.to_der().ok()?))
                .collect(),
            Err(_) => Certificate::from_der(bytes).into_iter().collect(),
        }
    }

    /// Every certificate that lies somewhere in an image. The kernel's own list is their DER, one after another.
    pub fn find(image: &[u8]) -> Vec<Certificate> {
        let mut found: Vec<Certificate> = Vec::new();
        let mut at = 0;
        while let Some(next) = image.get(at..).and_then(find_sequence) {
            at += next;
            let length = image
                .get(at + 2..at + 4)
                .map_or(0, |length| usize::from(length[0]) << 8 | usize::from(length[1]));
            let certificate = image.get(at..at + 4 + length).and_then(Certificate::from_der);
            match certificate {
                Some(certificate) => {
                    at += 4 + length;
                    if !found.contains(&certificate) {
                        found.push(certificate);
                    }
                }
                None => at += 1,
            }
        }
        found
    }
}

/// Where the next SEQUENCE in a SEQUENCE starts, both with lengths of two bytes, as certificates do.
fn find_sequence(bytes: &[u8]) -> Option<usize> {
    bytes.windows(6).position(|window| matches!(window, [0x30, 0x82, _, _, 0x30, 0x82]))
}

fn common_name(name: &x509_cert::name::Name) -> String {
    let attributes = name.iter_rdn().flat_map(|set| set.iter());
    let mut names = attributes.filter(|attribute| attribute.oid == rfc4519::CN);
    names.next().map_or(String::new(), |name| String::from_utf8_lossy(name.value.value()).into_owned())
}
