//! Plays the story in a world: does each step, and compares what came back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{CHAPTERS, Cast, Chapter, Step, Who};
use crate::world::World;
use crate::world::capture::Capture;
use crate::world::flow::Flow;
use crate::world::netpol::Invocation;
use crate::world::probe::{self, Transport};

/// Nothing for this long is silence: hundreds of messages would have come.
const QUIET: Duration = Duration::from_millis(400);
/// A stream that lives much longer than its rule was not stopped by the revoke.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What the story has to tell as it goes.
#[derive(Debug)]
pub enum Telling<'a> {
    Chapter {
        number: usize,
        chapter: &'a Chapter,
    },
    /// A command line, what it said and how it ended.
    Command(&'a Invocation),
    /// Something that was found out by other means.
    Finding(String),
}

/// Plays every chapter; the first step that does not hold ends it.
pub fn play(world: &mut World, cast: &Cast, tell: &mut dyn FnMut(Telling<'_>)) -> Result<()> {
    let mut stage = Stage { world, cast, tell, flows: Vec::new(), latest_command: Instant::now() };
    for (number, chapter) in (1..).zip(CHAPTERS) {
        (stage.tell)(Telling::Chapter { number, chapter });
        for step in chapter.steps {
            stage.act(step).with_context(|| format!("in chapter {number}, `{}`: {step:?}", chapter.title))?;
        }
    }
    Ok(())
}

struct Stage<'a> {
    world: &'a World,
    cast: &'a Cast,
    tell: &'a mut dyn FnMut(Telling<'_>),
    flows: Vec<(Transport, Flow)>,
    latest_command: Instant,
}

impl Stage<'_> {
    fn act(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Netpol { arguments, exit, says } => self.netpol(arguments, exit, says),
            Step::Lookup(who) => self.lookup(who),
            Step::Reaches { transport, from, to, port } => self.reaches(transport, from, to, port),
            Step::Blocked { transport, from, to, port } => self.blocked(transport, from, to, port),
            Step::Tagged { from, to, port } => self.tagged(from, to, port),
            Step::Open { transport, from, to, port } => self.open(transport, from, to, port),
            Step::Silenced(transport) => self.silenced(transport),
            Step::Flows(transport) => self.flows(transport),
        }
    }

    fn netpol(&mut self, arguments: &[&str], exit: i32, says: &[&str]) -> Result<()> {
        self.latest_command = Instant::now();
        let invocation = self.world.netpol(arguments)?;
        (self.tell)(Telling::Command(&invocation));
        let invocation = invocation.expect_exit(exit)?;
        says.iter().try_fold(invocation, |invocation, words| invocation.expect_said(words)).map(drop)
    }

    fn lookup(&mut self, who: Who) -> Result<()> {
        let instance = self.cast.instance(who);
        let (address, name) = (instance.address()?.to_string(), instance.name());
        let invocation = self.world.netpol(&["lookup", &address])?;
        (self.tell)(Telling::Command(&invocation));
        invocation.expect_exit(0)?.expect_said(&name)?.expect_said(&instance.node).map(drop)
    }

    fn reaches(&mut self, transport: Transport, from: Who, to: Who, port: u16) -> Result<()> {
        let took = probe::expect_answer(transport, self.cast.instance(from), self.cast.instance(to), port)?;
        let way = self.way(from, to, transport, port);
        self.found(format!("{way}: works ({:.1} ms)", took.as_secs_f64() * 1000.0));
        Ok(())
    }

    fn blocked(&mut self, transport: Transport, from: Who, to: Who, port: u16) -> Result<()> {
        probe::expect_blocked(transport, self.cast.instance(from), self.cast.instance(to), port)?;
        let way = self.way(from, to, transport, port);
        self.found(format!("{way}: blocked"));
        Ok(())
    }

    fn tagged(&mut self, from: Who, to: Who, port: u16) -> Result<()> {
        let (from, to) = (self.cast.instance(from), self.cast.instance(to));
        let (sender, receiver) = (self.world.node(&from.node)?, self.world.node(&to.node)?);
        let capture = Capture::start(&sender.namespace)?;
        probe::expect_answer(Transport::Tcp, from, to, port)?;
        let forth = format!("{}.{port}: Flags", to.address()?);
        let packets = capture.await_packet(&[&from.address()?.to_string(), &forth])?;
        for packet in packets.iter().filter(|packet| packet.inner.contains(&forth)) {
            ensure!(packet.vni == from.attached.identity, "expected VNI {}: {packet:?}", from.attached.identity);
            ensure!(packet.flags == "[I] (0x08)", "not the standard VXLAN header: {packet:?}");
            let outer = (packet.outer_source, packet.outer_destination);
            ensure!(outer == (sender.underlay, receiver.underlay), "not from node to node: {packet:?}");
        }
        let Some(first) = packets.first() else { bail!("nothing was captured") };
        let inner = first.inner.split(", seq").next().unwrap_or_default();
        let text = format!(
            "{} > {}: VXLAN, flags {}, vni {}  <- the identity of {}\n{}",
            first.outer_source, first.outer_destination, first.flags, first.vni, from.app, inner
        );
        self.found(text);
        Ok(())
    }

    fn open(&mut self, transport: Transport, from: Who, to: Who, port: u16) -> Result<()> {
        self.close(transport);
        let flow = Flow::open(transport, self.cast.instance(from), self.cast.instance(to), port)?;
        self.flows.push((transport, flow));
        let way = self.way(from, to, transport, port);
        self.found(format!("{way}: a stream is open, messages run both ways"));
        Ok(())
    }

    /// Also closes the stream: its port is free for the next question.
    fn silenced(&mut self, transport: Transport) -> Result<()> {
        let flow = self.flow(transport)?;
        flow.await_silence(QUIET)?;
        let last = flow.last_deliveries();
        self.close(transport);
        let after = |end: Instant| end.saturating_duration_since(self.latest_command);
        let (forth, back) = (after(last.forth), after(last.back));
        ensure!(forth.max(back) < AT_ONCE, "the stream lived on for {:?} after the command", forth.max(back));
        self.found(format!(
            "the {} stream is silent both ways; last message forth {:.1} ms, back {:.1} ms after the command was typed",
            transport.name(),
            forth.as_secs_f64() * 1000.0,
            back.as_secs_f64() * 1000.0
        ));
        Ok(())
    }

    fn close(&mut self, transport: Transport) {
        self.flows.retain(|(open, _)| *open != transport);
    }

    fn flows(&mut self, transport: Transport) -> Result<()> {
        self.flow(transport)?.await_deliveries(100)?;
        self.found(format!("the {} stream still runs both ways", transport.name()));
        Ok(())
    }

    fn flow(&self, transport: Transport) -> Result<&Flow> {
        let found = self.flows.iter().find(|(open, _)| *open == transport);
        found.map(|(_, flow)| flow).with_context(|| format!("no {} stream is open", transport.name()))
    }

    /// `appA/0 on n1 -> appB/0 on n2, tcp 8080`
    fn way(&self, from: Who, to: Who, transport: Transport, port: u16) -> String {
        let (from, to) = (self.cast.instance(from), self.cast.instance(to));
        format!("{} on {} -> {} on {}, {} {port}", from.name(), from.node, to.name(), to.node, transport.name())
    }

    fn found(&mut self, text: String) {
        (self.tell)(Telling::Finding(text));
    }
}
