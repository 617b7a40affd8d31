//! The committed modules, loaded and removed on a host that keeps books only.

use std::path::Path;

use lkm_kernel::Bookkeeper;
use lkm_kernel::Callee;
use lkm_kernel::Kernel;
use lkm_kernel::ModuleId;
use lkm_kernel::Profile;
use lkm_kernel::Standard;
use lkm_kernel::delete_module;
use lkm_kernel::init_module;

const ARCHES: [(&str, &str); 2] = [("x86_64", "debian-6.1-amd64"), ("arm", "debian-6.1-armmp")];

fn fixture(arch: &str, name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(arch).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A kernel of a profile, and a host that exports the operations of the standard parameter types.
fn boot(profile: &str) -> (Kernel, Bookkeeper) {
    let profile = Profile::by_name(profile).expect("a known profile");
    let mut host = Bookkeeper::new(&profile);
    host.stand_ins = true;
    for (index, (_, name)) in Standard::ALL.iter().enumerate() {
        host.export(name.as_bytes(), 0x6000_0000 + 64 * index as u64, None, false, b"");
    }
    (Kernel::new(profile), host)
}

fn load(kernel: &mut Kernel, host: &mut Bookkeeper, arch: &str, name: &str, args: &str) -> ModuleId {
    let file = fixture(arch, name);
    match init_module(kernel, host, &file, Some(args.as_bytes())) {
        Ok(id) => id,
        Err(error) => panic!("{arch}/{name}: {error}\n{}", host.log_text()),
    }
}

#[test]
fn hello_comes_and_goes() {
    for (arch, profile) in ARCHES {
        let (mut kernel, mut host) = boot(profile);
        let id = load(&mut kernel, &mut host, arch, "hello.ko", "");
        let module = kernel.module(id).expect("is loaded");
        assert_eq!(module.name, b"hello");
        assert_eq!(module.refcount(), 0);
        assert_eq!(module.init_size(), 0);
        let init = module.init.expect("has an init function");
        assert_eq!(host.calls, [(Callee::Init, init, vec![])]);
        let line = kernel.proc_modules();
        assert!(line.starts_with("hello ") && line.contains(" 0 - Live 0x"), "{line}");

        delete_module(&mut kernel, &mut host, Some(b"hello"), 0).expect("goes");
        assert!(matches!(host.calls.last(), Some((Callee::Exit, _, _))));
        assert_eq!(kernel.proc_modules(), "");
        assert!(host.is_clean());
    }
}
