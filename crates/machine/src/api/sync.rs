//! Locks, completions, wait queues, work, timers, references: one thread runs, so that a lock that is taken twice
//! or a wait for something that only another thread could do never ends. That is said, not waited for.

use lkm_module::Errno;

use super::Call;
use super::Done;
use super::Function;
use super::call;
use super::value;
use crate::report::StopKind;

pub(crate) const FUNCTIONS: &[Function] = &[
    call("__mutex_init", |call| {
        let lock = call.word();
        let size = if call.machine.layout.pointer == 8 { 32 } else { 20 };
        let list = lock.wrapping_add(if size == 32 { 16 } else { 12 });
        call.put(lock, &vec![0; size])?;
        call.empty_list(list);
        Ok(0)
    }),
    call("mutex_lock", take),
    call("mutex_lock_interruptible", take),
    call("mutex_lock_killable", take),
    call("mutex_lock_nested", take),
    call("mutex_trylock", |call| {
        let lock = call.word();
        Ok(u64::from(call.machine.state.locks.insert(lock)))
    }),
    call("mutex_is_locked", |call| {
        let lock = call.word();
        Ok(u64::from(call.machine.state.locks.contains(&lock)))
    }),
    call("mutex_unlock", give),
    call("_raw_spin_lock", take),
    call("_raw_spin_lock_bh", take),
    call("_raw_spin_lock_irq", take),
    call("_raw_spin_lock_irqsave", take),
    call("_raw_spin_trylock", |call| {
        let lock = call.word();
        Ok(u64::from(call.machine.state.locks.insert(lock)))
    }),
    call("_raw_spin_unlock", give),
    call("_raw_spin_unlock_bh", give),
    call("_raw_spin_unlock_irq", give),
    call("_raw_spin_unlock_irqrestore", give),
    call("_raw_write_lock", take),
    call("_raw_write_lock_bh", take),
    call("_raw_write_lock_irq", take),
    call("_raw_write_lock_irqsave", take),
    call("_raw_write_unlock", give),
    call("_raw_write_unlock_bh", give),
    call("_raw_write_unlock_irq", give),
    call("_raw_write_unlock_irqrestore", give),
    value("_raw_read_lock", 0),
    value("_raw_read_lock_bh", 0),
    value("_raw_read_lock_irq", 0),
    value("_raw_read_lock_irqsave", 0),
    value("_raw_read_unlock", 0),
    value("_raw_read_unlock_bh", 0),
    value("_raw_read_unlock_irq", 0),
    value("_raw_read_unlock_irqrestore", 0),
    value("__raw_spin_lock_init", 0),
    value("__rwlock_init", 0),
    call("__init_rwsem", |call| {
        let lock = call.word();
        let (size, list) = if call.machine.layout.pointer == 8 { (40, 24) } else { (24, 16) };
        call.put(lock, &vec![0; size])?;
        call.empty_list(lock.wrapping_add(list));
        Ok(0)
    }),
    call("down_write", take),
    call("down_write_killable", take),
    call("down_write_trylock", |call| {
        let lock = call.word();
        Ok(u64::from(call.machine.state.locks.insert(lock)))
    }),
    call("up_write", give),
    value("down_read", 0),
    value("down_read_interruptible", 0),
    value("down_read_killable", 0),
    value("down_read_trylock", 1),
    value("up_read", 0),
    value("downgrade_write", 0),
    call("down", semaphore_down),
    call("down_interruptible", semaphore_down),
    call("down_killable", semaphore_down),
    call("down_trylock", |call| {
        let place = semaphore_count(call);
        let count = call.machine.read_u32(place);
        if count == 0 {
            return Ok(1);
        }
        call.machine.write_u32(place, count - 1);
        Ok(0)
    }),
    call("up", |call| {
        let place = semaphore_count(call);
        let count = call.machine.read_u32(place);
        call.machine.write_u32(place, count.wrapping_add(1));
        Ok(0)
    }),
    call("complete", |call| {
        let completion = call.word();
        let done = call.machine.read_u32(completion);
        call.machine.write_u32(completion, done.saturating_add(1));
        Ok(0)
    }),
    call("complete_all", |call| {
        let completion = call.word();
        call.machine.write_u32(completion, u32::MAX / 2);
        Ok(0)
    }),
    call("wait_for_completion", wait),
    call("wait_for_completion_interruptible", wait),
    call("wait_for_completion_killable", wait),
    call("wait_for_completion_timeout", wait_timeout),
    call("wait_for_completion_interruptible_timeout", wait_timeout),
    call("try_wait_for_completion", |call| {
        let completion = call.word();
        Ok(u64::from(call.consume(completion)))
    }),
    call("completion_done", |call| {
        let completion = call.word();
        Ok(u64::from(call.machine.read_u32(completion) != 0))
    }),
    call("__init_waitqueue_head", |call| {
        let head = call.word();
        call.machine.write_u32(head, 0);
        call.empty_list(head.wrapping_add(if call.machine.layout.pointer == 8 { 8 } else { 4 }));
        Ok(0)
    }),
    call("__init_swait_queue_head", |call| {
        let head = call.word();
        call.machine.write_u32(head, 0);
        call.empty_list(head.wrapping_add(if call.machine.layout.pointer == 8 { 8 } else { 4 }));
        Ok(0)
    }),
    value("__wake_up", 0),
    value("__wake_up_sync", 0),
    value("init_wait_entry", 0),
    value("prepare_to_wait_event", -512),
    value("prepare_to_wait", 0),
    value("finish_wait", 0),
    value("add_wait_queue", 0),
    value("remove_wait_queue", 0),
    call("schedule", |call| {
        let kind = StopKind::Deadlock(String::from("schedule() with nothing else to run"));
        Err(call.machine.stop(call.kernel, kind))
    }),
    call("schedule_timeout", sleep_jiffies),
    call("schedule_timeout_interruptible", sleep_jiffies),
    call("schedule_timeout_uninterruptible", sleep_jiffies),
    value("__cond_resched", 0),
    value("preempt_schedule", 0),
    value("preempt_schedule_notrace", 0),
    value("yield", 0),
    value("synchronize_rcu", 0),
    value("rcu_barrier", 0),
    value("__rcu_read_lock", 0),
    value("__rcu_read_unlock", 0),
    value("synchronize_net", 0),
    value("rcu_read_unlock_strict", 0),
    call("call_rcu", |call| {
        let (head, function) = (call.word(), call.word());
        call.call_guest(function, &[head])?;
        Ok(0)
    }),
    // Work is done at once, in the caller's own time: legal for any scheduler that has nothing else to do.
    call("queue_work_on", |call| {
        let (_, _, work) = (call.word(), call.word(), call.word());
        call.do_work(work)
    }),
    call("queue_delayed_work_on", |call| {
        let (_, _, work) = (call.word(), call.word(), call.word());
        call.do_work(work)
    }),
    call("mod_delayed_work_on", |call| {
        let (_, _, work) = (call.word(), call.word(), call.word());
        call.do_work(work)
    }),
    value("flush_work", 0),
    value("flush_delayed_work", 0),
    value("cancel_work_sync", 0),
    value("cancel_delayed_work", 0),
    value("cancel_delayed_work_sync", 0),
    value("__flush_workqueue", 0),
    value("flush_workqueue", 0),
    value("drain_workqueue", 0),
    value("delayed_work_timer_fn", 0),
    call("alloc_workqueue", |call| {
        let (format, _, _) = (call.word(), call.u32(), call.i32());
        let name = call.format_arguments(format, 64);
        let Some(queue) = call.machine.kernel_object("workqueue", 256) else { return Ok(0) };
        call.register("workqueue", lkm_module::Text(&name).to_string(), String::new(), queue);
        Ok(queue)
    }),
    call("destroy_workqueue", |call| {
        let queue = call.word();
        call.take_back("workqueue", queue);
        call.machine.heap.free_kernel(queue);
        Ok(0)
    }),
    call("init_timer_key", |call| {
        let (timer, function, flags) = (call.word(), call.word(), call.u32());
        let at = timer.wrapping_add(call.machine.layout.timer.function);
        call.machine.write_word(at, function);
        call.machine.write_u32(at.wrapping_add(call.machine.layout.pointer), flags);
        call.machine.write_word(timer.wrapping_add(call.machine.layout.pointer), 0);
        Ok(0)
    }),
    call("add_timer", |call| {
        let timer = call.word();
        call.arm_timer(timer)
    }),
    call("mod_timer", |call| {
        let (timer, expires) = (call.word(), call.word());
        let at = timer.wrapping_add(call.machine.layout.timer.expires);
        call.machine.write_word(at, expires);
        call.arm_timer(timer)
    }),
    call("del_timer", stop_timer),
    call("del_timer_sync", stop_timer),
    call("timer_delete", stop_timer),
    call("timer_delete_sync", stop_timer),
    call("timer_shutdown_sync", stop_timer),
    value("try_to_del_timer_sync", 0),
    value("refcount_warn_saturate", 0),
    call("__module_get", |call| {
        let module = call.word();
        if let Some(id) = call.kernel.module_by_struct(module).map(|module| module.id) {
            call.kernel.try_module_get(id);
        }
        Ok(0)
    }),
    call("try_module_get", |call| {
        let module = call.word();
        let id = call.kernel.module_by_struct(module).map(|module| module.id);
        Ok(u64::from(module == 0 || id.is_some_and(|id| call.kernel.try_module_get(id))))
    }),
    call("module_put", |call| {
        let module = call.word();
        if let Some(id) = call.kernel.module_by_struct(module).map(|module| module.id)
            && !call.kernel.module_put(id)
        {
            let at = call.site().symbol;
            call.machine.printk(lkm_module::Level::Warning, format!("WARNING: module_put underflow at {at}"));
        }
        Ok(0)
    }),
    call("module_refcount", |call| {
        let module = call.word();
        let count = call.kernel.module_by_struct(module).map_or(0, |module| module.refcount());
        Ok(super::int(count))
    }),
    // No program to ask: the module is not found, as modprobe would say by its exit code.
    call("__request_module", |call| {
        let (_, format) = (call.word(), call.word());
        let name = call.format_arguments(format, 256);
        let name = lkm_module::Text(&name).to_string();
        if call.kernel.find_module(name.as_bytes()).is_some() {
            return Ok(0);
        }
        call.machine.state.requested.push(name);
        Ok(call.error(Errno::ENOENT))
    }),
    call("capable", |_| Ok(1)),
    call("ns_capable", |_| Ok(1)),
    value("security_locked_down", 0),
];

