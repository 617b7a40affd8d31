//! `load_module()` and `delete_module()` on a host that keeps books only.

use std::hint::black_box;
use std::sync::LazyLock;

use lkm_kernel::Bookkeeper;
use lkm_kernel::Kernel;
use lkm_kernel::Profile;
use lkm_kernel::Standard;
use lkm_kernel::delete_module;
use lkm_kernel::init_module;
use lkm_link::Arch;

/// A module with a parameter of every type.
const PARAMS: [(&str, &[u8]); 2] = [
    ("debian-6.1-amd64", include_bytes!("../../fixtures/x86_64/params.ko")),
    ("debian-6.1-armmp", include_bytes!("../../fixtures/arm/params.ko")),
];

static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(Profile::all);

/// Loads the bytes into each kernel of the architecture that they name, and removes what was loaded. A kernel that has
/// refused them is as it was before.
pub fn load(data: &[u8]) {
    let Some(&[low, high]) = data.get(18..20) else { return };
    let arch = Arch::from_machine(u16::from_le_bytes([low, high]));
    for profile in PROFILES.iter().filter(|profile| Some(profile.arch) == arch) {
        try_load(profile, data, b"");
    }
}

/// Loads a module that has a parameter of every type with the bytes as its parameter text.
pub fn parameters(data: &[u8]) {
    for (name, file) in PARAMS {
        if let Some(profile) = PROFILES.iter().find(|profile| profile.name == name) {
            try_load(profile, file, data);
        }
    }
}

fn try_load(profile: &Profile, file: &[u8], args: &[u8]) {
    let mut host = Bookkeeper::new(profile);
    host.stand_ins = true;
    for (index, (_, name)) in Standard::ALL.iter().enumerate() {
        host.export(name.as_bytes(), 0x6000_0000 + 64 * index as u64, None, false, b"");
    }
    let mut kernel = Kernel::new(profile.clone());
    match init_module(&mut kernel, &mut host, file, Some(args)) {
        Ok(id) => {
            black_box(kernel.proc_modules());
            let name = kernel.module(id).map(|module| module.name.clone()).unwrap_or_default();
            let _ = black_box(delete_module(&mut kernel, &mut host, Some(&name), 0));
        }
        Err(error) => {
            black_box(error.to_string());
            assert!(host.is_clean(), "memory is left behind by: {error}");
            assert_eq!(kernel.modules().count(), 0, "a module is left behind by: {error}");
        }
    }
    black_box(host.log_text());
}
