//! Where the fields of kernel structures are: Linux 6.1 as Debian configures it, measured by compiling against its
//! headers. All values are bytes.

use lkm_link::Arch;

/// Structures of one architecture.
#[derive(Debug)]
pub(crate) struct Layout {
    /// A pointer and `long`.
    pub(crate) pointer: u64,
    pub(crate) file_operations: FileOperations,
    pub(crate) proc_ops: ProcOps,
    pub(crate) file: File,
    pub(crate) inode: Inode,
    pub(crate) seq_file: SeqFile,
    pub(crate) cdev: Cdev,
    pub(crate) misc: Misc,
    pub(crate) device: Device,
    pub(crate) class: Class,
    pub(crate) task: Task,
    pub(crate) work: Work,
    pub(crate) timer: Timer,
}

#[derive(Debug)]
pub(crate) struct FileOperations {
    pub(crate) llseek: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) ioctl: u64,
    pub(crate) open: u64,
    pub(crate) release: u64,
}

#[derive(Debug)]
pub(crate) struct ProcOps {
    pub(crate) open: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) lseek: u64,
    pub(crate) release: u64,
}

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) size: u64,
    pub(crate) inode: u64,
    pub(crate) op: u64,
    pub(crate) flags: u64,
    pub(crate) mode: u64,
    pub(crate) pos: u64,
    pub(crate) private_data: u64,
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) size: u64,
    pub(crate) mode: u64,
    pub(crate) rdev: u64,
    pub(crate) private: u64,
    pub(crate) cdev: u64,
}

#[derive(Debug)]
pub(crate) struct SeqFile {
    pub(crate) size: u64,
    pub(crate) buf_size: u64,
    pub(crate) count: u64,
    pub(crate) index: u64,
    pub(crate) op: u64,
    pub(crate) file: u64,
    pub(crate) private: u64,
}

#[derive(Debug)]
pub(crate) struct Cdev {
    pub(crate) size: u64,
    pub(crate) ops: u64,
    pub(crate) dev: u64,
    pub(crate) count: u64,
}

#[derive(Debug)]
pub(crate) struct Misc {
    pub(crate) name: u64,
    pub(crate) fops: u64,
    pub(crate) this_device: u64,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) size: u64,
    pub(crate) parent: u64,
    pub(crate) init_name: u64,
    pub(crate) driver_data: u64,
    pub(crate) devt: u64,
    pub(crate) class: u64,
    pub(crate) bus: u64,
    pub(crate) driver: u64,
}

#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) size: u64,
    pub(crate) name: u64,
    pub(crate) owner: u64,
}

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) comm: u64,
    pub(crate) pid: u64,
    pub(crate) tgid: u64,
    pub(crate) stack_canary: u64,
}

#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) func: u64,
}

#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) expires: u64,
    pub(crate) function: u64,
}

static X86_64: Layout = Layout {
    pointer: 8,
    file_operations: FileOperations { llseek: 8, read: 16, write: 24, ioctl: 80, open: 112, release: 128 },
    proc_ops: ProcOps { open: 8, read: 16, write: 32, lseek: 40, release: 48 },
    file: File { size: 232, inode: 32, op: 40, flags: 64, mode: 68, pos: 104, private_data: 200 },
    inode: Inode { size: 632, mode: 0, rdev: 76, private: 624, cdev: 584 },
    seq_file: SeqFile { size: 120, buf_size: 8, count: 24, index: 40, op: 88, file: 104, private: 112 },
    cdev: Cdev { size: 104, ops: 72, dev: 96, count: 100 },
    misc: Misc { name: 8, fops: 16, this_device: 48 },
    device: Device {
        size: 744,
        parent: 64,
        init_name: 80,
        driver_data: 120,
        devt: 652,
        class: 680,
        bus: 96,
        driver: 104,
    },
    class: Class { size: 120, name: 0, owner: 8 },
    task: Task { comm: 2976, pid: 2416, tgid: 2420, stack_canary: 2424 },
    work: Work { func: 24 },
    timer: Timer { expires: 16, function: 24 },
};

static ARM: Layout = Layout {
    pointer: 4,
    file_operations: FileOperations { llseek: 4, read: 8, write: 12, ioctl: 40, open: 56, release: 64 },
    proc_ops: ProcOps { open: 4, read: 8, write: 16, lseek: 20, release: 24 },
    file: File { size: 168, inode: 16, op: 20, flags: 32, mode: 36, pos: 64, private_data: 148 },
    inode: Inode { size: 424, mode: 0, rdev: 48, private: 420, cdev: 396 },
    seq_file: SeqFile { size: 80, buf_size: 4, count: 12, index: 24, op: 60, file: 68, private: 72 },
    cdev: Cdev { size: 60, ops: 40, dev: 52, count: 56 },
    misc: Misc { name: 4, fops: 8, this_device: 24 },
    device: Device {
        size: 496,
        parent: 36,
        init_name: 44,
        driver_data: 64,
        devt: 436,
        class: 456,
        bus: 52,
        driver: 56,
    },
    class: Class { size: 60, name: 0, owner: 4 },
    task: Task { comm: 1920, pid: 1584, tgid: 1588, stack_canary: 1592 },
    work: Work { func: 12 },
    timer: Timer { expires: 8, function: 12 },
};

impl Layout {
    pub(crate) fn of(arch: Arch) -> &'static Layout {
        match arch {
            Arch::X86_64 => &X86_64,
            Arch::Arm => &ARM,
        }
    }
}
