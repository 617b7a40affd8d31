//! Memory: `kmalloc`, caches, `vmalloc`, pages, per-cpu. All of it is handed out zeroed, as Debian's kernels do
//! (`CONFIG_INIT_ON_ALLOC_DEFAULT_ON`).

use core::mem::discriminant;

use lkm_module::Level;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::int;
use super::value;
use crate::heap::HeapErrorKind;
use crate::heap::Origin;
use crate::registry::Registration;

/// `KMALLOC_MAX_SIZE`
const KMALLOC_MAX: u64 = 4 << 20;
/// What `kmalloc(0)` returns.
const ZERO_SIZE_PTR: u64 = 16;
/// `SLAB_HWCACHE_ALIGN`
const HWCACHE_ALIGN: u32 = 0x2000;

pub(crate) const FUNCTIONS: &[Function] = &[
    // (cache, flags, size)
    call("kmalloc_trace", |call| {
        let (_, _, size) = (call.word(), call.u32(), call.word());
        call.kmalloc(size)
    }),
    call("kmalloc_node_trace", |call| {
        let (_, _, _, size) = (call.word(), call.u32(), call.i32(), call.word());
        call.kmalloc(size)
    }),
    // Before 6.1: (cache, flags, size).
    call("kmem_cache_alloc_trace", |call| {
        let (_, _, size) = (call.word(), call.u32(), call.word());
        call.kmalloc(size)
    }),
    call("__kmalloc", kmalloc_first),
    call("kmalloc_large", kmalloc_first),
    call("__kmalloc_node", kmalloc_first),
    call("__kmalloc_node_track_caller", kmalloc_first),
    call("__kmalloc_track_caller", kmalloc_first),
    call("kmalloc_order", kmalloc_first),
    call("kmalloc_large_node", kmalloc_first),
    call("devm_kmalloc", |call| {
        let (_, size) = (call.word(), call.word());
        call.kmalloc(size)
    }),
    call("devm_kfree", |call| {
        let (_, address) = (call.word(), call.word());
        call.free(address, FreeBy::Slab)
    }),
    call("devm_kstrdup", |call| {
        let (_, text) = (call.word(), call.word());
        let text = call.string_checked(text, u64::MAX);
        call.duplicate(&text)
    }),
    call("krealloc", |call| {
        let (old, size, _) = (call.word(), call.word(), call.u32());
        call.reallocate(old, size)
    }),
    call("ksize", |call| {
        let address = call.word();
        Ok(call.machine.heap.object(address).map_or(0, |object| object.size))
    }),
    call("kfree", free_slab),
    call("kfree_sensitive", free_slab),
    call("kfree_const", |call| {
        let address = call.word();
        // Constant strings live in module memory.
        if call.machine.heap.nearest(address).is_some() { call.free(address, FreeBy::Slab) } else { Ok(0) }
    }),
    call("kvfree", |call| {
        let address = call.word();
        call.free(address, FreeBy::Any)
    }),
    call("kvfree_sensitive", |call| {
        let address = call.word();
        call.free(address, FreeBy::Any)
    }),
    call("kvfree_call_rcu", |call| {
        let (head, address) = (call.word(), call.word());
        call.free(if address == 0 { head } else { address }, FreeBy::Any)
    }),
    call("kvmalloc_node", |call| {
        let size = call.word();
        if size <= KMALLOC_MAX / 1024 * 8 { call.kmalloc(size) } else { call.vmalloc(size) }
    }),
    call("vmalloc", vmalloc_first),
    call("vzalloc", vmalloc_first),
    call("vmalloc_user", vmalloc_first),
    call("vmalloc_node", vmalloc_first),
    call("vzalloc_node", vmalloc_first),
    call("vmalloc_32", vmalloc_first),
    call("__vmalloc", vmalloc_first),
    call("vmalloc_array", |call| {
        let (count, size) = (call.word(), call.word());
        match count.checked_mul(size) {
            Some(size) => call.vmalloc(size),
            None => Ok(0),
        }
    }),
    call("vfree", |call| {
        let address = call.word();
        call.free(address, FreeBy::Vmalloc)
    }),
    call("kmemdup", |call| {
        let (from, size) = (call.word(), call.word());
        let to = call.kmalloc(size)?;
        if to > ZERO_SIZE_PTR && !call.copy(to, from, size) {
            return Err(call.bad_pointer(from));
        }
        Ok(to)
    }),
    call("kstrdup", |call| {
        let text = call.word();
        if text == 0 {
            return Ok(0);
        }
        let text = call.string_checked(text, u64::MAX);
        call.duplicate(&text)
    }),
    call("kstrdup_const", |call| {
        let text = call.word();
        if text == 0 {
            return Ok(0);
        }
        let text = call.string_checked(text, u64::MAX);
        call.duplicate(&text)
    }),
    call("kstrndup", |call| {
        let (text, limit) = (call.word(), call.word());
        if text == 0 {
            return Ok(0);
        }
        let text = call.string_checked(text, limit);
        call.duplicate(&text)
    }),
    call("kmemdup_nul", |call| {
        let (text, size) = (call.word(), call.word());
        let Some(mut bytes) = buffer(size) else { return Ok(0) };
        if !call.read_checked(text, &mut bytes) {
            return Err(call.bad_pointer(text));
        }
        call.duplicate(&bytes)
    }),
    call("kmem_cache_create", |call| {
        let (name, size, align, flags) = (call.word(), call.u32(), call.u32(), call.u32());
        let ctor = call.word();
        call.create_cache(name, size, align, flags, ctor)
    }),
    call("kmem_cache_create_usercopy", |call| {
        let (name, size, align, flags) = (call.word(), call.u32(), call.u32(), call.u32());
        let (_, _, ctor) = (call.u32(), call.u32(), call.word());
        call.create_cache(name, size, align, flags, ctor)
    }),
    call("kmem_cache_alloc", allocate_from_cache),
    call("kmem_cache_alloc_node", allocate_from_cache),
    call("kmem_cache_alloc_lru", allocate_from_cache),
    call("kmem_cache_free", |call| {
        let (cache, address) = (call.word(), call.word());
        call.free(address, FreeBy::Cache(cache))
    }),
    call("kmem_cache_size", |call| {
        let cache = call.word();
        Ok(call.machine.state.caches.get(&cache).map_or(0, |cache| cache.size))
    }),
    call("kmem_cache_destroy", |call| {
        let cache = call.word();
        call.destroy_cache(cache)
    }),
    value("kmem_cache_shrink", 0),
    call("__get_free_pages", |call| {
        let (_, order) = (call.u32(), call.u32());
        call.pages(order)
    }),
    call("get_zeroed_page", |call| call.pages(0)),
    call("free_pages", |call| {
        let address = call.word();
        call.free(address, FreeBy::Pages)
    }),
    call("alloc_pages_exact", |call| {
        let size = call.word();
        call.allocate(size, 4096, Origin::Pages)
    }),
    call("free_pages_exact", |call| {
        let address = call.word();
        call.free(address, FreeBy::Pages)
    }),
    call("__alloc_percpu", |call| {
        let (size, align) = (call.word(), call.word());
        call.percpu(size, align)
    }),
    call("__alloc_percpu_gfp", |call| {
        let (size, align) = (call.word(), call.word());
        call.percpu(size, align)
    }),
    call("free_percpu", |call| {
        let address = call.word();
        if address != 0 {
            call.machine.registry.remove("per-cpu memory", address);
            lkm_kernel::Host::percpu_free(call.machine, address);
        }
        Ok(0)
    }),
];

