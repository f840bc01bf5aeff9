//! `cargo xtask demo`: builds the world before the reader's eyes, then tells the story step by step.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use tests::story::{CHAPTERS, Cast, Telling, play};
use tests::world::World;
use tests::world::netpol::Invocation;

fn main() -> ExitCode {
    let page = Page::for_this_terminal();
    let started = Instant::now();
    match tell(&page) {
        Ok(steps) => {
            page.heading("That was all of it");
            page.line(&format!(
                "{} chapters, {steps} steps, each held, in {:.1} s.",
                CHAPTERS.len(),
                started.elapsed().as_secs_f32()
            ));
            page.line("Every namespace, pin and process of the demo goes with this program.");
            page.line("Next: cargo xtask test");
            ExitCode::SUCCESS
        }
        Err(error) => {
            page.failure(&format!("{error:?}"));
            ExitCode::FAILURE
        }
    }
}

fn tell(page: &Page) -> Result<usize> {
    let mut world = build(page)?;
    let told = attach_and_play(&mut world, page);
    if told.is_err() {
        page.line(&world.logs());
    }
    told
}

fn build(page: &Page) -> Result<World> {
    page.heading("Two nodes, one underlay, one policy API");
    let mut world =
        page.timed("network namespaces, a bridge between them, CA and tokens", || World::make(Cast::plan()))?;
    page.timed("netpol-api on an embedded SQLite file", || world.control.start())?;
    page.timed("netpol-agent on n1 and on n2", || world.start_agents())?;
    Ok(world)
}

fn attach_and_play(world: &mut World, page: &Page) -> Result<usize> {
    let cast = page.timed("instances: netpol attach --app APP --netns PATH", || Cast::attach(world))?;
    for instance in cast.all() {
        let (name, node, identity) = (instance.name(), &instance.node, instance.attached.identity);
        page.line(&format!("{name} on {node}: {}, identity {identity}", instance.address()?));
    }
    let mut steps = 0;
    play(world, &cast, &mut |telling| {
        steps += usize::from(!matches!(telling, Telling::Chapter { .. }));
        page.tell(&telling);
    })?;
    Ok(steps)
}

/// How text is set: plain where it is piped, with colours on a terminal.
struct Page {
    colours: bool,
}

impl Page {
    fn for_this_terminal() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: wanted && std::io::stdout().is_terminal() }
    }

    fn tell(&self, telling: &Telling<'_>) {
        match telling {
            Telling::Chapter { number, chapter } => {
                self.heading(&format!("{number}. {}", chapter.title));
                self.line(chapter.shows);
                println!();
            }
            Telling::Command(invocation) => self.command(invocation),
            Telling::Finding(text) => {
                for (index, line) in text.lines().enumerate() {
                    let sign = if index == 0 { self.set(Style::Good, "*") } else { " ".into() };
                    println!("  {sign} {line}");
                }
            }
        }
    }

    fn command(&self, invocation: &Invocation) {
        println!("  {}", self.set(Style::Bold, &format!("$ {}", invocation.line)));
        for line in invocation.said().lines() {
            println!("    {line}");
        }
        if invocation.exit != 0 {
            println!("    {}", self.set(Style::Dim, &format!("exit code {}", invocation.exit)));
        }
    }

    fn heading(&self, text: &str) {
        println!("\n{}", self.set(Style::Bold, text));
    }

    fn line(&self, text: &str) {
        println!("  {text}");
    }

    fn failure(&self, text: &str) {
        println!("\n{}\n{text}", self.set(Style::Bad, "This step does not hold:"));
    }

    /// Says what is going on before it happens, and how long it took.
    fn timed<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        print!("  {what} ... ");
        // A closed standard output is no reason to stop.
        std::io::stdout().flush().unwrap_or_default();
        let started = Instant::now();
        let result = work();
        let end = if result.is_ok() {
            self.set(Style::Dim, &seconds(started.elapsed()))
        } else {
            self.set(Style::Bad, "failed")
        };
        println!("{end}");
        result
    }

    fn set(&self, style: Style, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Good => 32,
            Style::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[derive(Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Good,
    Bad,
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f32())
}
