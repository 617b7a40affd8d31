//! `/proc/modules`

use alloc::format;
use alloc::string::String;
use alloc::string::ToString;

use lkm_module::Text;

use crate::Kernel;
use crate::Module;
use crate::ModuleId;
use crate::State;

impl Kernel {
    /// The file `/proc/modules`: a line for each formed module, latest first.
    pub fn proc_modules(&self) -> String {
        let formed = self.modules.iter().filter(|module| module.state != State::Unformed);
        formed.map(|module| self.modules_line(module) + "\n").collect()
    }

    /// The line of one module, without newline.
    pub fn proc_modules_line(&self, id: ModuleId) -> Option<String> {
        self.module(id).map(|module| self.modules_line(module))
    }

    fn modules_line(&self, module: &Module) -> String {
        let mut line =
            format!("{} {}", Text(&module.name), module.core_size().wrapping_add(module.init_size()));
        line.push_str(&self.unload_info(module));
        line.push_str(&format!(
            " {} 0x{}",
            module.state.proc_name(),
            self.shown_address(module.core_address())
        ));
        let flags = self.module_flags(module);
        if !flags.is_empty() {
            line.push(' ');
            line.push_str(&flags);
        }
        line
    }

    /// `print_unload_info()`: references and users.
    fn unload_info(&self, module: &Module) -> String {
        if !self.profile.link.unload {
            return String::from(" - -");
        }
        let mut text = format!(" {} ", module.refcount());
        let mut any = false;
        for name in module.users.iter().filter_map(|&user| self.module(user)).map(|user| &user.name) {
            text.push_str(&Text(name).to_string());
            text.push(',');
            any = true;
        }
        if module.is_permanent() {
            text.push_str("[permanent],");
            any = true;
        }
        if !any {
            text.push('-');
        }
        text
    }

    /// `module_flags()` with its state: `(OE)`, `(+)`; empty for a module without taints.
    fn module_flags(&self, module: &Module) -> String {
        if module.taints.is_empty() {
            return String::new();
        }
        format!("({}{})", module.taints.letters(self.profile.rules.taint_order), state_letter(module.state))
    }

    /// `print_modules()`: the line of an oops.
    pub fn modules_linked_in(&self) -> String {
        let mut text = String::from("Modules linked in:");
        for module in self.modules.iter().filter(|module| module.state != State::Unformed) {
            let letters = module.taints.letters(self.profile.rules.taint_order);
            let state = state_letter(module.state);
            text.push_str(&format!(" {}", Text(&module.name)));
            if !letters.is_empty() || !state.is_empty() {
                text.push_str(&format!("({letters}{state})"));
            }
        }
        if let Some((name, taints)) = &self.last_unloaded {
            let letters = taints.letters(self.profile.rules.taint_order);
            let letters = if letters.is_empty() { letters } else { format!("({letters})") };
            text.push_str(&format!(" [last unloaded: {}{letters}]", Text(name)));
        }
        text
    }
}

const fn state_letter(state: State) -> &'static str {
    match state {
        State::Going => "-",
        State::Coming => "+",
        State::Live | State::Unformed => "",
    }
}
