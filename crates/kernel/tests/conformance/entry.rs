//! What the system calls say before they look into the file: who may load, descriptors, compressed files, names.

use lkm_kernel::*;
use lkm_module::Errno;

use crate::world::DEBIAN;
use crate::world::Draft;
use crate::world::UNSIGNED;
use crate::world::World;

#[test]
fn who_may_load() {
    let mut world = World::boot(DEBIAN);
    let file = Draft::new("m").file();
    world.kernel.capabilities.sys_module = false;
    world.refuses(&file, Errno::EPERM, Stage::Entry, "");
    world.kernel.capabilities.sys_module = true;
    world.kernel.options.modules_disabled = true;
    world.refuses(&file, Errno::EPERM, Stage::Entry, "");
    assert_eq!(world.delete("m", 0), Err(Errno::EPERM));
    world.kernel.options.modules_disabled = false;
    world.refuses(b"", Errno::ENOEXEC, Stage::Entry, "");
    world.refuses(&file[..63], Errno::ENOEXEC, Stage::Entry, "");
    world.refuses(
        &[b'#'; 64],
        Errno::ENOEXEC,
        Stage::ElfValidityCheck,
        "<3>Invalid ELF header magic: != \x7fELF\n",
    );
}

#[test]
fn what_finit_module_says_of_descriptors() {
    let file = Draft::new("m").file();
    let regular = FileFacts::regular(file.len() as u64);
    let cases = [
        (FileFacts { open: false, ..regular }, Errno::EBADF, Errno::ENOEXEC),
        (FileFacts { readable: false, ..regular }, Errno::EBADF, Errno::EBADF),
        (FileFacts { regular: false, directory: true, ..regular }, Errno::EINVAL, Errno::EISDIR),
        (FileFacts { size: 0, ..regular }, Errno::EINVAL, Errno::EINVAL),
        (FileFacts { size: 1 << 31, ..regular }, Errno::EFBIG, Errno::EFBIG),
        (FileFacts { size: 4 << 30, ..regular }, Errno::EFBIG, Errno::EFBIG),
    ];
    for (facts, modern, old) in cases {
        for (profile, errno) in [(DEBIAN, modern), ("linux-4.9-arm", modern), ("linux-4.0-arm", old)] {
            let mut world = World::boot(profile);
            let error = finit_module(&mut world.kernel, &mut world.host, &facts, &file, Some(b""), 0);
            assert_eq!(error.expect_err("is refused").errno(), errno, "{profile}: {facts:?}");
        }
    }
    let facts = FileFacts { open_for_writing: true, ..regular };
    let mut world = World::boot(DEBIAN);
    let error = finit_module(&mut world.kernel, &mut world.host, &facts, &file, Some(b""), 0);
    assert_eq!(error.expect_err("is refused").errno(), Errno::ETXTBSY);
    // The flags come before the descriptor.
    let facts = FileFacts { open: false, ..regular };
    let error = finit_module(&mut world.kernel, &mut world.host, &facts, &file, Some(b""), 8);
    assert_eq!(error.expect_err("is refused").reason, Reason::BadFlags(8));
}

#[test]
fn compressed_files() {
    let file = Draft::new("m").file();
    let errno =
        |profile: &str| World::boot(profile).finit(&file, COMPRESSED_FILE).expect_err("refused").errno();
    assert_eq!(errno(DEBIAN), Errno::EOPNOTSUPP);
    assert_eq!(errno("linux-4.9-x86_64"), Errno::EINVAL);
    let mut world = World::boot("debian-6.12-amd64");
    assert_eq!(world.finit(&file, COMPRESSED_FILE).expect_err("refused").errno(), Errno::EINVAL);
    assert_eq!(world.log(), "<3>not an xz compressed module\n");
}

