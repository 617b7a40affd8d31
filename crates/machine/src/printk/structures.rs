use lkm_link::Arch;

use super::flags;
use super::flags::PageFlags;

/// What `%p` extensions know of the kernel's structures: offsets and sizes in bytes, and what the kernel was configured with.
///
/// The values are those of Debian's 6.1 for cloud-amd64 and armmp, read out of modules compiled against its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structures {
    /// `dentry.d_parent`
    pub dentry_parent: u64,
    /// `dentry.d_name.name`
    pub dentry_name: u64,
    /// `file.f_path.dentry`
    pub file_dentry: u64,
    /// `block_device.bd_disk`
    pub block_device_disk: u64,
    /// `block_device.bd_partno`, one byte.
    pub block_device_partition: u64,
    /// `gendisk.disk_name`, an array.
    pub disk_name: u64,
    /// `fwnode_handle.ops`
    pub fwnode_operations: u64,
    /// `fwnode_operations.get_name`
    pub fwnode_get_name: u64,
    /// `fwnode_operations.get_name_prefix`
    pub fwnode_get_name_prefix: u64,
    /// Bytes in `phys_addr_t`.
    pub physical_size: u8,
    /// Bytes in `dma_addr_t`.
    pub dma_size: u8,
    /// Bytes in `resource_size_t`, which `struct resource` begins with two of.
    pub resource_size: u8,
    /// `CONFIG_COMMON_CLK`: `%pC` knows names.
    pub common_clock: bool,
    /// `CONFIG_OF`: `%pOF` knows nodes.
    pub device_tree: Option<DeviceTree>,
    /// Flags of pages.
    pub page_flags: PageFlags,
    /// Names of the flags of memory areas.
    pub(super) vma_flags: &'static [flags::Name],
}

/// Offsets in `struct device_node` and `struct property`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTree {
    /// `device_node.phandle`, 32 bits.
    pub phandle: u64,
    /// `device_node.full_name`
    pub full_name: u64,
    /// `device_node.fwnode`, a structure.
    pub fwnode: u64,
    /// `device_node.properties`
    pub properties: u64,
    /// `device_node.parent`
    pub parent: u64,
    /// `device_node._flags`
    pub flags: u64,
    /// `property.name`
    pub property_name: u64,
    /// `property.length`, 32 bits.
    pub property_length: u64,
    /// `property.value`
    pub property_value: u64,
    /// `property.next`
    pub property_next: u64,
}

static X86_64: Structures = Structures {
    dentry_parent: 24,
    dentry_name: 40,
    file_dentry: 24,
    block_device_disk: 848,
    block_device_partition: 840,
    disk_name: 12,
    fwnode_operations: 8,
    fwnode_get_name: 72,
    fwnode_get_name_prefix: 80,
    physical_size: 8,
    dma_size: 8,
    resource_size: 8,
    common_clock: false,
    device_tree: None,
    page_flags: flags::PAGE_X86_64,
    vma_flags: flags::VMA_X86_64,
};

static ARM: Structures = Structures {
    dentry_parent: 16,
    dentry_name: 32,
    file_dentry: 12,
    block_device_disk: 568,
    block_device_partition: 560,
    disk_name: 12,
    fwnode_operations: 4,
    fwnode_get_name: 36,
    fwnode_get_name_prefix: 40,
    physical_size: 4,
    dma_size: 8,
    resource_size: 4,
    common_clock: true,
    device_tree: Some(DeviceTree {
        phandle: 4,
        full_name: 8,
        fwnode: 12,
        properties: 44,
        parent: 52,
        flags: 100,
        property_name: 0,
        property_length: 4,
        property_value: 8,
        property_next: 12,
    }),
    page_flags: flags::PAGE_ARM,
    vma_flags: flags::VMA_ARM,
};

impl Structures {
    /// Those of an architecture's kernel.
    pub fn of(arch: Arch) -> &'static Structures {
        match arch {
            Arch::X86_64 => &X86_64,
            Arch::Arm => &ARM,
        }
    }
}
