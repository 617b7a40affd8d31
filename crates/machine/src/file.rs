//! A user program's view of the files that modules offer: open, read, write, ioctl and close go through the
//! module's own functions.

use core::fmt;
use std::time::Instant;

use lkm_kernel::Kernel;
use lkm_module::Errno;

use crate::api::Call;
use crate::api::files::Node;
use crate::api::files::Operations;
use crate::budget::Purse;
use crate::machine::Machine;
use crate::report::Stop;

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(u64);

/// A file that a module offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Where a user would find it: `/proc/...`, `/dev/...`, `/sys/kernel/debug/...`.
    pub path: String,
    /// What it is: "proc entry", "character device", "misc device", "debugfs entry".
    pub kind: &'static str,
    /// Its mode; directories have `S_IFDIR`.
    pub mode: u32,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// The module that made it.
    pub module: String,
}

/// A file operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The module or the kernel returned an error.
    Errno(Errno),
    /// The module's function did not return: the machine's reports tell why.
    Stopped,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Errno(errno) => f.write_str(errno.text()),
            FileError::Stopped => f.write_str("the module's function did not return"),
        }
    }
}

impl core::error::Error for FileError {}

impl From<Stop> for FileError {
    fn from(_: Stop) -> FileError {
        FileError::Stopped
    }
}

/// What the machine knows of an open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    operations: Operations,
    inode: u64,
    /// The module that is kept by it.
    module: Option<lkm_kernel::ModuleId>,
}

#[derive(Clone, Copy)]
enum Operation {
    Open,
    Release,
    Read,
    Write,
    Seek,
    Ioctl,
}

const O_RDWR: u32 = 2;
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
const FMODE_LSEEK: u32 = 4;
const FMODE_PREAD: u32 = 8;
const FMODE_PWRITE: u32 = 16;
const S_IFCHR: u32 = 0o020_000;
const S_IFREG: u32 = 0o100_000;
/// Bytes that one read or write moves at most.
const PIECE: u64 = 64 << 10;
/// Bytes that a whole file is read to at most.
const WHOLE_MAX: usize = 16 << 20;

impl Machine {
    /// The files that modules offer at this moment.
    pub fn files(&self) -> Vec<FileInfo> {
        let info = |node: &Node| FileInfo {
            path: node.path.clone(),
            kind: node.kind,
            mode: node.mode,
            device: (node.device != 0).then_some((node.device >> 20, node.device & 0xf_ffff)),
            module: node.module.clone(),
        };
        self.state.files.nodes.iter().map(info).collect()
    }

    fn operation(&self, operations: Operations, which: Operation) -> u64 {
        let file = &self.layout.file_operations;
        let proc = &self.layout.proc_ops;
        let (table, offset) = match operations {
            Operations::File(table) => (
                table,
                match which {
                    Operation::Open => file.open,
                    Operation::Release => file.release,
                    Operation::Read => file.read,
                    Operation::Write => file.write,
                    Operation::Seek => file.llseek,
                    Operation::Ioctl => file.ioctl,
                },
            ),
            Operations::Proc(table) => (
                table,
                match which {
                    Operation::Open => proc.open,
                    Operation::Release => proc.release,
                    Operation::Read => proc.read,
                    Operation::Write => proc.write,
                    Operation::Seek => proc.lseek,
                    Operation::Ioctl => return 0,
                },
            ),
            _ => return 0,
        };
        if table == 0 { 0 } else { self.read_word(table.wrapping_add(offset)) }
    }

    fn result(&self, value: u64) -> Result<u64, FileError> {
        let value = if self.layout.pointer == 4 {
            i64::from((value as u32).cast_signed())
        } else {
            value.cast_signed()
        };
        match value {
            -4095..0 => Err(FileError::Errno(Errno::from_raw(value.unsigned_abs() as u16))),
            value => Ok(value.cast_unsigned()),
        }
    }

