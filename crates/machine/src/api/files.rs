//! What modules offer as files: entries of /proc and debugfs, sysctl tables, kobjects; what files share.

use lkm_module::Errno;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::value;
use crate::machine::Machine;
use crate::registry::Registration;

/// The operations behind a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operations {
    /// `struct file_operations`
    File(u64),
    /// `struct proc_ops`
    Proc(u64),
    /// A function that shows a single file, and its data.
    Show(u64),
    /// `struct seq_operations` and the size of the state of a reader.
    Seq(u64, u64),
    /// A directory or a link.
    None,
}

/// A file that modules made.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) path: String,
    /// The handle that the module has: an entry, a dentry.
    pub(crate) handle: u64,
    pub(crate) parent: u64,
    pub(crate) operations: Operations,
    /// `data` of an entry; `inode->i_private` of a debugfs file; the `struct cdev` or `struct miscdevice`.
    pub(crate) data: u64,
    pub(crate) mode: u32,
    pub(crate) device: u32,
    pub(crate) kind: &'static str,
    pub(crate) module: String,
}

/// What this file's functions remember.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) nodes: Vec<Node>,
    /// Data of the entry behind an inode, for `pde_data`.
    pub(crate) inode_data: std::collections::HashMap<u64, u64>,
}

/// Entries that one machine takes.
const NODES_MAX: usize = 100_000;

const S_IFDIR: u32 = 0o040_000;

pub(crate) const FUNCTIONS: &[Function] = &[
    call("register_sysctl", |call| {
        let path = call.word();
        sysctl(call, path)
    }),
    call("register_net_sysctl", |call| {
        let (_, path) = (call.word(), call.word());
        sysctl(call, path)
    }),
    call("register_sysctl_table", |call| sysctl(call, 0)),
    call("unregister_sysctl_table", remove_sysctl),
    call("unregister_net_sysctl_table", remove_sysctl),
    call("kobject_create_and_add", |call| {
        let name = call.word();
        new_kobject(call, name)
    }),
    call("kset_create_and_add", |call| {
        let name = call.word();
        new_kobject(call, name)
    }),
    call("kobject_put", drop_kobject),
    call("kset_unregister", drop_kobject),
    value("kobject_del", 0),
    value("kobject_uevent", 0),
    value("kobject_uevent_env", 0),
    value("sysfs_create_group", 0),
    value("sysfs_create_groups", 0),
    value("sysfs_remove_group", 0),
    value("sysfs_remove_groups", 0),
    value("sysfs_create_file_ns", 0),
    value("sysfs_create_files", 0),
    value("sysfs_remove_file_ns", 0),
    value("sysfs_remove_files", 0),
    value("sysfs_create_link", 0),
    value("sysfs_remove_link", 0),
    value("class_create_file_ns", 0),
    value("class_remove_file_ns", 0),
    value("device_create_file", 0),
    value("device_remove_file", 0),
    value("devm_device_add_group", 0),
    call("proc_create", |call| {
        let (name, mode, parent, operations) = (call.word(), call.u32(), call.word(), call.word());
        call.proc_entry(name, mode, parent, Operations::Proc(operations), 0)
    }),
    call("proc_create_data", |call| {
        let (name, mode, parent) = (call.word(), call.u32(), call.word());
        let (operations, data) = (call.word(), call.word());
        call.proc_entry(name, mode, parent, Operations::Proc(operations), data)
    }),
    call("proc_create_single_data", |call| {
        let (name, mode, parent) = (call.word(), call.u32(), call.word());
        let (show, data) = (call.word(), call.word());
        call.proc_entry(name, mode, parent, Operations::Show(show), data)
    }),
    call("proc_create_seq_private", |call| {
        let (name, mode, parent) = (call.word(), call.u32(), call.word());
        let (operations, size, data) = (call.word(), call.u32(), call.word());
        call.proc_entry(name, mode, parent, Operations::Seq(operations, u64::from(size)), data)
    }),
    call("proc_mkdir", |call| {
        let (name, parent) = (call.word(), call.word());
        call.proc_entry(name, S_IFDIR | 0o555, parent, Operations::None, 0)
    }),
    call("proc_mkdir_mode", |call| {
        let (name, mode, parent) = (call.word(), call.u32(), call.word());
        call.proc_entry(name, S_IFDIR | mode, parent, Operations::None, 0)
    }),
    call("proc_mkdir_data", |call| {
        let (name, mode, parent, data) = (call.word(), call.u32(), call.word(), call.word());
        call.proc_entry(name, S_IFDIR | mode, parent, Operations::None, data)
    }),
    call("proc_symlink", |call| {
        let (name, parent) = (call.word(), call.word());
        call.proc_entry(name, 0o120_777, parent, Operations::None, 0)
    }),
    value("proc_set_size", 0),
    value("proc_set_user", 0),
    call("proc_remove", |call| {
        let entry = call.word();
        call.remove_tree(entry);
        Ok(0)
    }),
    call("remove_proc_entry", |call| {
        let (name, parent) = (call.word(), call.word());
        remove_proc(call, name, parent)
    }),
    call("remove_proc_subtree", |call| {
        let (name, parent) = (call.word(), call.word());
        remove_proc(call, name, parent)
    }),
    call("pde_data", pde_data),
    call("PDE_DATA", pde_data),
    call("debugfs_create_dir", |call| {
        let (name, parent) = (call.word(), call.word());
        call.debugfs_entry(name, S_IFDIR | 0o755, parent, Operations::None, 0)
    }),
    call("debugfs_create_file", |call| {
        let (name, mode, parent) = (call.word(), call.u32(), call.word());
        let (data, operations) = (call.word(), call.word());
        call.debugfs_entry(name, mode & 0xffff, parent, Operations::File(operations), data)
    }),
    call("debugfs_create_file_unsafe", |call| {
        let (name, mode, parent) = (call.word(), call.u32(), call.word());
        let (data, operations) = (call.word(), call.word());
        call.debugfs_entry(name, mode & 0xffff, parent, Operations::File(operations), data)
    }),
    call("debugfs_create_u8", debugfs_value),
    call("debugfs_create_u16", debugfs_value),
    call("debugfs_create_u32", debugfs_value),
    call("debugfs_create_u64", debugfs_value),
    call("debugfs_create_x32", debugfs_value),
    call("debugfs_create_bool", debugfs_value),
    call("debugfs_create_atomic_t", debugfs_value),
    value("debugfs_initialized", 1),
    call("debugfs_remove", |call| {
        let entry = call.word();
        call.remove_tree(entry);
        Ok(0)
    }),
    call("simple_open", |call| {
        let (inode, file) = (call.word(), call.word());
        let data = call.machine.read_word(inode.wrapping_add(call.machine.layout.inode.private));
        if data != 0 {
            call.machine.write_word(file.wrapping_add(call.machine.layout.file.private_data), data);
        }
        Ok(0)
    }),
    value("nonseekable_open", 0),
    value("stream_open", 0),
    call("no_llseek", |call| Ok(call.error(Errno::from_raw(29)))),
    call("noop_llseek", |call| {
        let file = call.word();
        Ok(call.position(file.wrapping_add(call.machine.layout.file.pos)).cast_unsigned())
    }),
    call("default_llseek", |call| {
        let file = call.word();
        let offset = call.u64();
        let place = file.wrapping_add(call.machine.layout.file.pos);
        if call.i32() == 0 {
            call.set_position(place, offset.cast_signed());
        }
        Ok(call.position(place).cast_unsigned())
    }),
];

