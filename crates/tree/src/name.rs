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
    let mut inside = false;
    let mut result = name.to_vec();
    for byte in &mut result {
        match (inside, *byte) {
            (true, b']') => inside = false,
            (true, _) => {}
            (false, b'[') => inside = true,
            (false, b']') => return None,
            (false, b'-') => *byte = b'_',
            (false, _) => {}
        }
    }
    (!inside).then_some(result)
}
