//! The indexes that `depmod` leaves in `/lib/modules/VERSION`.
//!
//! [`binary`] is the trie of the `.bin` files, which every look-up uses; [`text`] are the files beside them, which scripts
//! and boot images read.

pub mod binary;
pub mod text;
