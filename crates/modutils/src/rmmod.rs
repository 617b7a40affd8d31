//! `rmmod`: unloads modules, after asking the kernel why it would refuse.

use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use lkm_module::Errno;
use lkm_syscall::DeleteFlags;

use crate::Context;
use crate::command;
use crate::command::Command;
use crate::explain;
use crate::explain::Attempt;
use crate::getopt::Spec;
use crate::module_name;
use crate::path::base_name;

pub(crate) const COMMAND: Command = Command {
    name: "rmmod",
    about: "unload modules",
    synopsis: &["[options] modulename ..."],
    description: "Unloads modules, named by their names or by their files, after asking why the kernel would refuse: the module is
not loaded, built in, or in use, and by whom. One that stays does not keep the others from being unloaded; the exit
code is 0 only if all of them are gone.

Behind the message of a refusal stand lines that begin with two blanks: cause: and why, try: and what to do about it.
MODUTILS_STYLE=kmod in the environment leaves them out.",
    options: OPTIONS,
    run,
};

const OPTIONS: &[Spec] = &[
    Spec::flag(
        b'f',
        "force",
        "unloads a module that is in use or has no exit\nfunction, if the kernel was built to allow it.\n\
         The machine may crash: DANGEROUS",
    ),
    command::SYSLOG,
    command::VERBOSE,
    command::VERSION,
    command::HELP,
];

pub(crate) fn run(context: &mut Context<'_>, args: &[OsString]) -> u8 {
    let parsed = match COMMAND.parse(context, args) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let force = if parsed.options.is_empty() { DeleteFlags::empty() } else { DeleteFlags::FORCE };
    let flags = DeleteFlags::NONBLOCK | force;
    let names = parsed.operands;
    if names.is_empty() {
        context.error(&[b"missing module name."]);
        return 1;
    }
    // One module that stays does not keep the others from being unloaded.
    let failures = names.iter().filter(|name| !remove(context, name, flags)).count();
    u8::from(failures > 0)
}

/// Unloads one module, named by its name or its file. False if it stays.
fn remove(context: &mut Context<'_>, given: &OsStr, flags: DeleteFlags) -> bool {
    let is_file = std::fs::metadata(given).is_ok();
    let name = module_name(if is_file { base_name(given.as_bytes()) } else { given.as_bytes() });
    if !flags.contains(DeleteFlags::FORCE) && !may_be_removed(context, &name) {
        explain::refusal(context, Attempt::NotRemoved(&name));
        return false;
    }
    context.info(&[b"delete_module '", &name, b"'"]);
    let result = match CString::new(name.clone()) {
        Ok(c_name) => context.kernel.delete_module(&c_name, flags),
        Err(_) => Err(Errno::ENOENT),
    };
    if let Err(errno) = result {
        let text = errno.text().as_bytes();
        context.error(&[b"could not remove '", &name, b"': ", text]);
        context.error(&[b"could not remove module ", given.as_bytes(), b": ", text]);
        explain::refusal(context, Attempt::Remove(&name, errno));
    }
    result.is_ok()
}

/// Says why a module cannot be unloaded, where that can be known before.
fn may_be_removed(context: &mut Context<'_>, name: &[u8]) -> bool {
    let kernel = context.kernel;
    if kernel.module_attribute(name, "initstate").is_err() {
        // A directory without a state is that of parameters which the kernel itself has.
        if kernel.has_module(name) || is_builtin(context, name) {
            context.error(&[b"Module ", name, b" is builtin."]);
        } else {
            context.error(&[b"Module ", name, b" is not currently loaded"]);
        }
        return false;
    }
    let holders = kernel.holders(name).unwrap_or_default();
    if !holders.is_empty() {
        context.error(&[b"Module ", name, b" is in use by: ", &holders.join(&b' ')]);
        return false;
    }
    let references = match kernel.module_attribute(name, "refcnt") {
        Ok(references) => references,
        Err(Errno::ENOENT) => {
            context.error(&[b"Module unloading is not supported"]);
            return false;
        }
        // The kernel will say.
        Err(_) => return true,
    };
    let used = std::str::from_utf8(&references).ok().and_then(|count| count.parse().ok()).unwrap_or(0i64) > 0;
    if used {
        context.error(&[b"Module ", name, b" is in use"]);
    }
    !used
}

