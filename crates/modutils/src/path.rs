//! Names of modules and of their files.

/// What stands behind the last `/`.
pub(crate) fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// The kernel's form of a module's name: up to the first dot, with `_` for `-`.
///
/// ```
/// assert_eq!(modutils::module_name(b"snd-hda-intel.ko.xz"), b"snd_hda_intel");
/// ```
pub fn module_name(name: &[u8]) -> Vec<u8> {
    let stem = name.split(|&byte| byte == b'.').next().unwrap_or(name);
    stem.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect()
}

/// Whether a file is named as a module is, compressed or not.
pub(crate) fn is_module_file_name(path: &[u8]) -> bool {
    [&b".ko"[..], b".ko.gz", b".ko.xz", b".ko.zst"].iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(base_name(b"/lib/a.ko"), b"a.ko");
        assert_eq!(base_name(b"a.ko"), b"a.ko");
        assert_eq!(base_name(b""), b"");
        assert_eq!(module_name(b"foo-bar.baz.ko"), b"foo_bar");
        assert_eq!(module_name(b"a/b.ko"), b"a/b");
        assert!(is_module_file_name(b"./a.ko.zst") && !is_module_file_name(b"a.ko.bz2"));
    }
}
