//! One file, loaded by two at the same time: the second gets the result of the first (from 6.5).

use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;

use lkm_kernel::*;
use lkm_link::Region;
use lkm_module::Errno;
use lkm_module::Level;

use crate::world::Draft;
use crate::world::World;

const NEW: &str = "debian-6.12-amd64";
const FILE: u64 = 4711;

/// A process that shares the kernel with another: only one of the two runs, and hands the books over when it sleeps.
struct Process {
    inner: Bookkeeper,
    to_other: Sender<Kernel>,
    from_other: Receiver<Kernel>,
    /// Sleeps in its init function.
    sleeps_in_init: bool,
    /// A signal ends its wait for a file.
    signal: bool,
    waited: usize,
}

impl Process {
    /// Lets the other run until that one sleeps or ends.
    fn sleep(&mut self, kernel: &mut Kernel) {
        let placeholder = Kernel::new(kernel.profile.clone());
        self.to_other.send(std::mem::replace(kernel, placeholder)).expect("the other is there");
        *kernel = self.from_other.recv().expect("the other gives the books back");
    }
}

impl Host for Process {
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
    fn call(
        &mut self,
        kernel: &mut Kernel,
        callee: Callee,
        address: u64,
        arguments: &[u64],
    ) -> Result<u64, CallError> {
        if callee == Callee::Init && self.sleeps_in_init {
            self.sleep(kernel);
        }
        self.inner.call(kernel, callee, address, arguments)
    }
    fn wait_for_file(&mut self, kernel: &mut Kernel, inode: u64) -> bool {
        assert_eq!(inode, FILE);
        self.waited += 1;
        if self.signal {
            return false;
        }
        self.sleep(kernel);
        true
    }
    fn log(&mut self, level: Level, line: std::fmt::Arguments<'_>) {
        self.inner.log(level, line);
    }
}

fn draft() -> Draft {
    let mut draft =
        Draft::new("m").tag("vermagic", "6.12.117+deb12-cloud-amd64 SMP preempt mod_unload modversions ");
    draft.size = 0x500;
    draft
}

/// Two load the same file, the second while the first is in its init function, which returns `value`: what both get, and
/// the kernel afterwards.
fn both(value: u64, signal: bool, flags: u32) -> ([Result<ModuleId, LoadError>; 2], Kernel, usize) {
    let file = draft().file();
    let facts = FileFacts { inode: Some(FILE), ..FileFacts::regular(file.len() as u64) };
    let (to_second, from_first) = channel();
    let (to_first, from_second) = channel();
    let World { mut kernel, host } = World::boot(NEW);
    let process = |to_other, from_other| Process {
        inner: host.clone(),
        to_other,
        from_other,
        sleeps_in_init: false,
        signal,
        waited: 0,
    };
    let mut first = Process { sleeps_in_init: true, ..process(to_second, from_second) };
    first.inner.results = vec![Some(value)];
    let mut second = process(to_first, from_first);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut kernel = second.from_other.recv().expect("the first sleeps");
            // Parameters and flags of the second do not count.
            let result = finit_module(&mut kernel, &mut second, &facts, &file, Some(b"unknown=1"), flags);
            let _ = second.to_other.send(kernel);
            (result, second.waited)
        });
        let mine = finit_module(&mut kernel, &mut first, &facts, &file, Some(b""), 0);
        if !signal {
            first.sleep(&mut kernel);
        }
        let (theirs, waited) = other.join().expect("the second ends");
        ([mine, theirs], kernel, waited)
    })
}

#[test]
fn the_second_gets_the_result_of_the_first() {
    let ([mine, theirs], kernel, waited) = both(0, false, IGNORE_VERMAGIC);
    assert_eq!(waited, 1);
    assert_eq!(mine, theirs);
    let id = theirs.expect("both have loaded it");
    assert_eq!(kernel.modules().count(), 1);
    assert_eq!(kernel.module(id).map(|module| module.state), Some(State::Live));
    assert!(!kernel.taints.contains(Taints::FORCED_MODULE), "the second's flags do not count");
}

#[test]
fn a_failure_is_shared_too() {
    let ([mine, theirs], kernel, _) = both(-19_i64 as u64, false, 0);
    assert_eq!(mine, theirs);
    let error = theirs.expect_err("the init function failed for both");
    assert_eq!((error.returned(), error.stage), (-19, Stage::DoInitModule));
    assert_eq!(kernel.modules().count(), 0);
}

#[test]
fn a_signal_ends_the_wait() {
    let ([mine, theirs], kernel, _) = both(0, true, 0);
    assert!(mine.is_ok());
    let error = theirs.expect_err("interrupted");
    assert_eq!((error.errno(), error.stage), (Errno::EINTR, Stage::Entry));
    assert_eq!(kernel.modules().count(), 1);
}

#[test]
fn afterwards_and_before_6_5_a_file_is_a_file() {
    let file = draft().file();
    let facts = FileFacts { inode: Some(FILE), ..FileFacts::regular(file.len() as u64) };
    let mut world = World::boot(NEW);
    let mut load = |flags| finit_module(&mut world.kernel, &mut world.host, &facts, &file, Some(b""), flags);
    assert!(load(0).is_ok());
    assert_eq!(load(0).expect_err("is loaded").errno(), Errno::EEXIST);
    assert_eq!(load(COMPRESSED_FILE).expect_err("not xz").errno(), Errno::EINVAL);
    assert_eq!(load(0).expect_err("is loaded").errno(), Errno::EEXIST);
    assert!(!Profile::by_name("debian-6.1-amd64").expect("a profile").rules.idempotent);
}