/// A cache of objects of one size.
#[derive(Debug)]
pub(crate) struct Cache {
    name: std::rc::Rc<str>,
    size: u64,
    align: u64,
    ctor: u64,
}

/// Which function frees: it decides what sort of memory is right.
#[derive(Clone, Copy)]
pub(crate) enum FreeBy {
    Slab,
    Vmalloc,
    Pages,
    Cache(u64),
    Any,
}

/// Host memory for a guest buffer; `None` for one larger than anything a guest can have.
pub(crate) fn buffer(size: u64) -> Option<Vec<u8>> {
    (size <= 1 << 27).then(|| vec![0; size as usize])
}

fn kmalloc_first(call: &mut Call<'_>) -> Done {
    let size = call.word();
    call.kmalloc(size)
}

fn vmalloc_first(call: &mut Call<'_>) -> Done {
    let size = call.word();
    call.vmalloc(size)
}

fn free_slab(call: &mut Call<'_>) -> Done {
    let address = call.word();
    call.free(address, FreeBy::Slab)
}

fn allocate_from_cache(call: &mut Call<'_>) -> Done {
    let cache = call.word();
    let Some(found) = call.machine.state.caches.get(&cache) else {
        // A cache of the kernel's own, or none at all.
        return if cache == 0 { Err(call.bad_pointer(cache)) } else { call.kmalloc(256) };
    };
    let (name, size, align, ctor) = (found.name.clone(), found.size, found.align, found.ctor);
    let address = call.allocate(size, align, Origin::Cache(cache, name))?;
    if address != 0 && ctor != 0 {
        call.call_guest(ctor, &[address])?;
    }
    Ok(address)
}

