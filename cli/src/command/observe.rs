//! `observe`: what this node's datapath tells of packets dropped and flows begun.
//!
//! The agent hands out all it has; which of it is wanted is decided here.

use std::collections::VecDeque;

use crate::agent::{Agent, Event, Line, Span};
use crate::args::ObserveArgs;
use crate::failure::{Exit, Failure};
use crate::output::event::EventPage;
use crate::settings::Settings;
use crate::signal;

/// Prints the events that the agent has kept, and those that follow until Ctrl-C if they are wanted.
pub(crate) async fn observe(args: &ObserveArgs, settings: &Settings) -> Result<Exit, Failure> {
    args.filter.validate()?;
    let page = EventPage::new(settings.printer, args.span())?;
    let agent = Agent::at(&settings.socket);
    match args.span() {
        Span::Kept => read(args, &agent, page).await,
        Span::Endless => tokio::select! {
            // First in every turn: Ctrl-C must count before there is a line that somebody could answer with it.
            biased;
            () = signal::interrupted() => Ok(Exit::Ok),
            ended = read(args, &agent, page) => ended,
        },
    }
}

async fn read(args: &ObserveArgs, agent: &Agent, mut page: EventPage) -> Result<Exit, Failure> {
    let mut events = agent.events(args.span()).await?;
    let mut window = match (args.last, args.span()) {
        (None, _) => Window::open(),
        (Some(last), Span::Kept) => Window::over(usize::MAX, last),
        (Some(last), Span::Endless) => Window::over(count_kept(agent).await?, last),
    };
    page.begin()?;
    while let Some(line) = events.next().await? {
        let (shown, lost) = match line {
            Line::Event(event) => (window.pass(args.filter.takes(&event).then_some(*event)), None),
            Line::Unknown => (window.pass(None), None),
            Line::Lost(events) => (window.end(), Some(events)),
        };
        shown.into_iter().try_for_each(|event| page.event(event))?;
        lost.map_or(Ok(()), |events| page.lost(events))?;
    }
    window.end().into_iter().try_for_each(|event| page.event(event))?;
    page.end()?;
    Ok(Exit::Ok)
}

/// Says how many lines of an endless reading, opened before, are of the past: it does not mark where they end.
///
/// What happens between the opening and this count is taken for past, which it is by now.
async fn count_kept(agent: &Agent) -> Result<usize, Failure> {
    let mut kept = agent.events(Span::Kept).await?;
    let mut lines = 0;
    while kept.next().await?.is_some() {
        lines += 1;
    }
    Ok(lines)
}

/// Holds the past back until it is known which events are the last of it; lets everything after it through.
#[derive(Debug)]
struct Window {
    /// Lines of the past that are still to come.
    ahead: usize,
    last: usize,
    held: VecDeque<Event>,
}

impl Window {
    /// Holds nothing back.
    fn open() -> Self {
        Self::over(0, 0)
    }

    fn over(lines: usize, last: usize) -> Self {
        Self { ahead: lines, last, held: VecDeque::new() }
    }

    /// Takes the next line, with its event if that is wanted, and returns what may be shown now.
    fn pass(&mut self, wanted: Option<Event>) -> Vec<Event> {
        if self.ahead == 0 {
            return wanted.into_iter().collect();
        }
        self.ahead -= 1;
        self.held.extend(wanted);
        if self.held.len() > self.last {
            self.held.pop_front();
        }
        if self.ahead == 0 { self.end() } else { Vec::new() }
    }

    /// Holds nothing back any more, and returns what it held.
    fn end(&mut self) -> Vec<Event> {
        self.ahead = 0;
        std::mem::take(&mut self.held).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::events::tests::{DENIED, event};

    const NONE: [u32; 0] = [];

    fn at(time: u32) -> Event {
        Event { time: time.to_string(), ..event(DENIED) }
    }

    fn times(events: Vec<Event>) -> Vec<u32> {
        events.iter().map(|event| event.time.parse().expect("a number")).collect()
    }

    #[test]
    fn without_a_limit_every_event_passes_at_once() {
        let mut window = Window::open();
        assert_eq!(times(window.pass(Some(at(1)))), [1]);
        assert_eq!(times(window.pass(None)), NONE);
        assert_eq!(times(window.end()), NONE);
    }

    #[test]
    fn the_last_of_what_is_wanted_comes_when_the_past_has_ended() {
        let mut window = Window::over(5, 2);
        for line in [Some(at(1)), Some(at(2)), None, Some(at(3))] {
            assert_eq!(times(window.pass(line)), NONE);
        }
        assert_eq!(times(window.pass(None)), [2, 3], "the past ends with its fifth line, wanted or not");
        assert_eq!(times(window.pass(Some(at(6)))), [6]);
    }

    #[test]
    fn the_last_none_is_nothing_of_the_past() {
        let mut window = Window::over(1, 0);
        assert_eq!(times(window.pass(Some(at(1)))), NONE);
        assert_eq!(times(window.pass(Some(at(2)))), [2]);
    }

    #[test]
    fn a_past_without_a_known_end_ends_with_the_reading() {
        let mut window = Window::over(usize::MAX, 2);
        for time in 1..=3 {
            assert_eq!(times(window.pass(Some(at(time)))), NONE);
        }
        assert_eq!(times(window.end()), [2, 3]);
        assert_eq!(times(window.pass(Some(at(4)))), [4]);
    }
}