fn take(call: &mut Call<'_>) -> Done {
    let lock = call.word();
    if call.machine.state.locks.insert(lock) {
        return Ok(0);
    }
    let text = format!("{}() of a lock that is held already, at {lock:#x}", call.name);
    Err(call.machine.stop(call.kernel, StopKind::Deadlock(text)))
}

fn give(call: &mut Call<'_>) -> Done {
    let lock = call.word();
    if !call.machine.state.locks.remove(&lock) {
        let at = call.site().symbol;
        let text = format!(
            "WARNING: bad unlock balance detected! {at} is trying to release a lock that is not held"
        );
        call.machine.printk(lkm_module::Level::Warning, text);
    }
    Ok(0)
}

/// `struct semaphore`: a raw spinlock, then the count.
fn semaphore_count(call: &mut Call<'_>) -> u64 {
    call.word().wrapping_add(4)
}

fn semaphore_down(call: &mut Call<'_>) -> Done {
    let place = semaphore_count(call);
    let count = call.machine.read_u32(place);
    if count == 0 {
        let kind = StopKind::Deadlock(format!("{}() of a semaphore that nobody will release", call.name));
        return Err(call.machine.stop(call.kernel, kind));
    }
    call.machine.write_u32(place, count - 1);
    Ok(0)
}

