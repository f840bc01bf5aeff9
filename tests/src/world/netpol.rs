//! Runs the real `netpol` and keeps what it said.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One finished call of the command line.
#[derive(Debug, Clone)]
pub struct Invocation {
    pub line: String,
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Invocation {
    pub fn run(command: &mut Command, line: String) -> Result<Self> {
        let started = Instant::now();
        let output = command.output().with_context(|| format!("start `{line}`"))?;
        Ok(Self {
            line,
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: started.elapsed(),
        })
    }

    /// Everything it said: data first, then talk.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    pub fn expect_exit(self, exit: i32) -> Result<Self> {
        ensure!(self.exit == exit, "expected exit code {exit}\n{self}");
        Ok(self)
    }

    pub fn expect_said(self, words: &str) -> Result<Self> {
        ensure!(self.said().contains(words), "expected to read `{words}`\n{self}");
        Ok(self)
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON\n{self}"))
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$ {}\n{}{}(exit code {})", self.line, self.stdout, self.stderr, self.exit)
    }
}
