//! Interfaces that take a structure and give it back. Offsets of names are those of Linux 6.1 as Debian builds it.

use super::Function;
use super::Handler;
use crate::registry::Name;
use crate::registry::Pair;

const fn pair(
    kind: &'static str,
    register: &'static [&'static str],
    unregister: &'static [&'static str],
    name: Name,
) -> Pair {
    Pair { register, unregister, kind, object: (0, 0), name, many: None }
}

const fn many(mut pair: Pair, wide: u64, narrow: u64) -> Pair {
    pair.many = Some((1, wide, narrow));
    pair
}

/// The structure is another argument, of register and unregister function.
const fn at(mut pair: Pair, register: u8, unregister: u8) -> Pair {
    pair.object = (register, unregister);
    pair
}

static PAIRS: &[Pair] = &[
    pair(
        "platform driver",
        &["__platform_driver_register"],
        &["platform_driver_unregister"],
        Name::Pointer(48, 24),
    ),
    pair("USB driver", &["usb_register_driver"], &["usb_deregister"], Name::Pointer(0, 0)),
    pair("PCI driver", &["__pci_register_driver"], &["pci_unregister_driver"], Name::Pointer(16, 8)),
    at(pair("I2C driver", &["i2c_register_driver"], &["i2c_del_driver"], Name::Pointer(56, 28)), 1, 0),
    at(pair("SPI driver", &["__spi_register_driver"], &["driver_unregister"], Name::Pointer(32, 16)), 1, 0),
    pair("HID driver", &["__hid_register_driver"], &["hid_unregister_driver"], Name::Pointer(0, 0)),
    pair("bus", &["bus_register"], &["bus_unregister"], Name::Pointer(0, 0)),
    pair("filesystem", &["register_filesystem"], &["unregister_filesystem"], Name::Pointer(0, 0)),
    pair("NLS table", &["__register_nls"], &["unregister_nls"], Name::Pointer(0, 0)),
    pair("crypto algorithm", &["crypto_register_alg"], &["crypto_unregister_alg"], Name::Inline(184, 168)),
    many(
        pair(
            "crypto algorithm",
            &["crypto_register_algs"],
            &["crypto_unregister_algs"],
            Name::Inline(184, 168),
        ),
        384,
        384,
    ),
    pair("hash algorithm", &["crypto_register_shash"], &["crypto_unregister_shash"], Name::Inline(280, 296)),
    many(
        pair(
            "hash algorithm",
            &["crypto_register_shashes"],
            &["crypto_unregister_shashes"],
            Name::Inline(280, 296),
        ),
        480,
        512,
    ),
    pair("crypto template", &["crypto_register_template"], &["crypto_unregister_template"], Name::None),
    pair("pernet operations", &["register_pernet_subsys"], &["unregister_pernet_subsys"], Name::None),
    pair("pernet device", &["register_pernet_device"], &["unregister_pernet_device"], Name::None),
    pair(
        "netdevice notifier",
        &["register_netdevice_notifier"],
        &["unregister_netdevice_notifier"],
        Name::None,
    ),
    pair("inetaddr notifier", &["register_inetaddr_notifier"], &["unregister_inetaddr_notifier"], Name::None),
    pair(
        "inet6addr notifier",
        &["register_inet6addr_notifier"],
        &["unregister_inet6addr_notifier"],
        Name::None,
    ),
    pair("netevent notifier", &["register_netevent_notifier"], &["unregister_netevent_notifier"], Name::None),
    pair("reboot notifier", &["register_reboot_notifier"], &["unregister_reboot_notifier"], Name::None),
    pair("panic notifier", &["register_restart_handler"], &["unregister_restart_handler"], Name::None),
    pair("oom notifier", &["register_oom_notifier"], &["unregister_oom_notifier"], Name::None),
    pair("module notifier", &["register_module_notifier"], &["unregister_module_notifier"], Name::None),
    pair("PM notifier", &["register_pm_notifier"], &["unregister_pm_notifier"], Name::None),
    pair(
        "rtnl link",
        &["rtnl_link_register", "__rtnl_link_register"],
        &["rtnl_link_unregister"],
        Name::Pointer(16, 8),
    ),
    pair(
        "generic netlink family",
        &["genl_register_family"],
        &["genl_unregister_family"],
        Name::Inline(8, 8),
    ),
    pair("xtables match", &["xt_register_match"], &["xt_unregister_match"], Name::Inline(16, 8)),
    many(
        pair("xtables match", &["xt_register_matches"], &["xt_unregister_matches"], Name::Inline(16, 8)),
        128,
        76,
    ),
    pair("xtables target", &["xt_register_target"], &["xt_unregister_target"], Name::Inline(16, 8)),
    many(
        pair("xtables target", &["xt_register_targets"], &["xt_unregister_targets"], Name::Inline(16, 8)),
        128,
        76,
    ),
    pair("nftables expression", &["nft_register_expr"], &["nft_unregister_expr"], Name::Pointer(40, 20)),
    pair("queueing discipline", &["register_qdisc"], &["unregister_qdisc"], Name::Inline(16, 8)),
    pair(
        "traffic classifier",
        &["register_tcf_proto_ops"],
        &["unregister_tcf_proto_ops"],
        Name::Inline(16, 8),
    ),
    pair("traffic action", &["tcf_register_action"], &["tcf_unregister_action"], Name::Inline(16, 8)),
    pair(
        "TCP congestion control",
        &["tcp_register_congestion_control"],
        &["tcp_unregister_congestion_control"],
        Name::Inline(88, 44),
    ),
    pair("device mapper target", &["dm_register_target"], &["dm_unregister_target"], Name::Pointer(8, 8)),
    pair("PHY driver", &["phy_driver_register"], &["phy_driver_unregister"], Name::Pointer(160, 84)),
    many(
        pair("PHY driver", &["phy_drivers_register"], &["phy_drivers_unregister"], Name::Pointer(160, 84)),
        472,
        240,
    ),
    pair("remote control map", &["rc_map_register"], &["rc_map_unregister"], Name::None),
    pair("comedi driver", &["comedi_driver_register"], &["comedi_driver_unregister"], Name::Pointer(8, 4)),
    pair(
        "comedi PCI driver",
        &["comedi_pci_driver_register"],
        &["comedi_pci_driver_unregister"],
        Name::Pointer(8, 4),
    ),
    pair("binary format", &["__register_binfmt"], &["unregister_binfmt"], Name::None),
    pair("key type", &["register_key_type"], &["unregister_key_type"], Name::Pointer(0, 0)),
    pair("shrinker", &["register_shrinker"], &["unregister_shrinker"], Name::None),
    pair("netfilter socket option", &["nf_register_sockopt"], &["nf_unregister_sockopt"], Name::None),
    pair("protocol", &["proto_register"], &["proto_unregister"], Name::None),
];

/// The functions of all pairs.
pub(crate) fn functions() -> impl Iterator<Item = Function> {
    PAIRS.iter().flat_map(|pair| {
        let register =
            pair.register.iter().map(move |name| Function { name, handler: Handler::Register(pair) });
        let unregister =
            pair.unregister.iter().map(move |name| Function { name, handler: Handler::Unregister(pair) });
        register.chain(unregister)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_function_is_in_two_pairs() {
        let mut names: Vec<_> = functions().map(|function| function.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
