//! The rule set of the container network that this project means to replace, as its agent writes it: a mark for packets of
//! a source app's containers, then one allow rule per destination container and policy, in one list that every forwarded
//! packet walks; behind it chains per container. Favourable to it: few containers, so few of those chains.

use std::{fmt::Write as _, net::Ipv4Addr};

/// Which of the kernel's two rule engines holds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Backend {
    Nft,
    Legacy,
}

impl Backend {
    pub(super) fn restore(self) -> &'static str {
        match self {
            Self::Nft => "iptables-nft-restore",
            Self::Legacy => "iptables-legacy-restore",
        }
    }
}

/// Packets of the client's app carry this tag.
const TAG: u32 = 1;
/// Policies that an app is the destination of, before the next container's begin.
const POLICIES_PER_CONTAINER: usize = 40;
/// Ports of the host that lead to a container.
const MAPPINGS: usize = 4;

/// What stands before the first policy: chains per container, and the empty list of policies in front of them.
pub(super) fn base(containers: &[Ipv4Addr], overlay: &str) -> String {
    let names: Vec<(usize, &Ipv4Addr)> = containers.iter().enumerate().collect();
    let mut text = String::from("*filter\n:FORWARD ACCEPT [0:0]\n:vpa - [0:0]\n");
    for (i, _) in &names {
        text.push_str(&format!(":input--{i} - [0:0]\n:netout--{i} - [0:0]\n:overlay--{i} - [0:0]\n"));
    }
    text.push_str("-A FORWARD -j vpa\n");
    for (i, address) in &names {
        text.push_str(&filter_of_container(*i, **address));
    }
    text.push_str("COMMIT\n*nat\n");
    text.extend(names.iter().map(|(i, _)| format!(":netin--{i} - [0:0]\n")));
    for (i, address) in &names {
        text.push_str(&format!("-A PREROUTING -j netin--{i}\n"));
        text.extend(ports_of(*i).map(|(outside, inside)| {
            format!("-A netin--{i} -d 192.0.2.99/32 -p tcp -m tcp --dport {outside} -j DNAT --to-destination {address}:{inside}\n")
        }));
        text.push_str(&format!("-A POSTROUTING -s {address}/32 ! -d {overlay} ! -o vx -j MASQUERADE\n"));
    }
    text.push_str("COMMIT\n*mangle\n");
    text.extend(names.iter().map(|(i, _)| format!(":netin--{i} - [0:0]\n")));
    for (i, _) in &names {
        text.push_str(&format!("-A PREROUTING -j netin--{i}\n"));
        text.extend(ports_of(*i).map(|(outside, _)| {
            format!("-A netin--{i} -i uplink -d 192.0.2.99/32 -p tcp -m tcp --dport {outside} -j MARK --set-xmark 0xffff0000/0xffffffff\n")
        }));
    }
    text.push_str("COMMIT\n");
    text
}

fn filter_of_container(i: usize, address: Ipv4Addr) -> String {
    format!(
        "-A INPUT -s {address}/32 -j input--{i}\n\
         -A input--{i} -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
         -A input--{i} -j REJECT --reject-with icmp-port-unreachable\n\
         -A FORWARD -s {address}/32 -o uplink -j netout--{i}\n\
         -A netout--{i} -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
         -A netout--{i} -p tcp -m state --state INVALID -j DROP\n\
         -A netout--{i} -j REJECT --reject-with icmp-port-unreachable\n\
         -A FORWARD -j overlay--{i}\n\
         -A overlay--{i} -s {address}/32 -o vx -m mark ! --mark 0x0 -j ACCEPT\n\
         -A overlay--{i} -d {address}/32 -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
         -A overlay--{i} -d {address}/32 -m mark --mark 0xffff0000 -j ACCEPT\n\
         -A overlay--{i} -d {address}/32 -j REJECT --reject-with icmp-port-unreachable\n"
    )
}

fn ports_of(container: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..MAPPINGS).map(move |mapping| (61_000 + container * MAPPINGS + mapping, 8_000 + mapping))
}

/// The list of policies: one mark rule, so many allow rules of other apps, and at its end the one that matches.
pub(super) fn policy(client: Ipv4Addr, server: Ipv4Addr, ports: [u16; 2], others: usize) -> String {
    let mut text = String::from("*filter\n:vpa - [0:0]\n");
    text.push_str(&format!(
        "-A vpa -s {client}/32 -m comment --comment src:app-a -j MARK --set-xmark 0x{TAG:x}/0xffffffff\n"
    ));
    let [.., subnet, _] = server.octets();
    for i in 0..others {
        // 250 containers are a full machine.
        let container =
            Ipv4Addr::new(10, 98, subnet, u8::try_from(4 + i / POLICIES_PER_CONTAINER % 250).unwrap_or(254));
        let tag = 2 + i % POLICIES_PER_CONTAINER;
        allow(&mut text, container, [8080, 8080], &format!("{tag:x}"), i);
    }
    allow(&mut text, server, ports, &format!("{TAG:x}"), others);
    text.push_str("COMMIT\n");
    text
}

fn allow(text: &mut String, container: Ipv4Addr, [first, last]: [u16; 2], tag: &str, number: usize) {
    let rule = writeln!(
        text,
        "-A vpa -d {container}/32 -p tcp -m tcp --dport {first}:{last} -m mark --mark 0x{tag} \
         -m comment --comment src:app-{tag}_dst:app-{number} -j ACCEPT"
    );
    rule.expect("a string takes what is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_matches_stands_behind_all_others() {
        let server = Ipv4Addr::new(10, 98, 2, 2);
        let text = policy(Ipv4Addr::new(10, 98, 1, 2), server, [8080, 8082], 1_000);
        let rules: Vec<&str> = text.lines().filter(|line| line.starts_with("-A")).collect();
        assert_eq!(rules.len(), 1_002);
        let matching = rules.iter().position(|rule| rule.contains("-d 10.98.2.2/32"));
        assert_eq!(matching, Some(1_001));
    }
}
