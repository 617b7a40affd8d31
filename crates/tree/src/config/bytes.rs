//! The pieces of lines, of which there are many small ones.

use std::fmt;
use std::ops::Deref;

/// Bytes that are kept in place if there are few of them: most names and options are short, and a configuration is read
/// at every call of `modprobe`.
#[derive(Clone)]
pub struct Bytes(Kept);

const IN_PLACE: usize = 30;

#[derive(Clone)]
enum Kept {
    Here(u8, [u8; IN_PLACE]),
    Elsewhere(Box<[u8]>),
}

impl Bytes {
    /// All of them.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Kept::Here(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Kept::Elsewhere(bytes) => bytes,
        }
    }

    /// All of them, to be changed.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Kept::Here(length, bytes) => bytes.get_mut(..usize::from(*length)).unwrap_or_default(),
            Kept::Elsewhere(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        let mut here = [0; IN_PLACE];
        match (here.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(bytes);
                Bytes(Kept::Here(length, here))
            }
            _ => Bytes(Kept::Elsewhere(bytes.into())),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bytes {}

impl<const N: usize> PartialEq<&[u8; N]> for Bytes {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.as_slice() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_bytes_are_the_same_to_whoever_reads_them() {
        for length in [0, 1, IN_PLACE - 1, IN_PLACE, IN_PLACE + 1, 255, 256, 5000] {
            let bytes: Vec<u8> = (0..length).map(|number| number as u8).collect();
            let mut kept = Bytes::from(&bytes[..]);
            assert_eq!(*kept, bytes[..]);
            assert_eq!(kept.as_mut_slice(), &bytes[..]);
            assert_eq!(kept, kept.clone());
            assert_ne!(kept, Bytes::from(&[&bytes[..], b"x"].concat()[..]));
        }
        assert_eq!(format!("{:?}", Bytes::from(&b"a\n"[..])), "b\"a\\n\"");
    }
}