#[test]
fn a_parameter_text_that_cannot_be_read_comes_after_the_taints() {
    let mut world = World::boot(DEBIAN);
    let error = init_module(&mut world.kernel, &mut world.host, &Draft::new("m").file(), None);
    let error = error.expect_err("is refused");
    assert_eq!((error.errno(), error.stage), (Errno::EFAULT, Stage::StrndupUser));
    assert_eq!(world.log(), UNSIGNED);
    assert!(world.kernel.taints.contains(Taints::UNSIGNED_MODULE));
    assert!(world.host.is_clean());
}

#[test]
fn blacklists() {
    let file = Draft::new("m").file();
    let mut world = World::boot(DEBIAN);
    world.kernel.options.module_blacklist = vec!["x".into(), "m".into()];
    world.refuses(&file, Errno::EPERM, Stage::Blacklisted, "<3>Module m is blacklisted\n");
    let mut world = World::boot("linux-4.9-x86_64");
    world.kernel.options.module_blacklist = vec!["m".into()];
    world.refuses(&file, Errno::EPERM, Stage::Blacklisted, "");
    let mut world = World::boot(DEBIAN);
    world.kernel.options.initcall_blacklist = vec!["init_module".into()];
    world.refuses(&file, Errno::EPERM, Stage::DoInitModule, UNSIGNED);
    assert!(world.host.is_clean());
}

#[test]
fn names_for_delete_module() {
    let mut world = World::boot(DEBIAN);
    let long = "x".repeat(55);
    world.accepts(&Draft::new(&long).file(), &UNSIGNED.replace("m:", &format!("{long}:")));
    assert_eq!(world.delete("", 0), Err(Errno::ENOENT));
    assert_eq!(world.delete("absent", 0), Err(Errno::ENOENT));
    assert_eq!(world.delete(&format!("{long}y"), 0), Err(Errno::ENOENT), "too long");
    let fault = delete_module(&mut world.kernel, &mut world.host, None, 0).map_err(|error| error.errno());
    assert_eq!(fault, Err(Errno::EFAULT));
    assert_eq!(world.delete(&long, 0), Ok(()));
    // Older kernels cut the name.
    let mut profile = Profile::by_name(DEBIAN).expect("a profile");
    profile.rules.long_name = lkm_kernel::profile::LongName::Truncate;
    let mut world = World::with(profile);
    world.load(&Draft::new(&long).file()).expect("loads");
    assert_eq!(world.delete(&format!("{long}y"), 0), Ok(()));
}

#[test]
fn nothing_is_removed_without_module_unload() {
    let mut world = World::boot(DEBIAN);
    world.accepts(&Draft::new("m").file(), UNSIGNED);
    world.kernel.profile.link.unload = false;
    assert_eq!(world.delete("m", 0), Err(Errno::ENOSYS));
}

#[test]
fn memory_that_cannot_be_had_or_read() {
    let file = Draft::new("m").file();
    let mut world = World::boot(DEBIAN);
    let len = file.len() as u64;
    for (image, errno) in [
        (UserImage { len: 10, bytes: None }, Errno::ENOEXEC),
        (UserImage { len: 1 << 46, bytes: None }, Errno::ENOMEM),
        (UserImage { len, bytes: None }, Errno::EFAULT),
    ] {
        let error = init_module(&mut world.kernel, &mut world.host, image, Some(b""));
        assert_eq!(error.map_err(|error| (error.errno(), error.stage)), Err((errno, Stage::Entry)));
    }
    let longer = FileFacts::regular(len + 1);
    for (profile, errno) in [(DEBIAN, Some(Errno::EIO)), ("linux-4.0-arm", Some(Errno::ENOEXEC))] {
        let mut world = World::boot(profile);
        let result = finit_module(&mut world.kernel, &mut world.host, &longer, &file, Some(b""), 0);
        assert_eq!(
            result.err().map(|error| error.errno()),
            errno,
            "{profile}: 4.0 goes on to the ELF header"
        );
    }
    world.host.fail_allocation = Some(0);
    assert_eq!(world.finit(&file, 0).expect_err("no memory").errno(), Errno::ENOMEM);
    assert_eq!(world.log(), "");
}