fn wait(call: &mut Call<'_>) -> Done {
    let completion = call.word();
    if call.consume(completion) {
        return Ok(0);
    }
    let kind = StopKind::Deadlock(format!("{}() that nobody will complete", call.name));
    Err(call.machine.stop(call.kernel, kind))
}

fn wait_timeout(call: &mut Call<'_>) -> Done {
    let (completion, timeout) = (call.word(), call.word());
    if call.consume(completion) {
        return Ok(timeout.max(1));
    }
    call.sleep(timeout.saturating_mul(super::data::JIFFY));
    Ok(0)
}

fn sleep_jiffies(call: &mut Call<'_>) -> Done {
    let timeout = call.long();
    call.sleep(u64::try_from(timeout).unwrap_or(0).saturating_mul(super::data::JIFFY));
    Ok(0)
}

fn stop_timer(call: &mut Call<'_>) -> Done {
    let timer = call.word();
    let place = timer.wrapping_add(call.machine.layout.pointer);
    let pending = call.machine.read_word(place) != 0;
    call.machine.write_word(place, 0);
    call.machine.registry.remove("timer", timer);
    Ok(u64::from(pending))
}

impl Call<'_> {
    /// An empty `struct list_head`.
    pub(crate) fn empty_list(&mut self, at: u64) {
        self.machine.write_word(at, at);
        self.machine.write_word(at.wrapping_add(self.machine.layout.pointer), at);
    }

    fn consume(&mut self, completion: u64) -> bool {
        let done = self.machine.read_u32(completion);
        // What `complete_all` has set stays.
        if done > 0 && done < u32::MAX / 2 {
            self.machine.write_u32(completion, done - 1);
        }
        done > 0
    }

    /// Lets time pass on the machine's clock.
    pub(crate) fn sleep(&mut self, nanoseconds: u64) {
        self.machine.clock = self.machine.clock.saturating_add(nanoseconds.min(1 << 50));
        self.machine.tick();
    }

    fn do_work(&mut self, work: u64) -> Done {
        let function = self.machine.read_word(work.wrapping_add(self.machine.layout.work.func));
        // Work that queues itself again would never end: it is taken once.
        if !self.machine.state.working.insert(work) {
            return Ok(1);
        }
        let result = self.call_guest(function, &[work]);
        self.machine.state.working.remove(&work);
        result.map(|_| 1)
    }

    /// A timer that is started never fires, but it must be stopped before the module goes.
    fn arm_timer(&mut self, timer: u64) -> Done {
        let place = timer.wrapping_add(self.machine.layout.pointer);
        let pending = self.machine.read_word(place) != 0;
        if !pending {
            self.machine.write_word(place, timer);
            self.register("timer", String::new(), String::new(), timer);
        }
        Ok(u64::from(pending))
    }
}