    /// Calls an operation of a file.
    fn invoke(&mut self, kernel: &mut Kernel, function: u64, arguments: &[u64]) -> Result<u64, FileError> {
        if self.depth == 0 {
            self.purse = Purse::new(self.config.budget);
        }
        let value = self.call_guest(kernel, function, arguments)?;
        self.result(value)
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// ENOENT without such a file, and what the module's `open` returns.
    pub fn open_file(&mut self, kernel: &mut Kernel, path: &str) -> Result<Handle, FileError> {
        let found = self.state.files.nodes.iter().find(|node| node.path == path).cloned();
        let Some(node) = found else { return Err(FileError::Errno(Errno::ENOENT)) };
        if node.operations == Operations::None {
            let directory = node.mode & 0o170_000 == 0o040_000;
            return Err(FileError::Errno(if directory { Errno::EISDIR } else { Errno::EINVAL }));
        }
        let owner = kernel.find_module(node.module.as_bytes()).map(|module| module.id);
        let module = owner.filter(|&id| kernel.try_module_get(id));
        let opened = self.open_node(kernel, &node, module);
        if opened.is_err()
            && let Some(id) = module
        {
            kernel.module_put(id);
        }
        opened
    }

    fn open_node(
        &mut self,
        kernel: &mut Kernel,
        node: &Node,
        module: Option<lkm_kernel::ModuleId>,
    ) -> Result<Handle, FileError> {
        let no_memory = FileError::Errno(Errno::ENOMEM);
        let (inode_layout, file_layout) = (&self.layout.inode, &self.layout.file);
        let inode = self.kernel_object("inode", inode_layout.size).ok_or(no_memory)?;
        let file = self.kernel_object("file", file_layout.size).ok_or(no_memory)?;
        let device = node.device != 0;
        let mode = (if device { S_IFCHR } else { S_IFREG }) | node.mode & 0o7777;
        let _ = self.cpu.write(inode + inode_layout.mode, &(mode as u16).to_le_bytes());
        self.write_u32(inode + inode_layout.rdev, node.device);
        if node.kind == "character device" {
            self.write_word(inode + inode_layout.cdev, node.data);
        }
        if node.kind == "debugfs entry" {
            self.write_word(inode + inode_layout.private, node.data);
        }
        if node.kind == "misc device" {
            self.write_word(file + file_layout.private_data, node.data);
        }
        if node.kind == "proc entry" {
            self.state.files.inode_data.insert(inode, node.data);
        }
        self.write_word(file + file_layout.inode, inode);
        self.write_u32(file + file_layout.flags, O_RDWR);
        let modes = FMODE_READ | FMODE_WRITE | FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
        self.write_u32(file + file_layout.mode, modes);
        if let Operations::File(table) = node.operations {
            self.write_word(file + file_layout.op, table);
        }
        self.state.open.insert(file, Open { operations: node.operations, inode, module });
        let result = match node.operations {
            Operations::Show(show) => {
                let opened = Call::new(self, kernel, "single_open").open_seq(file, 0, show, node.data);
                opened.map_err(FileError::from)
            }
            Operations::Seq(table, size) => {
                let mut call = Call::new(self, kernel, "seq_open");
                let private = call.machine.kernel_object("seq state", size.max(8)).unwrap_or(0);
                call.open_seq(file, table, 0, private).map_err(FileError::from)
            }
            operations => match self.operation(operations, Operation::Open) {
                0 => Ok(0),
                open => self.invoke(kernel, open, &[inode, file]),
            },
        };
        match result {
            Ok(_) => Ok(Handle(file)),
            Err(error) => {
                self.forget(file);
                Err(error)
            }
        }
    }

    fn forget(&mut self, file: u64) {
        if let Some(open) = self.state.open.remove(&file) {
            self.state.files.inode_data.remove(&open.inode);
            self.heap.free_kernel(open.inode);
            self.heap.free_kernel(file);
        }
    }

    fn opened(&self, handle: Handle) -> Result<Open, FileError> {
        self.state.open.get(&handle.0).copied().ok_or(FileError::Errno(Errno::EBADF))
    }

    /// Reads at the file's position.
    ///
    /// # Errors
    /// EINVAL without a `read`, and what it returns.
    pub fn read_file(
        &mut self,
        kernel: &mut Kernel,
        handle: Handle,
        size: u64,
    ) -> Result<Vec<u8>, FileError> {
        let open = self.opened(handle)?;
        let size = size.min(PIECE);
        let place = handle.0 + self.layout.file.pos;
        if matches!(open.operations, Operations::Show(_) | Operations::Seq(..)) {
            if self.depth == 0 {
                self.purse = Purse::new(self.config.budget);
            }
            let mut call = Call::new(self, kernel, "seq_read");
            let pos = call.position(place);
            let bytes = call.read_seq(handle.0, pos, size)?;
            call.set_position(place, pos.saturating_add(bytes.len() as i64));
            return Ok(bytes);
        }
        let read = self.operation(open.operations, Operation::Read);
        if read == 0 {
            return Err(FileError::Errno(Errno::EINVAL));
        }
        let buffer = self.plan.user.start;
        let done = self.invoke(kernel, read, &[handle.0, buffer, size, place])?;
        let mut bytes = vec![0; done.min(size) as usize];
        let _ = self.cpu.read(buffer, &mut bytes);
        Ok(bytes)
    }

    /// Reads from the file's position to its end; a file that does not end is cut at 16 MiB, or when
    /// the time of the budget is over.
    ///
    /// # Errors
    /// As [`Machine::read_file`].
    pub fn read_whole_file(&mut self, kernel: &mut Kernel, handle: Handle) -> Result<Vec<u8>, FileError> {
        let mut whole = Vec::new();
        let deadline = self.config.budget.time.and_then(|time| Instant::now().checked_add(time));
        while whole.len() < WHOLE_MAX && deadline.is_none_or(|end| Instant::now() < end) {
            let piece = self.read_file(kernel, handle, 4096)?;
            if piece.is_empty() {
                break;
            }
            whole.extend(piece);
        }
        Ok(whole)
    }

    /// Writes at the file's position: the number of bytes taken, of at most 64 KiB.
    ///
    /// # Errors
    /// EINVAL without a `write`, and what it returns.
    pub fn write_file(
        &mut self,
        kernel: &mut Kernel,
        handle: Handle,
        bytes: &[u8],
    ) -> Result<usize, FileError> {
        let open = self.opened(handle)?;
        let write = self.operation(open.operations, Operation::Write);
        if write == 0 {
            let errno =
                if matches!(open.operations, Operations::File(_)) { Errno::EINVAL } else { Errno::EIO };
            return Err(FileError::Errno(errno));
        }
        let bytes = bytes.get(..bytes.len().min(PIECE as usize)).unwrap_or_default();
        let buffer = self.plan.user.start;
        let _ = self.cpu.write(buffer, bytes);
        let place = handle.0 + self.layout.file.pos;
        let done = self.invoke(kernel, write, &[handle.0, buffer, bytes.len() as u64, place])?;
        Ok(usize::try_from(done).unwrap_or(0).min(bytes.len()))
    }

    /// Moves the position to a place counted from the start.
    ///
    /// # Errors
    /// What the module's `llseek` returns.
    pub fn seek_file(&mut self, kernel: &mut Kernel, handle: Handle, to: u64) -> Result<u64, FileError> {
        let open = self.opened(handle)?;
        let seek = self.operation(open.operations, Operation::Seek);
        if seek == 0 {
            let _ = self.cpu.write(handle.0 + self.layout.file.pos, &to.to_le_bytes());
            return Ok(to);
        }
        // `loff_t` takes an even pair of registers on ARM.
        let wide = [handle.0, to, 0];
        let narrow = [handle.0, 0, to & 0xffff_ffff, to >> 32, 0];
        let arguments: &[u64] = if self.layout.pointer == 8 { &wide } else { &narrow };
        self.invoke(kernel, seek, arguments)
    }

    /// `ioctl` with a buffer as its argument: what it returns; the buffer holds what the module has written.
    ///
    /// # Errors
    /// ENOTTY without an `unlocked_ioctl`, and what it returns.
    pub fn ioctl_file(
        &mut self,
        kernel: &mut Kernel,
        handle: Handle,
        command: u32,
        buffer: &mut [u8],
    ) -> Result<u64, FileError> {
        let open = self.opened(handle)?;
        let ioctl = self.operation(open.operations, Operation::Ioctl);
        if ioctl == 0 {
            return Err(FileError::Errno(Errno::ENOTTY));
        }
        let size = buffer.len().min(PIECE as usize);
        let at = self.plan.user.start;
        let _ = self.cpu.write(at, buffer.get(..size).unwrap_or_default());
        let value = self.invoke(kernel, ioctl, &[handle.0, u64::from(command), at])?;
        let _ = self.cpu.read(at, buffer.get_mut(..size).unwrap_or_default());
        Ok(value)
    }

    /// Closes a file.
    ///
    /// # Errors
    /// EBADF for one that is not open.
    pub fn close_file(&mut self, kernel: &mut Kernel, handle: Handle) -> Result<(), FileError> {
        let open = self.opened(handle)?;
        let release = self.operation(open.operations, Operation::Release);
        let result = if release == 0 { Ok(0) } else { self.invoke(kernel, release, &[open.inode, handle.0]) };
        if matches!(open.operations, Operations::Show(_) | Operations::Seq(..)) {
            let seq = self.read_word(handle.0 + self.layout.file.private_data);
            self.heap.free_kernel(self.read_word(seq + self.layout.seq_file.private));
            self.close_seq(seq);
        }
        self.forget(handle.0);
        if let Some(id) = open.module {
            kernel.module_put(id);
        }
        // What `release` returns reaches nobody.
        match result {
            Err(FileError::Stopped) => Err(FileError::Stopped),
            _ => Ok(()),
        }
    }
}
