//! A directory for stores and logs, on a real disk so that syncing costs what it costs.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn create(name: &str) -> Result<Self> {
        let parent = std::env::var_os("NETPOL_SANDBOX_DIR").context("the sandbox names its directory")?;
        let path = Path::new(&parent).join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left goes with the sandbox.
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}
