//! `.modinfo`: what the module says of itself, as `tag=value` strings.

use crate::elf::Elf;

/// The strings of a `.modinfo` section, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modinfo<'data> {
    bytes: &'data [u8],
}

/// One string of a `.modinfo` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'data> {
    /// What stands before the first `=`.
    pub name: &'data [u8],
    /// What stands behind it; `None` if there is no `=`.
    pub value: Option<&'data [u8]>,
}

impl<'data> Modinfo<'data> {
    /// Contents of the section.
    pub const fn new(bytes: &'data [u8]) -> Modinfo<'data> {
        Modinfo { bytes }
    }

    /// The `.modinfo` of a file; without one (it must be `SHF_ALLOC`) every tag is absent, as in the kernel.
    pub fn of(elf: &Elf<'data>) -> Modinfo<'data> {
        let bytes = elf.find_sec(b".modinfo").and_then(|index| elf.section_data(index));
        Modinfo { bytes: bytes.unwrap_or(&[]) }
    }

    /// Contents of the section.
    pub const fn bytes(&self) -> &'data [u8] {
        self.bytes
    }

    /// The strings, separated by one NUL or more; the last ends with the section.
    pub fn strings(&self) -> impl Iterator<Item = &'data [u8]> + Clone + use<'data> {
        self.bytes.split(|&byte| byte == 0).filter(|string| !string.is_empty())
    }

    /// The strings, each divided at its first `=`.
    pub fn iter(&self) -> impl Iterator<Item = Tag<'data>> + Clone + use<'data> {
        self.strings().map(|string| match string.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                let (name, rest) = string.split_at(at);
                Tag { name, value: rest.get(1..) }
            }
            None => Tag { name: string, value: None },
        })
    }

    /// The kernel's `get_modinfo`: value of the first string that starts with the tag and `=`.
    pub fn get(&self, tag: &[u8]) -> Option<&'data [u8]> {
        self.strings().find_map(|string| value_of(string, tag))
    }

    /// The values of all strings that start with the tag and `=`, in their order (`get_next_modinfo`).
    pub fn get_all<'tag>(&self, tag: &'tag [u8]) -> impl Iterator<Item = &'data [u8]> + use<'data, 'tag> {
        self.strings().filter_map(move |string| value_of(string, tag))
    }
}

fn value_of<'data>(string: &'data [u8], tag: &[u8]) -> Option<&'data [u8]> {
    string.strip_prefix(tag)?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_first_match_wins_and_padding_is_skipped() {
        let info = Modinfo::new(
            b"\0\0name=a\0\0\0license=GPL\0author=x=y\0bare\0author=z\0namely=no\0name=b\0cut=of",
        );
        assert_eq!(info.get(b"name"), Some(&b"a"[..]));
        assert_eq!(info.get(b"nam"), None);
        assert_eq!(info.get(b"bare"), None);
        assert_eq!(info.get(b"cut"), Some(&b"of"[..]));
        assert_eq!(info.get_all(b"author").collect::<Vec<_>>(), [&b"x=y"[..], b"z"]);
        let names: Vec<_> = info.iter().map(|tag| tag.name).collect();
        assert_eq!(
            names,
            [&b"name"[..], b"license", b"author", b"bare", b"author", b"namely", b"name", b"cut"]
        );
        assert_eq!(info.iter().nth(3), Some(Tag { name: b"bare", value: None }));
    }

    #[test]
    fn a_tag_with_an_equals_sign_matches_as_a_prefix_does() {
        // The kernel compares the tag's bytes and then one '=': a tag may itself contain one.
        let info = Modinfo::new(b"parm=debug=0\0");
        assert_eq!(info.get(b"parm=debug"), Some(&b"0"[..]));
    }

    #[test]
    fn no_bytes_have_no_tags() {
        assert_eq!(Modinfo::default().get(b"name"), None);
        assert_eq!(Modinfo::new(&[0; 9]).iter().count(), 0);
    }
}
