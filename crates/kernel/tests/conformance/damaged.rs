//! Damaged modules leave nothing behind.

use std::ops::Range;

use lkm_kernel::*;

use crate::world::DEBIAN;
use crate::world::Draft;
use crate::world::World;

/// Bytes of a file that are worth changing: headers of sections and the ELF header itself.
fn interesting(file: &[u8]) -> Vec<Range<usize>> {
    let headers = u64::from_le_bytes(file[40..48].try_into().expect("eight bytes")) as usize;
    vec![0..64, headers..file.len(), 64..headers.min(file.len())]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_modules_leave_nothing(changes in proptest::collection::vec((0usize..3, 0usize..1 << 20, 0u8..=255), 1..6)) {
        let draft = Draft::new("m").import("plain", 1).export("mine", false, None).export("yours", true, Some("S"));
        let mut file = draft.file();
        let places = interesting(&file);
        for (area, at, value) in changes {
            let place = places[area].clone();
            if !place.is_empty() {
                file[place.start + at % place.len()] = value;
            }
        }
        for profile in [DEBIAN, "debian-6.12-amd64", "linux-4.9-x86_64", "linux-6.12-x86_64"] {
            let mut world = World::boot(profile);
            world.host.stand_ins = true;
            if let Ok(id) = world.load(&file) {
                let _ = (world.kernel.proc_modules(), world.kernel.proc_kallsyms());
                proptest::prop_assert!(delete_module_by_id(&mut world.kernel, &mut world.host, id, O_TRUNC).is_ok() || world.kernel.modules().count() == 1);
            } else {
                proptest::prop_assert_eq!(world.kernel.modules().count(), 0);
                proptest::prop_assert!(world.host.is_clean());
            }
        }
    }
}
