//! Modules whose init function loads and removes other modules.

use lkm_kernel::*;
use lkm_link::Region;
use lkm_module::Errno;
use lkm_module::Level;

use crate::world::DEBIAN;
use crate::world::Draft;
use crate::world::World;

/// What a nested call of an init function did.
#[derive(Default)]
struct Seen {
    proc_modules: String,
    results: Vec<Result<ModuleId, LoadError>>,
    delete: Option<Result<(), Errno>>,
}

/// A host whose modules load modules from their init functions.
struct Nested {
    inner: Bookkeeper,
    files: Vec<Vec<u8>>,
    delete: Option<&'static str>,
    seen: Seen,
    waits: usize,
}

impl Host for Nested {
    type Memory = Vec<u8>;

    fn module_alloc(&mut self, kind: RegionKind, size: u64) -> Option<(u64, Vec<u8>)> {
        self.inner.module_alloc(kind, size)
    }
    fn module_commit(&mut self, region: Region<Vec<u8>>) {
        self.inner.module_commit(region);
    }
    fn module_free(&mut self, base: u64) {
        self.inner.module_free(base);
    }
    fn protect(&mut self, base: u64, size: u64, permissions: Permissions) {
        self.inner.protect(base, size, permissions);
    }
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.inner.read(address, bytes)
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.inner.write(address, bytes)
    }
    fn kmalloc(&mut self, size: u64) -> Option<u64> {
        self.inner.kmalloc(size)
    }
    fn kfree(&mut self, address: u64) {
        self.inner.kfree(address);
    }
    fn percpu_alloc(&mut self, size: u64, align: u64) -> Option<u64> {
        self.inner.percpu_alloc(size, align)
    }
    fn percpu_copy(&mut self, cookie: u64, template: &[u8]) {
        self.inner.percpu_copy(cookie, template);
    }
    fn percpu_free(&mut self, cookie: u64) {
        self.inner.percpu_free(cookie);
    }
    fn copy_address(&mut self, size: u64) -> u64 {
        self.inner.copy_address(size)
    }
    fn kernel_export(&self, name: &[u8]) -> Option<KernelExport<'_>> {
        self.inner.kernel_export(name)
    }
    fn call(&mut self, kernel: &mut Kernel, callee: Callee, _: u64, _: &[u64]) -> Result<u64, CallError> {
        if callee == Callee::Init {
            self.seen.proc_modules = kernel.proc_modules();
            if let Some(name) = self.delete.take() {
                let result = delete_module(kernel, self, Some(name.as_bytes()), 0);
                self.seen.delete = Some(result.map_err(|error| error.errno()));
            }
            for file in std::mem::take(&mut self.files) {
                let result = init_module(kernel, self, &file, Some(b""));
                self.seen.results.push(result);
            }
        }
        Ok(0)
    }
    fn wait(&mut self, _: &mut Kernel, _: &[u8]) -> bool {
        self.waits += 1;
        false
    }
    fn log(&mut self, level: Level, line: std::fmt::Arguments<'_>) {
        self.inner.log(level, line);
    }
}

fn nested(files: Vec<Vec<u8>>, delete: Option<&'static str>) -> (Kernel, Nested) {
    let World { kernel, host } = World::boot(DEBIAN);
    (kernel, Nested { inner: host, files, delete, seen: Seen::default(), waits: 0 })
}

#[test]
fn a_module_is_seen_coming_while_its_init_runs() {
    let inner = Draft::new("inner").file();
    let (mut kernel, mut host) = nested(vec![inner], Some("outer"));
    let outer = Draft::new("outer").export("mine", false, None).file();
    let id = init_module(&mut kernel, &mut host, &outer, Some(b"")).expect("loads");
    assert_eq!(host.seen.delete, Some(Err(Errno::EBUSY)), "a module that is coming cannot go");
    assert!(host.seen.results.iter().all(Result::is_ok));
    // init of `inner` saw both; the flags show the state.
    let lines: Vec<_> = host.seen.proc_modules.lines().collect();
    assert!(lines[0].starts_with("inner ") && lines[0].contains(" 1 - Loading 0x"), "{lines:?}");
    assert!(lines[0].ends_with(" (E+)") && lines[1].starts_with("outer "), "{lines:?}");
    let during: u64 = lines[1].split(' ').nth(1).and_then(|size| size.parse().ok()).expect("a size");
    let core = kernel.module(id).expect("is loaded").core_size();
    assert!(during > core, "the init part counts while it is there");
    assert!(kernel.proc_modules().contains(&format!("outer {core} 0 - Live ")));
}

#[test]
fn a_symbol_of_a_module_that_is_coming_is_waited_for() {
    let user = Draft::new("user").import("mine", 0x77).file();
    let (mut kernel, mut host) = nested(vec![user], None);
    let outer = Draft::new("outer").export("mine", false, None).file();
    init_module(&mut kernel, &mut host, &outer, Some(b"")).expect("loads");
    let error = host.seen.results[0].as_ref().expect_err("its exporter is not ready");
    assert_eq!((error.errno(), error.stage), (Errno::EBUSY, Stage::SimplifySymbols));
    assert_eq!(host.waits, 1);
    let log = host.inner.log_text();
    assert!(
        log.contains(
            "<4>user: gave up waiting for init of module outer.\n<4>user: Unknown symbol mine (err -16)\n"
        ),
        "{log}"
    );
    assert_eq!(kernel.modules().count(), 1);
}

#[test]
fn a_name_that_is_coming_is_waited_for() {
    let (mut kernel, mut host) = nested(vec![Draft::new("m").file()], None);
    init_module(&mut kernel, &mut host, &Draft::new("m").file(), Some(b"")).expect("loads");
    let error = host.seen.results[0].as_ref().expect_err("its name is taken");
    assert_eq!((&error.reason, error.stage), (&Reason::Interrupted, Stage::AddUnformedModule));
    assert_eq!(host.waits, 1);
    assert_eq!(kernel.modules().count(), 1);
}
