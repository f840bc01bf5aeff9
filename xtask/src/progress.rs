//! One line per step: what runs, what the tool is at, and how long it has taken.
//!
//! The tool's output is kept and shown only when the step fails, together with what to do about it.

use std::fmt;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How often a terminal's line is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a log is told that a long step is still at work.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Fits the narrowest terminal in use; longer lines could not be redrawn in place.
const WIDTH: usize = 79;

#[derive(Debug)]
pub(crate) struct Failure {
    step: String,
    output: String,
    remedy: String,
}

impl Failure {
    pub(crate) fn new(step: &str, output: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { step: step.into(), output: output.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.output.is_empty() {
            writeln!(f, "\n{}\n", self.output.trim_end())?;
        }
        writeln!(f, "error: {} failed", self.step)?;
        write!(f, "  help: {}", self.remedy)
    }
}

/// Runs `command` to its end under the step's name and returns what it printed on standard output.
pub(crate) fn step(name: &str, command: &mut Command, remedy: &str) -> Result<String, Failure> {
    let started = Instant::now();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child =
        spawned.map_err(|error| Failure::new(name, format!("cannot start {command:?}: {error}"), remedy))?;
    let (sender, lines) = mpsc::channel();
    forward(child.stdout.take(), Source::Output, sender.clone());
    forward(child.stderr.take(), Source::Talk, sender);

    let transcript = follow(name, started, &lines);
    let status = child.wait().map_err(|error| Failure::new(name, error.to_string(), remedy))?;
    finish(name, started, status, transcript, remedy)
}

/// Says that there was nothing to do, in the form of the other lines.
pub(crate) fn nothing_to_do(name: &str, why: &str) {
    println!("  {name}: {why}");
}

#[derive(Clone, Copy)]
enum Source {
    Output,
    Talk,
}

struct Line {
    source: Source,
    text: String,
}

#[derive(Default)]
struct Transcript {
    everything: String,
    output: String,
}

impl Transcript {
    fn keep(&mut self, line: &Line) {
        if !is_routine(&line.text) {
            self.everything.push_str(&line.text);
            self.everything.push('\n');
        }
        if matches!(line.source, Source::Output) {
            self.output.push_str(&line.text);
            self.output.push('\n');
        }
    }
}

/// What cargo says of each package while all goes well: worth a glance in passing, not a place in a failure.
fn is_routine(line: &str) -> bool {
    let first = line.trim_start().split(' ').next().unwrap_or_default();
    matches!(
        first,
        "Compiling" | "Checking" | "Downloading" | "Downloaded" | "Fresh" | "Installing" | "Locking" | "Adding"
    )
}

fn forward(pipe: Option<impl Read + Send + 'static>, source: Source, sender: Sender<Line>) {
    let Some(pipe) = pipe else { return };
    std::thread::spawn(move || {
        for bytes in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if sender.send(Line { source, text }).is_err() {
                return;
            }
        }
    });
}

fn follow(name: &str, started: Instant, lines: &Receiver<Line>) -> Transcript {
    let terminal = std::io::stdout().is_terminal();
    let mut transcript = Transcript::default();
    let mut latest = String::new();
    let mut told = Instant::now();
    loop {
        match lines.recv_timeout(REDRAW) {
            Ok(line) => {
                transcript.keep(&line);
                latest = line.text.trim().to_owned();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return transcript,
        }
        if terminal {
            draw(&format!("  {name} ({} s) {latest}", started.elapsed().as_secs()));
        } else if told.elapsed() >= HEARTBEAT {
            told = Instant::now();
            println!("  {name}: {} s, {latest}", started.elapsed().as_secs());
        }
    }
}

fn draw(line: &str) {
    let shown: String = line.chars().filter(|c| !c.is_control()).take(WIDTH).collect();
    print!("\r\x1b[2K{shown}");
    flush();
}

fn finish(
    name: &str,
    started: Instant,
    status: ExitStatus,
    transcript: Transcript,
    remedy: &str,
) -> Result<String, Failure> {
    let seconds = started.elapsed().as_secs_f32();
    let clear = if std::io::stdout().is_terminal() { "\r\x1b[2K" } else { "" };
    if status.success() {
        println!("{clear}  {name}: {seconds:.1} s");
        return Ok(transcript.output);
    }
    println!("{clear}  {name}: FAILED after {seconds:.1} s");
    flush();
    Err(Failure::new(name, transcript.everything, remedy))
}

fn flush() {
    // A closed standard output is no reason to stop a build.
    std::io::stdout().flush().unwrap_or_default();
}