/// Whether the running kernel's `modules.builtin` lists the module.
fn is_builtin(context: &Context<'_>, name: &[u8]) -> bool {
    let root = std::path::Path::new(context.module_root);
    let release = context.kernel.release();
    let list = std::fs::read(root.join(OsStr::from_bytes(&release)).join("modules.builtin"));
    list.unwrap_or_default().split(|&byte| byte == b'\n').any(|line| module_name(base_name(line)) == name)
}

#[cfg(test)]
mod tests {
    use crate::testing::Fake;
    use crate::testing::FakeModule;
    use lkm_module::Errno;

    fn fake() -> Fake {
        let loaded =
            |name: &str, refcnt: &str| FakeModule::new(name, &[("initstate", "live"), ("refcnt", refcnt)]);
        let mut held = loaded("held", "1");
        held.holders = vec!["b".into(), "a".into()];
        Fake {
            sysfs: vec![
                loaded("free_one", "0"),
                held,
                loaded("used", "2"),
                FakeModule::new("printk", &[]),
                FakeModule::new("fixed", &[("initstate", "live")]),
            ],
            ..Fake::default()
        }
    }

    #[test]
    fn each_module_has_its_answer_and_none_stops_the_others() {
        let args = ["rmmod", "held", "used", "printk", "fixed", "absent", "free-one.ko", "built-in"];
        let (code, out, err) = fake().run(&args);
        assert_eq!((code, out.as_str()), (1, ""));
        let expected = "\
rmmod: ERROR: Module held is in use by: b a
rmmod: ERROR: Module used is in use
rmmod: ERROR: Module printk is builtin.
rmmod: ERROR: Module unloading is not supported
rmmod: ERROR: Module absent is not currently loaded
rmmod: ERROR: Module built_in is builtin.
";
        let root = std::env::temp_dir().join(format!("modutils-rmmod-{}", std::process::id()));
        std::fs::create_dir_all(root.join("6.1.0-test")).unwrap();
        std::fs::write(root.join("6.1.0-test/modules.builtin"), "kernel/a.ko\nkernel/x/built-in.ko\n")
            .unwrap();
        let fake = Fake { module_root: root.to_str().unwrap().into(), ..fake() };
        assert_eq!(err, expected.replace("built_in is builtin.", "built_in is not currently loaded"));
        assert_eq!(fake.run(&args), (1, String::new(), expected.into()));
        std::fs::remove_dir_all(root).unwrap();
        assert_eq!(*fake.calls.borrow(), ["delete free_one 4000"]);
    }

    #[test]
    fn force_asks_the_kernel_only() {
        let fake = Fake { answers: vec![Err(Errno::EBUSY), Ok(())], ..fake() };
        let (code, _, err) = fake.run(&["rmmod", "-f", "held-x", "used"]);
        let expected = "\
rmmod: ERROR: could not remove 'held_x': Device or resource busy
rmmod: ERROR: could not remove module held-x: Device or resource busy
";
        assert_eq!((code, err.as_str()), (1, expected));
        assert_eq!(*fake.calls.borrow(), ["delete held_x 5000", "delete used 5000"]);
    }

    #[test]
    fn success_is_silent_unless_asked() {
        assert_eq!(fake().run(&["rmmod", "free-one"]), (0, String::new(), String::new()));
        let told = "rmmod: INFO: delete_module 'free_one'\n".to_owned();
        assert_eq!(fake().run(&["rmmod", "-v", "free-one"]), (0, String::new(), told));
    }
}
