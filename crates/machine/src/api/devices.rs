//! Device numbers, character, block and misc devices, classes, devices and drivers.

use lkm_module::Errno;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::files::Node;
use super::files::Operations;
use crate::machine::Machine;

const MINOR_BITS: u32 = 20;
/// Majors that are given out are searched for from here down.
const DYNAMIC_MAJOR: u32 = 254;
const DYNAMIC_MAJOR_END: u32 = 234;
const MISC_MAJOR: u32 = 10;
const MISC_DYNAMIC: u32 = 255;

/// A range of device numbers that is taken.
#[derive(Clone, Copy, Debug)]
struct Region {
    first: u32,
    count: u32,
}

/// What this file's functions remember.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    regions: Vec<Region>,
    minors: Vec<u32>,
    /// Devices of classes: class, number, `struct device`.
    devices: Vec<(u64, u32, u64)>,
    block_majors: Vec<u32>,
}

pub(crate) const FUNCTIONS: &[Function] = &[
    call("alloc_chrdev_region", |call| {
        let (to, base, count, name) = (call.word(), call.u32(), call.u32(), call.word());
        let taken = |major: u32| {
            call.machine.state.devices.regions.iter().any(|region| region.first >> MINOR_BITS == major)
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
        call.machine.state.devices.block_majors.retain(|&other| other != major);
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
        call.machine.state.devices.minors.retain(|&other| other != minor);
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
        let devices = &mut call.machine.state.devices.devices;
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
];

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
        call.machine.state.devices.regions.iter().any(|region| region.first >> MINOR_BITS == major)
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
    let majors = &mut call.machine.state.devices.block_majors;
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
    let minors = &call.machine.state.devices.minors;
    let minor = if wanted == MISC_DYNAMIC {
        (0..128).rev().find(|minor| !minors.contains(minor))
    } else {
        Some(wanted).filter(|minor| !minors.contains(minor))
    };
    let Some(minor) = minor else { return Ok(call.error(Errno::EBUSY)) };
    call.machine.state.devices.minors.push(minor);
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
    call.machine.state.devices.devices.push((class, number, device));
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

fn show_number(number: u32) -> String {
    format!("{}:{}", number >> MINOR_BITS, number & ((1 << MINOR_BITS) - 1))
}

impl Call<'_> {
    fn add_region(&mut self, first: u32, count: u32, name: String) -> bool {
        let end = first.saturating_add(count);
        let overlaps =
            |region: &Region| region.first < end && first < region.first.saturating_add(region.count);
        if self.machine.state.devices.regions.iter().any(overlaps) {
            return false;
        }
        self.machine.state.devices.regions.push(Region { first, count });
        self.register("device numbers", name, format!("{} ({count})", show_number(first)), u64::from(first));
        true
    }

    fn remove_region(&mut self, first: u32, count: u32) {
        self.machine.state.devices.regions.retain(|region| region.first != first || region.count != count);
        self.take_back("device numbers", u64::from(first));
    }

    fn add_cdev(&mut self, cdev: u64, device: u32, count: u32) -> Done {
        let layout = &self.machine.layout.cdev;
        let operations = self.machine.read_word(cdev.wrapping_add(layout.ops));
        self.put(cdev.wrapping_add(layout.dev), &device.to_le_bytes())?;
        self.put(cdev.wrapping_add(layout.count), &count.to_le_bytes())?;
        let module = self.site().module.to_string();
        // Named by the device of its number, which usually comes later, or by the range that it is in.
        let named =
            self.machine.state.devices.devices.iter().find(|entry| entry.1 == device).map(|entry| entry.2);
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
}

impl Machine {
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
