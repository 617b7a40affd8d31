//! Names of modules and aliases, as everything in a module directory compares them.

/// The name with `_` for every `-`, but what is between `[` and `]` as it is: there a `-` is a range. `None` if the
/// brackets do not pair.
///
/// Every key of an index and every name in a configuration has this form, so a name is brought to it before it is
/// looked up.
///
/// ```
/// use lkm_tree::name::underscores;
///
/// assert_eq!(underscores(b"snd-pcm").as_deref(), Some(b"snd_pcm".as_slice()));
/// assert_eq!(underscores(b"usb:v-[a-c]-*").as_deref(), Some(b"usb:v_[a-c]_*".as_slice()));
/// assert_eq!(underscores(b"a[b"), None);
/// ```
pub fn underscores(name: &[u8]) -> Option<Vec<u8>> {
    let mut result = name.to_vec();
    make_underscores(&mut result).then_some(result)
}

/// [`underscores`] where the name is; false if the brackets do not pair.
pub(crate) fn make_underscores(name: &mut [u8]) -> bool {
    let mut inside = false;
    for byte in name {
        match (inside, *byte) {
            (true, b']') => inside = false,
            (true, _) => {}
            (false, b'[') => inside = true,
            (false, b']') => return false,
            (false, b'-') => *byte = b'_',
            (false, _) => {}
        }
    }
    !inside
}
