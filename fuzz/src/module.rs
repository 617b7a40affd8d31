//! Everything that a module says.

use std::hint::black_box;

use lkm_module::Module;
use lkm_module::signature::appended_signature;

/// Reads all that `lkm-module` can tell of a file.
pub fn module(data: &[u8]) {
    let _ = black_box(appended_signature(data));
    let module = match Module::parse(data) {
        Ok(module) => module,
        Err(error) => {
            black_box(error.to_string());
            return;
        }
    };
    for (name, section) in module.sections() {
        black_box((name, module.elf().contents(section)));
    }
    black_box(module.symbols().count());
    for tag in [module.name(), module.vermagic(), module.license(), module.version(), module.srcversion()] {
        black_box(tag);
    }
    black_box(module.authors().count() + module.depends().count() + module.aliases().count());
    black_box(module.import_namespaces().count() + module.firmware().count() + module.softdeps().count());
    let _ = black_box(module.parameters());
    let _ = black_box(module.kernel_params());
    for version in module.versions().iter() {
        black_box(version);
    }
    let _ = black_box(module.exports());
    black_box(module.imports());
    black_box(module.this_module());
    black_box(module.build_id());
    if let Ok(Some(signature)) = module.signature() {
        let _ = black_box(signature.signer());
    }
}