fn sysctl(call: &mut Call<'_>, path: u64) -> Done {
    let path = if path == 0 { String::new() } else { call.machine.read_name(path) };
    let Some(header) = call.machine.kernel_object("sysctl table", 128) else { return Ok(0) };
    call.register("sysctl table", path, String::new(), header);
    Ok(header)
}

fn remove_sysctl(call: &mut Call<'_>) -> Done {
    let header = call.word();
    if header != 0 {
        call.take_back("sysctl table", header);
        call.machine.heap.free_kernel(header);
    }
    Ok(0)
}

fn new_kobject(call: &mut Call<'_>, name: u64) -> Done {
    let text = call.machine.read_name(name);
    let Some(object) = call.machine.kernel_object("kobject", 256) else { return Ok(0) };
    // `kobj.name` comes first.
    call.machine.write_word(object, name);
    call.register("kobject", text, String::new(), object);
    Ok(object)
}

fn drop_kobject(call: &mut Call<'_>) -> Done {
    let object = call.word();
    // One that is part of a structure of the module's own is nobody's to free.
    if call.machine.registry.remove("kobject", object).is_some() {
        call.machine.heap.free_kernel(object);
    }
    Ok(0)
}

fn remove_proc(call: &mut Call<'_>, name: u64, parent: u64) -> Done {
    let path = call.machine.path(name, parent, "/proc");
    let found = call.machine.state.files.nodes.iter().find(|node| node.path == path).map(|node| node.handle);
    match found {
        Some(handle) => call.remove_tree(handle),
        None => {
            let short = path.rsplit('/').next().unwrap_or_default().to_owned();
            call.machine.printk(lkm_module::Level::Warning, format!("name '{short}'"));
        }
    }
    Ok(0)
}

