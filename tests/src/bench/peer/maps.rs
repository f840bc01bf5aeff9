//! The best that rules of the kernel's own filter do without the application's identity: what conntrack knows passes, and a
//! first packet is looked up once, in a map over both addresses, protocol and port.

use std::{fmt::Write as _, net::Ipv4Addr};

pub(super) const BASE: &str = "
table ip peer {
    map verdicts { type ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict; }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ip saddr . ip daddr . ip protocol . th dport vmap @verdicts
    }
}
";

/// The map's elements: those that the measurements need, and so many others.
pub(super) fn policy(client: Ipv4Addr, servers: &[Ipv4Addr], ports: [u16; 2], others: usize) -> String {
    let mut text = String::from("flush map ip peer verdicts\nadd element ip peer verdicts {\n");
    for server in servers {
        for port in ports[0]..=ports[1] {
            element(&mut text, client, *server, port);
        }
    }
    for i in 0..u32::try_from(others).unwrap_or(u32::MAX) {
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 98, 100, 0)) + i);
        element(&mut text, source, servers[0], 8080);
    }
    text.push_str("}\n");
    text
}

fn element(text: &mut String, source: Ipv4Addr, destination: Ipv4Addr, port: u16) {
    let element = writeln!(text, "{source} . {destination} . tcp . {port} : accept,");
    element.expect("a string takes what is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_one_element() {
        let (client, server) = (Ipv4Addr::new(10, 98, 1, 2), Ipv4Addr::new(10, 98, 2, 2));
        let text = policy(client, &[server], [8080, 8082], 1_000);
        assert_eq!(text.matches(": accept").count(), 1_003);
    }
}
