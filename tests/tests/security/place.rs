//! A node is believed to be at an underlay address only after it has received something there: where it is decides whose packets
//! are taken for its instances'.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::{Context, Result, ensure};
use policy_api::client::{ClientError, Identity};
use policy_api::model::{CHALLENGE_PORT, Join, UnderlayProof};
use tests::world::World;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};

use super::talk::{before_the_agents_start, udp_socket};

const NOBODYS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

fn join_at(address: Ipv4Addr, proof: Option<UnderlayProof>) -> Result<Join> {
    Ok(Join { csr: Some(Identity::generate()?.request()?), proof, ..Join::at(IpAddr::from(address)) })
}

/// What the API says to a node that wants to be known there.
fn refusal(world: &World, node: &str, address: Ipv4Addr, proof: Option<UnderlayProof>) -> Result<ClientError> {
    let answer = world.control.join(node, &join_at(address, proof)?)?;
    answer.err().with_context(|| format!("{node} is believed to be at {address}"))
}

fn expect_unproven(world: &World, node: &str, address: Ipv4Addr, proof: Option<UnderlayProof>) -> Result<()> {
    let said = refusal(world, node, address, proof)?;
    ensure!(said.status() == Some(428) && said.to_string().contains(&address.to_string()), "{said}");
    let nodes = world.netpol(&["nodes", "-o", "name"])?.expect_exit(0)?.stdout;
    ensure!(!nodes.contains(node), "{nodes}");
    Ok(())
}

fn receiver(node: &Node) -> Result<UdpSocket> {
    udp_socket(&node.namespace, (node.underlay, CHALLENGE_PORT))
}

fn received(socket: &UdpSocket) -> Result<UnderlayProof> {
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer).context("a proof")?;
    std::str::from_utf8(&buffer[..length])?.parse().context("a proof")
}

#[test]
fn a_node_is_not_registered_at_an_address_where_nobody_answers() {
    before_the_agents_start(&["n1"], |world| {
        expect_unproven(world, "n1", NOBODYS, None)?;
        expect_unproven(world, "n1", NOBODYS, Some(UnderlayProof::new([7; 32])))
    });
}

#[test]
fn what_was_sent_to_one_node_at_one_address_proves_nothing_of_another() {
    before_the_agents_start(&["n1", "n2"], |world| {
        let stranger = world.stranger()?;
        let elsewhere = udp_socket(&stranger, (tests::world::STRANGER, CHALLENGE_PORT))?;
        let here = receiver(world.node("n1")?)?;
        let own_address = world.node("n1")?.underlay;

        expect_unproven(world, "n1", own_address, None)?;
        let own = received(&here)?;
        // The attacker is n1, and wants what is sent to a machine that is no node yet.
        expect_unproven(world, "n1", tests::world::STRANGER, None)?;
        let strangers = received(&elsewhere)?;
        ensure!(here.recv(&mut [0; 128]).is_err(), "what is for another machine came to n1");
        expect_unproven(world, "n1", tests::world::STRANGER, Some(own))?;
        // And who has what was sent there for n1 is not n2.
        expect_unproven(world, "n2", tests::world::STRANGER, Some(strangers))?;
        expect_unproven(world, "n2", own_address, Some(own))?;

        let joined = world.control.join("n1", &join_at(own_address, Some(own))?)??;
        ensure!(joined.node.underlay == IpAddr::from(own_address), "{joined:?}");
        Ok(())
    });
}

#[test]
fn the_address_of_another_node_is_refused_and_nothing_is_sent_there() {
    before_the_agents_start(&["n1", "n2"], |world| {
        world.control.enrol(world.node("n1")?)?;
        let theirs = world.node("n1")?.underlay;
        let heard = receiver(world.node("n1")?)?;
        let said = refusal(world, "n2", theirs, None)?;
        ensure!(said.status() == Some(409) && said.to_string().contains("belongs to node `n1`"), "{said}");
        ensure!(heard.recv(&mut [0; 128]).is_err(), "a node that stands is challenged for another's claim");
        Ok(())
    });
}

#[test]
fn an_agent_whose_proof_does_not_arrive_names_address_and_remedy_and_starts_when_it_does() {
    const SHUT: &str = "dir in src 0.0.0.0/0 dst 192.0.2.1/32 proto udp dport 789";
    before_the_agents_start(&["n1"], |world| {
        let node = world.node("n1")?;
        node.namespace.ip(&format!("xfrm policy add {SHUT} action block\n"))?;
        let mut agent = node.launch_agent(&[])?;
        await_that("the agent to say what is wrong", PATIENCE, || {
            let log = agent.log();
            Ok(["192.0.2.1", "UDP port 789", "--underlay believed"].iter().all(|word| log.contains(word)))
        })
        .with_context(|| agent.log_tail())?;
        node.namespace.ip(&format!("xfrm policy delete {SHUT}\n"))?;
        agent.await_ready(|| Ok(node.status()?["connected"] == true))
    });
}

#[test]
fn an_agent_that_is_not_at_the_address_it_is_told_says_so_and_ends() {
    before_the_agents_start(&["n1"], |world| {
        world.node_mut("n1")?.tunnel_from(NOBODYS.into());
        let said = match world.start_agents() {
            Ok(()) => anyhow::bail!("the agent started"),
            Err(error) => format!("{error:?}"),
        };
        let words = ["ended with", "192.0.2.77", "--underlay must be an address of this node"];
        ensure!(words.iter().all(|word| said.contains(word)), "{said}");
        Ok(())
    });
}