impl Call<'_> {
    /// Takes zeroed memory for the caller; 0 if there is none.
    pub(crate) fn allocate(&mut self, size: u64, align: u64, origin: Origin) -> Done {
        let site = self.site();
        let Some(address) = self.machine.heap.allocate(size, align, origin, site) else { return Ok(0) };
        self.machine.zero(address, size);
        Ok(address)
    }

    pub(crate) fn kmalloc(&mut self, size: u64) -> Done {
        match size {
            0 => Ok(ZERO_SIZE_PTR),
            size if size > KMALLOC_MAX => Ok(0),
            // Powers of two are aligned to themselves.
            size => {
                self.allocate(size, if size.is_power_of_two() { size.min(4096) } else { 8 }, Origin::Kmalloc)
            }
        }
    }

    fn vmalloc(&mut self, size: u64) -> Done {
        if size == 0 { Ok(0) } else { self.allocate(size, 4096, Origin::Vmalloc) }
    }

    fn pages(&mut self, order: u32) -> Done {
        if order > 10 { Ok(0) } else { self.allocate(4096 << order, 4096, Origin::Pages) }
    }

    fn percpu(&mut self, size: u64, align: u64) -> Done {
        let Some(cookie) = lkm_kernel::Host::percpu_alloc(self.machine, size, align) else { return Ok(0) };
        let module = self.site().module.to_string();
        self.machine.registry.add(Registration {
            kind: "per-cpu memory",
            name: String::new(),
            detail: format!("{size} bytes"),
            object: cookie,
            module,
        });
        Ok(cookie)
    }

    fn reallocate(&mut self, old: u64, size: u64) -> Done {
        if old <= ZERO_SIZE_PTR {
            return self.kmalloc(size);
        }
        if size == 0 {
            self.free(old, FreeBy::Slab)?;
            return Ok(ZERO_SIZE_PTR);
        }
        let Some(known) = self.machine.heap.object(old).map(|object| object.size) else {
            self.free(old, FreeBy::Slab)?;
            return Ok(0);
        };
        let new = self.kmalloc(size)?;
        if new != 0 {
            self.copy(new, old, known.min(size));
            self.free(old, FreeBy::Slab)?;
        }
        Ok(new)
    }

    /// Copies guest memory on the caller's behalf; `false` if either side is not there.
    pub(crate) fn copy(&mut self, to: u64, from: u64, size: u64) -> bool {
        let Some(mut bytes) = buffer(size) else { return false };
        self.read_checked(from, &mut bytes) && self.write_checked(to, &bytes)
    }

    /// Frees memory, or reports why it cannot be.
    pub(crate) fn free(&mut self, address: u64, by: FreeBy) -> Done {
        if address <= ZERO_SIZE_PTR {
            return Ok(0);
        }
        let right = self.machine.heap.object(address).is_none_or(|object| match (by, &object.origin) {
            (FreeBy::Any, _) => true,
            (FreeBy::Slab, Origin::Kmalloc | Origin::Cache(..)) => true,
            (FreeBy::Cache(cache), Origin::Cache(of, _)) => cache == *of,
            // An object of a cache that the kernel made for itself.
            (FreeBy::Cache(_), Origin::Kmalloc) => true,
            (FreeBy::Vmalloc, origin) => discriminant(origin) == discriminant(&Origin::Vmalloc),
            (FreeBy::Pages, origin) => discriminant(origin) == discriminant(&Origin::Pages),
            _ => false,
        });
        let site = self.site();
        let result = if right {
            self.machine.heap.free(address, site.clone()).map(|_| ())
        } else {
            Err(HeapErrorKind::WrongFree)
        };
        if let Err(kind) = result {
            let name = self.name;
            self.machine.heap_report(kind, false, address, 0, site.symbol.to_string(), Some(name));
        }
        Ok(0)
    }

    fn create_cache(&mut self, name: u64, size: u32, align: u32, flags: u32, ctor: u64) -> Done {
        let name: std::rc::Rc<str> = self.machine.read_name(name).into();
        let Some(address) = self.machine.kernel_object("slab cache", 256) else { return Ok(0) };
        let align = u64::from(align).max(if flags & HWCACHE_ALIGN != 0 { 64 } else { 8 });
        let cache = Cache { name: name.clone(), size: u64::from(size), align, ctor };
        self.machine.state.caches.insert(address, cache);
        let module = self.site().module.to_string();
        self.machine.registry.add(Registration {
            kind: "slab cache",
            name: name.to_string(),
            detail: format!("{size} bytes"),
            object: address,
            module,
        });
        Ok(address)
    }

    fn destroy_cache(&mut self, address: u64) -> Done {
        let Some(cache) = self.machine.state.caches.remove(&address) else {
            return if address == 0 { Ok(0) } else { Err(self.bad_pointer(address)) };
        };
        let of_cache = |origin: &Origin| matches!(origin, Origin::Cache(of, _) if *of == address);
        if self.machine.heap.live().any(|object| of_cache(&object.origin)) {
            let at = self.site().symbol;
            let text = format!(
                "kmem_cache_destroy {}: Slab cache still has objects when called from {at}",
                cache.name
            );
            self.machine.printk(Level::Err, text);
        }
        self.machine.registry.remove("slab cache", address);
        self.machine.heap.free_kernel(address);
        Ok(int(0))
    }
}
