//! `lkm facts`: what a kernel accepts, and who says so.

use std::process::ExitCode;

use lkm_facts::Fact;
use lkm_facts::Facts;
use lkm_facts::gather;

use crate::cli::FactsArgs;
use crate::output;

/// Shows the facts of the kernel that was named.
pub(crate) fn main(args: &FactsArgs) -> ExitCode {
    let facts = match gather::kernel(&args.kernel) {
        Ok(facts) => facts,
        Err(error) => {
            eprintln!("lkm: {error}");
            return ExitCode::FAILURE;
        }
    };
    if !args.json {
        return output::print(&summary(&facts));
    }
    match serde_json::to_string(&facts) {
        Ok(text) => output::print(&(text + "\n")),
        Err(error) => {
            eprintln!("lkm: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A line for each kind of fact: what is known, and in brackets who says it. What nothing told is said as well.
fn summary(facts: &Facts) -> String {
    let mut text = String::new();
    let mut line = |name: &str, known: Option<(String, &lkm_facts::Source)>| {
        let known = known.map_or("unknown".to_owned(), |(value, source)| format!("{value}  [{source}]"));
        text.push_str(&format!("{name:<14}{known}\n"));
    };
    fn shown<'a, T>(
        fact: &'a Option<Fact<T>>,
        show: impl FnOnce(&'a T) -> String,
    ) -> Option<(String, &'a lkm_facts::Source)> {
        fact.as_ref().map(|fact| (show(&fact.value), &fact.source))
    }
    line("release", shown(&facts.release, String::clone));
    line("banner", shown(&facts.banner, String::clone));
    let order = |big_endian| if big_endian { "big-endian" } else { "little-endian" };
    line(
        "machine",
        shown(&facts.machine, |machine| {
            format!("{}, {} bits, {}", machine.name(), machine.bits, order(machine.big_endian))
        }),
    );
    line("vermagic", shown(&facts.vermagic, |vermagic| format!("{vermagic:?}")));
    line("configuration", shown(&facts.config, |config| format!("{} options", config.len())));
    line(
        "exports",
        shown(&facts.exports, |exports| {
            let count =
                |what: fn(&lkm_facts::Export) -> bool| exports.values().filter(|export| what(export)).count();
            format!(
                "{}, of them {} of the image, {} for GPL modules only, {} in namespaces, {} with CRC, {} with address",
                exports.len(),
                count(|export| export.module.is_none()),
                count(|export| export.gpl_only),
                count(|export| !export.namespace.is_empty()),
                count(|export| export.crc.is_some()),
                count(|export| export.address.is_some()),
            )
        }),
    );
    line("module CRCs", shown(&facts.module_crcs, |crcs| format!("{} symbols", crcs.len())));
    line("addresses", shown(&facts.addresses, |addresses| format!("{} symbols", addresses.len())));
    line("built in", shown(&facts.builtin, |modules| format!("{} modules", modules.len())));
    line("modules", shown(&facts.modules, |modules| modules.len().to_string()));
    line(
        "certificates",
        shown(&facts.certificates, |certificates| {
            let each = certificates
                .iter()
                .map(|certificate| format!("{} ({})", certificate.subject, certificate.serial));
            each.collect::<Vec<_>>().join(", ")
        }),
    );
    text
}

#[cfg(test)]
mod tests {
    use lkm_facts::Source;

    use super::*;

    #[test]
    fn what_is_known_and_what_is_not() {
        let mut facts = Facts::default();
        let symvers = b"0x1\ta\tvmlinux\tEXPORT_SYMBOL_GPL\tNS\n0x0\tb\tm/n\tEXPORT_SYMBOL\t\n";
        gather::symvers(&mut facts, symvers, &Source::new("Module.symvers")).unwrap();
        let text = summary(&facts);
        assert!(text.starts_with("release       unknown\n"), "{text}");
        let exports = "exports       2, of them 1 of the image, 1 for GPL modules only, 1 in namespaces, 1 with CRC, \
                       0 with address  [Module.symvers]\n";
        assert!(text.contains(exports), "{text}");
    }
}
