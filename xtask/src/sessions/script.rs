//! The guest's PID 1: a shell script that does all cases and sends what came out.

use super::case::Case;

/// The line before what is sent, and the one after it.
pub(crate) const BEGIN: &str = "=====BEGIN RESULTS=====";
pub(crate) const END: &str = "=====END RESULTS=====";

/// Where the files of the cases are; the working directory of each.
pub(crate) const FILES: &str = "f";

/// The programs of busybox that the cases and the script use.
pub(crate) const APPLETS: &[&str] = &[
    "awk", "base64", "basename", "cat", "chmod", "cp", "cut", "dmesg", "env", "false", "find", "grep",
    "gzip", "head", "ln", "ls", "md5sum", "mkdir", "mount", "mv", "poweroff", "readlink", "rm", "sed",
    "sleep", "sort", "su", "tail", "tar", "timeout", "touch", "tr", "true", "umount", "uname", "wc",
];

const START: &str = r#"#!/bin/sh
PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
ln -s /proc/self/fd /dev/fd
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount -t tmpfs tmpfs /tmp
mkdir /r
exec </dev/null >/dev/console 2>&1
V=$(uname -r)
cd /f

# The parameters of a module as sysfs has them.
parameters() {
    for file in /sys/module/$1/parameters/*; do
        { read -r value <"$file"; } 2>/dev/null && echo "${file##*/}=$value"
    done
    return 0
}

# A line for a file in /etc/modprobe.d.
config() {
    echo "$1" >>/etc/modprobe.d/${2:-case}.conf
}

# Takes back what a case left.
clean() {
    for file in /etc/modprobe.d/*; do
        [ -e "$file" ] && rm "$file"
    done
    for round in 1 2 3; do
        read -r first </proc/modules || break
        for module in $(cut -d' ' -f1 /proc/modules); do
            case $module in no_exit) ;; *) /tools/busybox/rmmod "$module" ;; esac
        done >/tmp/clean 2>&1
    done
}

# One case by one tool.
one() {
    echo "@@ $1 $2 $3"
    at=/r/$1.$2
    (
        PATH=/tools/kmod:/bin
        c$1 before >$at.before 2>&1 || echo "exit code $?" >>$at.before
        T=$2
        [ $2 = style ] && export MODUTILS_STYLE=busybox
        PATH=/tools/$2:/bin
        export PATH
        c$1 run >$at.out 2>$at.err
        echo $? >$at.code
        PATH=/bin
        cat /proc/modules >$at.modules
        c$1 look >$at.look 2>&1
        c$1 after >$at.after 2>&1
    )
    clean
}

"#;

const FINISH: &str = r#"
echo "@@ results"
cd /r
tar -c -f /tmp/results.tar .
gzip /tmp/results.tar
dmesg -n 1
echo "=====BEGIN RESULTS====="
base64 /tmp/results.tar.gz
echo "=====END RESULTS====="
poweroff -f
while :; do sleep 60; done
"#;

/// The script that does these cases.
pub(crate) fn write(cases: &[&Case]) -> String {
    let mut text = START.to_owned();
    for (number, case) in cases.iter().enumerate() {
        text.push_str(&format!("c{number}() {{\ncase $1 in\n"));
        let parts = [("before", case.before), ("run", case.run), ("look", case.look), ("after", case.after)];
        for (name, shell) in parts {
            let shell = if shell.is_empty() { ":" } else { shell };
            text.push_str(&format!("{name})\n{shell}\n;;\n"));
        }
        text.push_str("esac\n}\n");
    }
    for (number, case) in cases.iter().enumerate() {
        let (reference, ours) = case.pair.tools();
        for tool in reference.into_iter().chain([ours]) {
            text.push_str(&format!("one {number} {} {}\n", tool.name(), case.name));
        }
    }
    text.push_str(FINISH);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::cases;

    #[test]
    fn the_script_of_all_cases_is_a_script() {
        let cases: Vec<&Case> = cases::all().collect();
        let directory = std::env::temp_dir().join(format!("lkm-sessions-script-{}", std::process::id()));
        std::fs::write(&directory, write(&cases)).unwrap();
        let checked = std::process::Command::new("sh").arg("-n").arg(&directory).status().unwrap();
        std::fs::remove_file(&directory).unwrap();
        assert!(checked.success());
    }

    #[test]
    fn each_tool_of_a_pair_does_the_case() {
        let case = Case::ok("x", "insmod x.ko").before("echo a");
        let text = write(&[&case]);
        assert!(text.contains("before)\necho a\n;;\nrun)\ninsmod x.ko\n;;\nlook)\n:\n;;"), "{text}");
        assert!(text.contains("one 0 kmod x\none 0 ours x\n"));
        assert!(text.contains(BEGIN) && text.contains(END));
    }
}
