//! What the loader tells its host while it works.

use alloc::vec::Vec;
use core::ops::DerefMut;

use lkm_link::Image;
use lkm_link::LoadInfo;
use lkm_link::image::RegionLayout;
use lkm_link::post::MaskRule;
use lkm_link::post::PatchObserver;
use lkm_link::post::PostWarning;
use lkm_link::post::Rule;
use lkm_module::Errno;

use crate::Module;
use crate::Stage;

/// How a number is best shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// How many.
    Count,
    /// Bytes.
    Bytes,
    /// A kernel address.
    Address,
}

/// A key number of a stage, such as the size of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// What it is, in one or two words.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What it counts.
    pub unit: Unit,
}

/// Collects the key numbers of a stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers(pub(crate) Vec<Number>);

impl Numbers {
    pub(crate) fn count(&mut self, name: &'static str, value: usize) {
        self.0.push(Number { name, value: value as u64, unit: Unit::Count });
    }

    pub(crate) fn bytes(&mut self, name: &'static str, value: u64) {
        self.0.push(Number { name, value, unit: Unit::Bytes });
    }

    pub(crate) fn address(&mut self, name: &'static str, value: u64) {
        self.0.push(Number { name, value, unit: Unit::Address });
    }
}

/// One allocation of the image, lent.
#[derive(Clone, Copy, Debug)]
pub struct ImageRegion<'a> {
    /// Kind and sizes.
    pub layout: RegionLayout,
    /// Address in the kernel.
    pub base: u64,
    /// Its bytes, as they are at this moment.
    pub bytes: &'a [u8],
}

/// The image, lent: every allocation in the order in which it was made.
#[derive(Clone, Debug)]
pub struct ImageView<'a> {
    /// The allocations.
    pub regions: Vec<ImageRegion<'a>>,
}

impl<'a> ImageView<'a> {
    pub(crate) fn new<B: DerefMut<Target = [u8]>>(image: &'a Image<B>) -> ImageView<'a> {
        let regions = image
            .regions
            .iter()
            .map(|region| ImageRegion { layout: region.layout, base: region.base, bytes: &region.bytes })
            .collect();
        ImageView { regions }
    }
}

/// One change of the bytes after relocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub address: u64,
    /// What stood there.
    pub before: Vec<u8>,
    /// What stands there since.
    pub after: Vec<u8>,
}

/// Bytes that hold run-time state in a running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// What they are.
    pub rule: MaskRule,
    /// Where.
    pub address: u64,
    /// How many.
    pub len: usize,
}

/// Listens to the later changes for [`Event::Patches`].
#[derive(Debug, Default)]
pub(crate) struct PatchLog {
    pub(crate) wanted: bool,
    /// How many changes were made.
    pub(crate) count: usize,
    pub(crate) patches: Vec<Patch>,
    pub(crate) masks: Vec<Mask>,
    pub(crate) warnings: Vec<PostWarning>,
}

impl PatchObserver for PatchLog {
    fn patched(&mut self, rule: Rule, address: u64, before: &[u8], after: &[u8]) {
        self.count += usize::from(before != after);
        if self.wanted {
            self.patches.push(Patch { rule, address, before: before.to_vec(), after: after.to_vec() });
        }
    }

    fn masked(&mut self, rule: MaskRule, address: u64, len: usize) {
        if self.wanted {
            self.masks.push(Mask { rule, address, len });
        }
    }

    fn warning(&mut self, warning: PostWarning) {
        self.warnings.push(warning);
    }
}

/// Who answered for an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider<'a> {
    /// The kernel image.
    Kernel,
    /// A module, by its name.
    Module(&'a [u8]),
    /// Nobody: the host gave an address to stand for it.
    StandIn,
}

/// What the loader tells its host while it works.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A stage starts.
    Begin {
        /// Which.
        stage: Stage,
    },
    /// A stage is over.
    End {
        /// Which.
        stage: Stage,
        /// How it ended.
        result: Result<(), Errno>,
        /// Its key numbers.
        numbers: &'a [Number],
    },
    /// An import was found.
    Resolved {
        /// Its name.
        name: &'a [u8],
        /// Its address.
        address: u64,
        /// Who exports it.
        provider: Provider<'a>,
    },
    /// Sections have their addresses and contents; symbols have their values; nothing is relocated.
    Moved {
        /// Section headers with final addresses.
        info: &'a LoadInfo<'a>,
        /// Memory.
        image: &'a ImageView<'a>,
    },
    /// All relocations are applied and nothing else.
    Relocated {
        /// Section headers with final addresses.
        info: &'a LoadInfo<'a>,
        /// Memory.
        image: &'a ImageView<'a>,
    },
    /// Every later change of the bytes is made, before the memory is handed over and gets its permissions.
    Patched {
        /// Section headers with final addresses.
        info: &'a LoadInfo<'a>,
        /// Memory.
        image: &'a ImageView<'a>,
    },
    /// A group of later changes was made: of the exception table and the architecture, of ftrace, of the notifiers.
    Patches {
        /// The stage that made them.
        stage: Stage,
        /// Each change, if [`crate::Host::wants_patches`].
        patches: &'a [Patch],
        /// Places that hold run-time state in a running kernel.
        masks: &'a [Mask],
        /// Entries that were left alone.
        warnings: &'a [PostWarning],
    },
    /// Memory is in place, parameters are set, the views exist: the init function is next.
    BeforeInit {
        /// The module.
        module: &'a Module,
    },
    /// A parameter was given.
    Parameter {
        /// Its name as given.
        name: &'a [u8],
        /// Its value as given; `None` for a name alone.
        value: Option<&'a [u8]>,
        /// What setting it returned.
        result: Result<(), Errno>,
    },
    /// A module changed its state.
    State {
        /// The module in its new state.
        module: &'a Module,
    },
    /// The init function returned.
    InitReturned {
        /// Its value.
        value: i32,
    },
    /// A module is gone: its name.
    Removed {
        /// Its name.
        name: &'a [u8],
    },
}