fn pde_data(call: &mut Call<'_>) -> Done {
    let inode = call.word();
    Ok(call.machine.state.files.inode_data.get(&inode).copied().unwrap_or(0))
}

fn debugfs_value(call: &mut Call<'_>) -> Done {
    let (name, mode, parent) = (call.word(), call.u32(), call.word());
    call.debugfs_entry(name, mode & 0xffff, parent, Operations::None, 0)
}

impl Call<'_> {
    /// Enters something into the registry for the calling module.
    pub(crate) fn register(&mut self, kind: &'static str, name: String, detail: String, object: u64) {
        let module = self.site().module.to_string();
        self.machine.registry.add(Registration { kind, name, detail, object, module });
    }

    /// Takes it out, or says that it was not there.
    pub(crate) fn take_back(&mut self, kind: &'static str, object: u64) {
        if self.machine.registry.remove(kind, object).is_none() {
            let at = self.site().symbol;
            let text = format!("lkm: {}: no such {kind} is registered, at {at}", self.name);
            self.machine.printk(lkm_module::Level::Err, text);
        }
    }

    pub(super) fn add_node(&mut self, node: Node) {
        if self.machine.state.files.nodes.len() < NODES_MAX {
            self.machine.state.files.nodes.push(node);
        }
    }

    fn entry(
        &mut self,
        kind: &'static str,
        path: String,
        mode: u32,
        parent: u64,
        operations: Operations,
        data: u64,
    ) -> Option<u64> {
        let handle = self.machine.kernel_object(kind, 192)?;
        let module = self.site().module.to_string();
        self.add_node(Node {
            path: path.clone(),
            handle,
            parent,
            operations,
            data,
            mode,
            device: 0,
            kind,
            module,
        });
        self.register(kind, path, format!("{:04o}", mode & 0o7777), handle);
        Some(handle)
    }

    fn proc_entry(&mut self, name: u64, mode: u32, parent: u64, operations: Operations, data: u64) -> Done {
        let mut mode = mode & 0xffff;
        if mode & 0o7777 == 0 {
            mode |= 0o444;
        }
        let path = self.machine.path(name, parent, "/proc");
        if self.machine.state.files.nodes.iter().any(|node| node.path == path) {
            let (directory, short) = path.rsplit_once('/').unwrap_or_default();
            let directory = directory.strip_prefix("/proc").unwrap_or(directory).trim_start_matches('/');
            let text = format!("proc_dir_entry '{directory}/{short}' already registered");
            self.machine.printk(lkm_module::Level::Warning, text);
            return Ok(0);
        }
        Ok(self.entry("proc entry", path, mode, parent, operations, data).unwrap_or(0))
    }

    fn debugfs_entry(
        &mut self,
        name: u64,
        mode: u32,
        parent: u64,
        operations: Operations,
        data: u64,
    ) -> Done {
        let path = self.machine.path(name, parent, "/sys/kernel/debug");
        if self.machine.state.files.nodes.iter().any(|node| node.path == path) {
            return Ok(self.error(Errno::EEXIST));
        }
        let made = self.entry("debugfs entry", path, mode, parent, operations, data);
        Ok(made.unwrap_or_else(|| self.error(Errno::ENOMEM)))
    }

    fn remove_tree(&mut self, handle: u64) {
        if handle == 0 || handle > self.machine.word(u64::MAX) - 4095 {
            return;
        }
        let mut gone = vec![handle];
        // Children come after their parents in the list.
        for node in &self.machine.state.files.nodes {
            if gone.contains(&node.parent) {
                gone.push(node.handle);
            }
        }
        for &handle in gone.iter().rev() {
            let kind = self
                .machine
                .state
                .files
                .nodes
                .iter()
                .find(|node| node.handle == handle)
                .map(|node| node.kind);
            if let Some(kind) = kind {
                self.take_back(kind, handle);
            }
            self.machine.heap.free_kernel(handle);
        }
        self.machine.state.files.nodes.retain(|node| node.handle == 0 || !gone.contains(&node.handle));
    }
}

impl Machine {
    fn path(&self, name: u64, parent: u64, root: &str) -> String {
        let name = self.read_name(name);
        let directory = self.state.files.nodes.iter().find(|node| parent != 0 && node.handle == parent);
        let directory = directory.map_or(root, |node| &node.path);
        format!("{directory}/{name}")
    }
}
