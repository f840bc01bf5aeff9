//! Looks into a node's pinned maps, past any agent.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData};
use common::conntrack::Record;
use common::event::Charge;
use common::placement::Endpoint;
use common::{Address, Entry, FlowKey, Protocol, SCHEMA, Tuple};
use tests::world::node::Node;

fn open<K: Pod, V: Pod>(node: &Node, name: &str) -> Result<HashMap<MapData, K, V>> {
    let path = node.pins.join(format!("v{SCHEMA}")).join("map").join(name);
    let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
    Map::HashMap(data).try_into().with_context(|| format!("the layout of {name}"))
}

/// Every element of a pinned map.
pub(super) fn read<K: Pod, V: Pod>(node: &Node, name: &str) -> Result<Vec<(K, V)>> {
    open(node, name)?.iter().map(|element| element.with_context(|| format!("read {name}"))).collect()
}

/// The endpoints that a node's programs know.
pub(super) fn endpoints(node: &Node) -> Result<Vec<Endpoint>> {
    let path = node.pins.join(format!("v{SCHEMA}")).join("map/ENDPOINTS");
    let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
    let places: Array<_, Endpoint> = Map::Array(data).try_into().context("the layout of ENDPOINTS")?;
    let all = places.iter().collect::<std::result::Result<Vec<_>, _>>().context("read ENDPOINTS")?;
    Ok(all.into_iter().filter(|endpoint| *endpoint != Endpoint::NONE).collect())
}

/// How many elements a pinned map has, whatever they mean.
pub(super) fn count<K: Pod, V: Pod>(node: &Node, name: &str) -> Result<usize> {
    Ok(read::<K, V>(node, name)?.len())
}

/// The flows of a protocol that a node holds.
pub(super) fn flows(node: &Node, protocol: Protocol) -> Result<Vec<(Tuple, Entry)>> {
    let records = read::<FlowKey, Record>(node, "FLOWS")?;
    let flows = records.into_iter().map(|(key, record)| (record.tuple(&key), record.entry));
    Ok(flows.filter(|(tuple, _)| tuple.protocol() == Some(protocol)).collect())
}

/// What an instance is charged for on a node; nothing if it has no account there.
pub(super) fn charge(node: &Node, instance: Ipv4Addr) -> Result<Charge> {
    let charges = read::<Address, Charge>(node, "CHARGES")?;
    let own = charges.into_iter().find(|(address, _)| *address == Address::from(instance));
    Ok(own.map(|(_, charge)| charge).unwrap_or_default())
}

/// Opens an account that nobody holds: the agent closes it when it looks at everything next.
pub(super) fn open_account(node: &Node, address: Ipv4Addr) -> Result<()> {
    let mut charges = open::<Address, Charge>(node, "CHARGES")?;
    charges.insert(Address::from(address), Charge::default(), 0).context("open an account")
}

pub(super) fn has_account(node: &Node, address: Ipv4Addr) -> Result<bool> {
    let charges = read::<Address, Charge>(node, "CHARGES")?;
    Ok(charges.iter().any(|(holder, _)| *holder == Address::from(address)))
}
