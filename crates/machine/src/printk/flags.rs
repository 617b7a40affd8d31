//! Names of flags in the order in which the kernel looks for them: `include/trace/events/mmflags.h` of Linux 6.1, read out of
//! modules compiled against Debian's headers and loaded into its kernels.

/// A name and the bits that must all be set.
pub(super) type Name = (&'static str, u64);

/// A number in the upper part of the flags of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) shift: u32,
    pub(super) mask: u64,
    /// Printed in hexadecimal.
    pub(super) hex: bool,
}

/// How the flags of a page are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFlags {
    /// Those that have a name or could have one: the lowest bits, `NR_PAGEFLAGS` of them.
    pub(super) count: u32,
    pub(super) names: &'static [Name],
    pub(super) parts: &'static [Part],
}

/// `CONFIG_NUMA`, `CONFIG_SPARSEMEM_VMEMMAP`, four zones, 8192 processors.
pub(super) const PAGE_X86_64: PageFlags = PageFlags {
    count: 24,
    names: PAGE,
    parts: &[
        Part { name: "node", shift: 54, mask: 0x3ff, hex: false },
        Part { name: "zone", shift: 51, mask: 7, hex: false },
        Part { name: "lastcpupid", shift: 30, mask: 0x1f_ffff, hex: true },
    ],
};

/// `CONFIG_FLATMEM`, three zones.
pub(super) const PAGE_ARM: PageFlags = PageFlags {
    count: 22,
    names: PAGE.split_at(22).0,
    parts: &[Part { name: "zone", shift: 30, mask: 3, hex: false }],
};

/// The last two exist on 64-bit kernels only.
const PAGE: &[Name] = &[
    ("locked", 0x1),
    ("waiters", 0x80),
    ("error", 0x100),
    ("referenced", 0x2),
    ("uptodate", 0x4),
    ("dirty", 0x8),
    ("lru", 0x10),
    ("active", 0x20),
    ("workingset", 0x40),
    ("slab", 0x200),
    ("owner_priv_1", 0x400),
    ("arch_1", 0x800),
    ("reserved", 0x1000),
    ("private", 0x2000),
    ("private_2", 0x4000),
    ("writeback", 0x8000),
    ("head", 0x1_0000),
    ("mappedtodisk", 0x2_0000),
    ("reclaim", 0x4_0000),
    ("swapbacked", 0x8_0000),
    ("unevictable", 0x10_0000),
    ("mlocked", 0x20_0000),
    ("uncached", 0x40_0000),
    ("arch_2", 0x80_0000),
];

/// `%pGv` on x86_64.
pub(super) const VMA_X86_64: &[Name] = &[
    ("read", 0x1),
    ("write", 0x2),
    ("exec", 0x4),
    ("shared", 0x8),
    ("mayread", 0x10),
    ("maywrite", 0x20),
    ("mayexec", 0x40),
    ("mayshare", 0x80),
    ("growsdown", 0x100),
    ("uffd_missing", 0x200),
    ("uffd_minor", 0x20_0000_0000),
    ("pfnmap", 0x400),
    ("uffd_wp", 0x1000),
    ("locked", 0x2000),
    ("io", 0x4000),
    ("seqread", 0x8000),
    ("randread", 0x1_0000),
    ("dontcopy", 0x2_0000),
    ("dontexpand", 0x4_0000),
    ("lockonfault", 0x8_0000),
    ("account", 0x10_0000),
    ("noreserve", 0x20_0000),
    ("hugetlb", 0x40_0000),
    ("sync", 0x80_0000),
    ("pat", 0x100_0000),
    ("wipeonfork", 0x200_0000),
    ("dontdump", 0x400_0000),
    ("softdirty", 0x800_0000),
    ("mixedmap", 0x1000_0000),
    ("hugepage", 0x2000_0000),
    ("nohugepage", 0x4000_0000),
    ("mergeable", 0x8000_0000),
];

/// `%pGv` on ARM.
pub(super) const VMA_ARM: &[Name] = &[
    ("read", 0x1),
    ("write", 0x2),
    ("exec", 0x4),
    ("shared", 0x8),
    ("mayread", 0x10),
    ("maywrite", 0x20),
    ("mayexec", 0x40),
    ("mayshare", 0x80),
    ("growsdown", 0x100),
    ("uffd_missing", 0x200),
    ("pfnmap", 0x400),
    ("uffd_wp", 0x1000),
    ("locked", 0x2000),
    ("io", 0x4000),
    ("seqread", 0x8000),
    ("randread", 0x1_0000),
    ("dontcopy", 0x2_0000),
    ("dontexpand", 0x4_0000),
    ("lockonfault", 0x8_0000),
    ("account", 0x10_0000),
    ("noreserve", 0x20_0000),
    ("hugetlb", 0x40_0000),
    ("sync", 0x80_0000),
    ("arch_1", 0x100_0000),
    ("wipeonfork", 0x200_0000),
    ("dontdump", 0x400_0000),
    ("mixedmap", 0x1000_0000),
    ("hugepage", 0x2000_0000),
    ("nohugepage", 0x4000_0000),
    ("mergeable", 0x8000_0000),
];

/// `%pGg`
pub(super) const GFP: &[Name] = &[
    ("GFP_TRANSHUGE", 0x1c_24ca),
    ("GFP_TRANSHUGE_LIGHT", 0x1c_20ca),
    ("GFP_HIGHUSER_MOVABLE", 0x10_0cca),
    ("GFP_HIGHUSER", 0x10_0cc2),
    ("GFP_USER", 0x10_0cc0),
    ("GFP_KERNEL_ACCOUNT", 0x40_0cc0),
    ("GFP_KERNEL", 0xcc0),
    ("GFP_NOFS", 0xc40),
    ("GFP_ATOMIC", 0xa20),
    ("GFP_NOIO", 0xc00),
    ("GFP_NOWAIT", 0x800),
    ("GFP_DMA", 0x1),
    ("__GFP_HIGHMEM", 0x2),
    ("GFP_DMA32", 0x4),
    ("__GFP_HIGH", 0x20),
    ("__GFP_ATOMIC", 0x200),
    ("__GFP_IO", 0x40),
    ("__GFP_FS", 0x80),
    ("__GFP_NOWARN", 0x2000),
    ("__GFP_RETRY_MAYFAIL", 0x4000),
    ("__GFP_NOFAIL", 0x8000),
    ("__GFP_NORETRY", 0x1_0000),
    ("__GFP_COMP", 0x4_0000),
    ("__GFP_ZERO", 0x100),
    ("__GFP_NOMEMALLOC", 0x8_0000),
    ("__GFP_MEMALLOC", 0x2_0000),
    ("__GFP_HARDWALL", 0x10_0000),
    ("__GFP_THISNODE", 0x20_0000),
    ("__GFP_RECLAIMABLE", 0x10),
    ("__GFP_MOVABLE", 0x8),
    ("__GFP_ACCOUNT", 0x40_0000),
    ("__GFP_WRITE", 0x1000),
    ("__GFP_RECLAIM", 0xc00),
    ("__GFP_DIRECT_RECLAIM", 0x400),
    ("__GFP_KSWAPD_RECLAIM", 0x800),
    ("__GFP_ZEROTAGS", 0x80_0000),
];