#[test]
fn security_modules_are_asked() {
    let file = Draft::new("m").file();
    let hooks = [
        (Security::LoadModule, true),
        (Security::ModuleLoaded, true),
        (Security::ReadFile, false),
        (Security::FileRead, false),
    ];
    for (hook, by_init_module) in hooks {
        let mut world = World::boot(DEBIAN);
        world.host.refuses = Some((hook, Errno::EPERM));
        let by_memory = init_module(&mut world.kernel, &mut world.host, &file, Some(b""));
        assert_eq!(by_memory.is_err(), by_init_module, "{hook:?}");
        let _ = world.delete("m", 0);
        let by_file = world.finit(&file, 0);
        assert_eq!(by_file.is_err(), !by_init_module, "{hook:?}");
        let error = by_memory.err().or(by_file.err()).expect("one of them");
        assert_eq!(error.reason, Reason::Security { errno: Errno::EPERM });
    }
}

#[test]
fn what_the_kernel_says_of_compressed_files() {
    use DecompressFault::*;
    let gzip = [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], b"stream"].concat();
    let xz = b"\xfd7zXZ\0...".to_vec();
    let zstd = b"\x28\xb5\x2f\xfd\x04\x58......".to_vec();
    let (g, x, z) = (profile::Decompress::Gzip, profile::Decompress::Xz, profile::Decompress::Zstd);
    let invalid = Errno::EINVAL;
    let cases = [
        (g, &gzip, Init(-2), invalid, "<3>failed to initialize decompressor: -2\n"),
        (g, &gzip, Stream(g, -3), invalid, "<3>decompression failed with status -3\n"),
        (g, &gzip, NoMemory, Errno::ENOMEM, ""),
        (g, &xz, NotBuilt, invalid, "<3>not a gzip compressed module\n"),
        (x, &xz, Stream(x, 6), invalid, "<3>decompression failed with status 6\n"),
        (x, &zstd, NotBuilt, invalid, "<3>not an xz compressed module\n"),
        (z, &zstd, Stream(z, 20), invalid, "<3>ZSTD-decompression failed with status 20\n"),
        (z, &zstd, NoStream, Errno::ENOMEM, "<3>Can't initialize ZSTD stream\n"),
        (z, &gzip, NotBuilt, invalid, "<3>not a zstd compressed module\n"),
    ];
    for (format, file, fault, errno, log) in cases {
        let mut profile = Profile::by_name("linux-6.12-x86_64").expect("a profile");
        profile.config.decompress = Some(format);
        let mut world = World::with(profile);
        world.host.unpacked = Err(fault);
        let error = world.finit(file, COMPRESSED_FILE).expect_err("is refused");
        assert_eq!((error.errno(), error.stage, world.log().as_str()), (errno, Stage::Entry, log));
    }
    // The frame's header comes before the decoder.
    for (profile, header, log) in [
        ("linux-6.12-x86_64", &b"\x28\xb5\x2f\xfd\x04"[..], "an incomplete frame header"),
        ("linux-6.12-arm", b"\x28\xb5\x2f\xfd\x04\xa1", "too large a window size"),
        ("linux-6.12-arm", b"\x28\xb5\x2f\xfd\x04\xa8", "an incomplete frame header"),
    ] {
        let mut profile = Profile::by_name(profile).expect("a profile");
        profile.config.decompress = Some(z);
        let mut world = World::with(profile);
        assert_eq!(world.finit(header, COMPRESSED_FILE).expect_err("refused").errno(), Errno::EINVAL);
        assert_eq!(world.log(), format!("<3>ZSTD-compressed data has {log}\n"));
    }
    // What comes out goes the way of every file.
    let mut world = World::boot("debian-6.12-amd64");
    world.host.unpacked =
        Ok(b"text, and no module, but longer than the header of a module has to be.".to_vec());
    let error = world.finit(&xz, COMPRESSED_FILE).expect_err("is no module");
    assert_eq!((error.errno(), error.stage), (Errno::ENOEXEC, Stage::ElfValidityCheck));
}
