//! What modules offer as files: character devices, misc devices, entries of /proc and debugfs; classes and devices.

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

/// A range of device numbers that is taken.
#[derive(Clone, Copy, Debug)]
struct Region {
    first: u32,
    count: u32,
}

/// What this file's functions remember.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) nodes: Vec<Node>,
    regions: Vec<Region>,
    minors: Vec<u32>,
    /// Devices of classes: class, number, `struct device`.
    devices: Vec<(u64, u32, u64)>,
    block_majors: Vec<u32>,
    /// Data of the entry behind an inode, for `pde_data`.
    pub(crate) inode_data: std::collections::HashMap<u64, u64>,
}

const MINOR_BITS: u32 = 20;
/// Majors that are given out are searched for from here down.
const DYNAMIC_MAJOR: u32 = 254;
const DYNAMIC_MAJOR_END: u32 = 234;
const MISC_MAJOR: u32 = 10;
const MISC_DYNAMIC: u32 = 255;
/// Entries that one machine takes.
const NODES_MAX: usize = 100_000;

const S_IFDIR: u32 = 0o040_000;

pub(crate) const FUNCTIONS: &[Function] = &[
    call("alloc_chrdev_region", |call| {
        let (to, base, count, name) = (call.word(), call.u32(), call.u32(), call.word());
        let taken = |major: u32| {
            call.machine.state.files.regions.iter().any(|region| region.first >> MINOR_BITS == major)
        };
        let Some(major) = (DYNAMIC_MAJOR_END..=DYNAMIC_MAJOR).rev().find(|&major| !taken(major)) else {
            return Ok(call.error(Errno::EBUSY));
        };
        let first = major << MINOR_BITS | base;
        call.put(to, &first.to_le_bytes())?;
        let name = call.machine.read_name(name);
        call.add_region(first, count, name);
        Ok(0)
    }),
    call("register_chrdev_region", |call| {
        let (first, count, name) = (call.u32(), call.u32(), call.word());
        let name = call.machine.read_name(name);
        Ok(if call.add_region(first, count, name) { 0 } else { call.error(Errno::EBUSY) })
    }),
    call("unregister_chrdev_region", |call| {
        let (first, count) = (call.u32(), call.u32());
        call.remove_region(first, count);
        Ok(0)
    }),
    call("__register_chrdev", |call| {
        let (major, base, count) = (call.u32(), call.u32(), call.u32());
        let (name, operations) = (call.word(), call.word());
        register_chrdev(call, major, base, count, name, operations)
    }),
    call("__unregister_chrdev", |call| {
        let (major, base, count) = (call.u32(), call.u32(), call.u32());
        let first = major << MINOR_BITS | base;
        call.machine.state.files.nodes.retain(|node| node.kind != "character device" || node.device != first);
        call.remove_region(first, count);
        Ok(0)
    }),
    call("cdev_init", |call| {
        let (cdev, operations) = (call.word(), call.word());
        let layout = &call.machine.layout.cdev;
        call.put(cdev, &vec![0; layout.size as usize])?;
        call.machine.write_word(cdev.wrapping_add(layout.ops), operations);
        Ok(0)
    }),
    call("cdev_alloc", |call| {
        let size = call.machine.layout.cdev.size;
        Ok(call.machine.kernel_object("cdev", size).unwrap_or(0))
    }),
    call("cdev_add", |call| {
        let (cdev, device, count) = (call.word(), call.u32(), call.u32());
        call.add_cdev(cdev, device, count)
    }),
    call("cdev_device_add", |call| {
        let (cdev, device) = (call.word(), call.word());
        let number = call.machine.read_u32(device.wrapping_add(call.machine.layout.device.devt));
        call.add_cdev(cdev, number, 1)
    }),
    call("cdev_set_parent", |_| Ok(0)),
    call("cdev_del", delete_cdev),
    call("cdev_device_del", delete_cdev),
    call("register_blkdev", |call| {
        let (major, name) = (call.u32(), call.word());
        register_block(call, major, name)
    }),
    call("__register_blkdev", |call| {
        let (major, name) = (call.u32(), call.word());
        register_block(call, major, name)
    }),
    call("unregister_blkdev", |call| {
        let major = call.u32();
        call.machine.state.files.block_majors.retain(|&other| other != major);
        call.machine.registry.remove("block major", u64::from(major));
        Ok(0)
    }),
    call("misc_register", |call| {
        let misc = call.word();
        register_misc(call, misc)
    }),
    call("misc_deregister", |call| {
        let misc = call.word();
        let minor = call.machine.read_u32(misc);
        let device = call.machine.read_word(misc.wrapping_add(call.machine.layout.misc.this_device));
        call.machine.state.files.minors.retain(|&other| other != minor);
        call.machine.state.files.nodes.retain(|node| node.kind != "misc device" || node.data != misc);
        call.machine.free_device(device);
        call.take_back("misc device", misc);
        Ok(0)
    }),
    call("__class_create", |call| {
        let (owner, name) = (call.word(), call.word());
        create_class(call, owner, name)
    }),
    // From 6.4 on there is no owner.
    call("class_create", |call| {
        let name = call.word();
        create_class(call, 0, name)
    }),
    call("class_destroy", |call| {
        let class = call.word();
        if class != 0 && class <= call.machine.word(u64::MAX) - 4095 {
            call.take_back("class", class);
            call.machine.heap.free_kernel(class);
        }
        Ok(0)
    }),
    call("__class_register", |call| {
        let class = call.word();
        let name = call.machine.read_word(class);
        let name = call.machine.read_name(name);
        call.register("class", name, String::new(), class);
        Ok(0)
    }),
    call("class_unregister", |call| {
        let class = call.word();
        call.take_back("class", class);
        Ok(0)
    }),
    call("device_create", |call| {
        // (class, parent, devt, drvdata, format, ...)
        let (class, parent, number) = (call.word(), call.word(), call.u32());
        let (data, format) = (call.word(), call.word());
        let name = call.format_arguments(format, 256);
        create_device(call, class, parent, number, data, &name)
    }),
    call("device_create_with_groups", |call| {
        let (class, parent, number) = (call.word(), call.word(), call.u32());
        let (data, _, format) = (call.word(), call.word(), call.word());
        let name = call.format_arguments(format, 256);
        create_device(call, class, parent, number, data, &name)
    }),
    call("device_destroy", |call| {
        let (class, number) = (call.word(), call.u32());
        let devices = &mut call.machine.state.files.devices;
        if let Some(at) = devices.iter().position(|device| device.0 == class && device.1 == number) {
            let (_, _, device) = devices.remove(at);
            call.take_back("device", device);
            call.machine.free_device(device);
        }
        Ok(0)
    }),
    call("dev_set_name", |call| {
        let (device, format) = (call.word(), call.word());
        let name = call.format_arguments(format, 256);
        call.machine.name_device(device, &name);
        Ok(0)
    }),
    call("driver_register", |call| {
        let driver = call.word();
        let name = call.machine.read_word(driver);
        let name = call.machine.read_name(name);
        call.register("driver", name, String::new(), driver);
        Ok(0)
    }),
    call("driver_unregister", |call| {
        // Inline functions of several buses pass the `struct device_driver` inside their own structure.
        let driver = call.word();
        let found = call.machine.registry.all().iter().rev().find(|item| {
            item.kind == "driver" && item.object == driver
                || item.kind == "SPI driver" && driver.wrapping_sub(item.object) < 64
        });
        let (kind, object) = found.map_or(("driver", driver), |item| (item.kind, item.object));
        call.take_back(kind, object);
        Ok(0)
    }),
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

fn register_chrdev(
    call: &mut Call<'_>,
    major: u32,
    base: u32,
    count: u32,
    name: u64,
    operations: u64,
) -> Done {
    let name = call.machine.read_name(name);
    let dynamic = major == 0;
    let taken = |major: u32| {
        call.machine.state.files.regions.iter().any(|region| region.first >> MINOR_BITS == major)
    };
    let major = if dynamic {
        match (DYNAMIC_MAJOR_END..=DYNAMIC_MAJOR).rev().find(|&major| !taken(major)) {
            Some(major) => major,
            None => return Ok(call.error(Errno::EBUSY)),
        }
    } else {
        major
    };
    let first = major << MINOR_BITS | base;
    if !call.add_region(first, count, name.clone()) {
        return Ok(call.error(Errno::EBUSY));
    }
    let module = call.site().module.to_string();
    call.add_node(Node {
        path: format!("/dev/{name}"),
        handle: 0,
        parent: 0,
        operations: Operations::File(operations),
        data: 0,
        mode: 0o600,
        device: first,
        kind: "character device",
        module,
    });
    Ok(u64::from(if dynamic { major } else { 0 }))
}

fn register_block(call: &mut Call<'_>, major: u32, name: u64) -> Done {
    let name = call.machine.read_name(name);
    let majors = &mut call.machine.state.files.block_majors;
    let dynamic = major == 0;
    let major = if dynamic {
        match (1..=254).rev().find(|major| !majors.contains(major)) {
            Some(major) => major,
            None => return Ok(call.error(Errno::EBUSY)),
        }
    } else {
        major
    };
    if majors.contains(&major) {
        return Ok(call.error(Errno::EBUSY));
    }
    majors.push(major);
    call.register("block major", name, major.to_string(), u64::from(major));
    Ok(u64::from(if dynamic { major } else { 0 }))
}

fn delete_cdev(call: &mut Call<'_>) -> Done {
    let cdev = call.word();
    call.machine.state.files.nodes.retain(|node| node.kind != "character device" || node.data != cdev);
    call.take_back("character device", cdev);
    call.machine.heap.free_kernel(cdev);
    Ok(0)
}

fn register_misc(call: &mut Call<'_>, misc: u64) -> Done {
    let layout = &call.machine.layout.misc;
    let wanted = call.machine.read_u32(misc);
    let name = call.machine.read_word(misc.wrapping_add(layout.name));
    let operations = call.machine.read_word(misc.wrapping_add(layout.fops));
    let name = call.machine.read_name(name);
    let minors = &call.machine.state.files.minors;
    let minor = if wanted == MISC_DYNAMIC {
        (0..128).rev().find(|minor| !minors.contains(minor))
    } else {
        Some(wanted).filter(|minor| !minors.contains(minor))
    };
    let Some(minor) = minor else { return Ok(call.error(Errno::EBUSY)) };
    call.machine.state.files.minors.push(minor);
    call.put(misc, &minor.to_le_bytes())?;
    let number = MISC_MAJOR << MINOR_BITS | minor;
    let device = call.machine.new_device(0, 0, number, 0, name.as_bytes());
    call.machine.write_word(misc.wrapping_add(layout.this_device), device);
    let module = call.site().module.to_string();
    call.add_node(Node {
        path: format!("/dev/{name}"),
        handle: 0,
        parent: 0,
        operations: Operations::File(operations),
        data: misc,
        mode: 0o600,
        device: number,
        kind: "misc device",
        module,
    });
    call.register("misc device", name, format!("{MISC_MAJOR}:{minor}"), misc);
    Ok(0)
}

fn create_class(call: &mut Call<'_>, owner: u64, name: u64) -> Done {
    let layout = &call.machine.layout.class;
    let text = call.machine.read_name(name);
    let Some(class) = call.machine.kernel_object("class", layout.size) else {
        return Ok(call.error(Errno::ENOMEM));
    };
    call.machine.write_word(class + layout.name, name);
    call.machine.write_word(class + layout.owner, owner);
    call.register("class", text, String::new(), class);
    Ok(class)
}

fn create_device(call: &mut Call<'_>, class: u64, parent: u64, number: u32, data: u64, name: &[u8]) -> Done {
    let device = call.machine.new_device(class, parent, number, data, name);
    if device == 0 {
        return Ok(call.error(Errno::ENOMEM));
    }
    call.machine.state.files.devices.push((class, number, device));
    let name = lkm_module::Text(name).to_string();
    // The node in /dev belongs to the cdev with this number, if there is one.
    for node in &mut call.machine.state.files.nodes {
        if node.kind == "character device" && node.device == number {
            node.path = format!("/dev/{name}");
        }
    }
    call.register("device", name, show_number(number), device);
    Ok(device)
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

fn show_number(number: u32) -> String {
    format!("{}:{}", number >> MINOR_BITS, number & ((1 << MINOR_BITS) - 1))
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

    fn add_region(&mut self, first: u32, count: u32, name: String) -> bool {
        let end = first.saturating_add(count);
        let overlaps =
            |region: &Region| region.first < end && first < region.first.saturating_add(region.count);
        if self.machine.state.files.regions.iter().any(overlaps) {
            return false;
        }
        self.machine.state.files.regions.push(Region { first, count });
        self.register("device numbers", name, format!("{} ({count})", show_number(first)), u64::from(first));
        true
    }

    fn remove_region(&mut self, first: u32, count: u32) {
        self.machine.state.files.regions.retain(|region| region.first != first || region.count != count);
        self.take_back("device numbers", u64::from(first));
    }

    fn add_node(&mut self, node: Node) {
        if self.machine.state.files.nodes.len() < NODES_MAX {
            self.machine.state.files.nodes.push(node);
        }
    }

    fn add_cdev(&mut self, cdev: u64, device: u32, count: u32) -> Done {
        let layout = &self.machine.layout.cdev;
        let operations = self.machine.read_word(cdev.wrapping_add(layout.ops));
        self.put(cdev.wrapping_add(layout.dev), &device.to_le_bytes())?;
        self.put(cdev.wrapping_add(layout.count), &count.to_le_bytes())?;
        let module = self.site().module.to_string();
        // Named by the device of its number, which usually comes later, or by the range that it is in.
        let named =
            self.machine.state.files.devices.iter().find(|entry| entry.1 == device).map(|entry| entry.2);
        let range = self.machine.registry.find("device numbers", u64::from(device));
        let name = match (named, range) {
            (Some(named), _) => {
                let name = self.machine.read_word(named);
                self.machine.read_name(name)
            }
            (None, Some(range)) => range.name.clone(),
            _ => show_number(device),
        };
        self.add_node(Node {
            path: format!("/dev/{name}"),
            handle: 0,
            parent: 0,
            operations: Operations::File(operations),
            data: cdev,
            mode: 0o600,
            device,
            kind: "character device",
            module,
        });
        self.register("character device", name, show_number(device), cdev);
        Ok(0)
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

    /// A `struct device` of the kernel's; 0 if there is no memory.
    fn new_device(&mut self, class: u64, parent: u64, number: u32, data: u64, name: &[u8]) -> u64 {
        let layout = &self.layout.device;
        // The name stands behind the structure.
        let size = layout.size + name.len() as u64 + 1;
        let Some(device) = self.kernel_object("device", size) else { return 0 };
        self.name_device(device, name);
        self.write_word(device + layout.class, class);
        self.write_word(device + layout.parent, parent);
        self.write_word(device + layout.driver_data, data);
        self.write_u32(device + layout.devt, number);
        device
    }

    /// Names a device: one of the kernel's with room behind it, or one of the module's.
    fn name_device(&mut self, device: u64, name: &[u8]) {
        let room = self.heap.object(device).map_or(0, |object| object.size);
        let inside = device + self.layout.device.size;
        let at = if self.layout.device.size + (name.len() as u64) < room {
            Some(inside)
        } else {
            self.kernel_object("name", name.len() as u64 + 1)
        };
        if let Some(at) = at {
            let _ = self.cpu.write(at, name);
            self.write_word(device, at);
        }
    }

    fn free_device(&mut self, device: u64) {
        self.heap.free_kernel(device);
    }
}
