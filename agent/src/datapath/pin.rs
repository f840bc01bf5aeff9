//! The pin directory: private, versioned, and refused if anybody else could have touched it.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{DatapathError, Result};

const MAPS: &str = "map";
const LINKS: &str = "link";

/// Where maps and links are pinned.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    own: Layout,
    others: Vec<Layout>,
}

/// The pins of one layout of the maps, told by its number.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) schema: u32,
    directory: PathBuf,
}

impl Layout {
    fn of(directory: &Path, schema: u32) -> Self {
        Self { schema, directory: directory.join(format!("v{schema}")) }
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.directory.join(MAPS).join(name)
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.directory.join(LINKS).join(name)
    }

    /// Removes every pin; what nothing else holds goes with it.
    fn remove(&self) -> Result<()> {
        for pins in [LINKS, MAPS].map(|part| self.directory.join(part)) {
            for pin in entries(&pins)? {
                fs::remove_file(&pin).map_err(DatapathError::io(format!("remove pin {}", pin.display())))?;
            }
            remove_directory(&pins)?;
        }
        remove_directory(&self.directory)
    }
}

impl Pins {
    /// Makes the directory, or proves that an existing one is root's alone.
    pub(super) fn prepare(directory: PathBuf) -> Result<Self> {
        ensure_bpffs(&directory)?;
        let own = Layout::of(&directory, common::SCHEMA);
        for private in [&directory, &own.directory, &own.map(""), &own.link("")] {
            ensure_private(private)?;
        }
        let others = others(&directory)?;
        Ok(Self { own, others })
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.own.map(name)
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.own.link(name)
    }

    /// What agents of other layouts left.
    pub(super) fn others(&self) -> &[Layout] {
        &self.others
    }

    /// Removes what agents of other layouts left.
    pub(super) fn remove_others(&mut self) -> Result<()> {
        self.others.iter().try_for_each(Layout::remove)?;
        self.others.clear();
        Ok(())
    }
}

/// The directories of other layouts, which must be as private as our own.
fn others(directory: &Path) -> Result<Vec<Layout>> {
    let schema = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix('v')?.parse::<u32>().ok();
    let found = entries(directory)?.into_iter().filter_map(|path| schema(&path));
    let others: Vec<Layout> =
        found.filter(|schema| *schema != common::SCHEMA).map(|schema| Layout::of(directory, schema)).collect();
    others.iter().try_for_each(|layout| ensure_private(&layout.directory))?;
    Ok(others)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = || DatapathError::io(format!("list {}", directory.display()));
    match fs::read_dir(directory) {
        Ok(found) => found.map(|entry| entry.map(|entry| entry.path()).map_err(failed())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed()(error)),
    }
}

fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(DatapathError::io(format!("remove {}", path.display()))(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Mounts a BPF file system above the directory where none is, for root only.
fn ensure_bpffs(directory: &Path) -> Result<()> {
    let parent = directory.parent().unwrap_or(directory);
    fs::create_dir_all(parent).map_err(DatapathError::io(format!("create {}", parent.display())))?;
    let kind =
        statfs(parent).map_err(|errno| DatapathError::io(format!("look at {}", parent.display()))(errno.into()))?;
    if kind.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(Some("bpf"), parent, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(|errno| DatapathError::io(format!("mount a BPF file system on {}", parent.display()))(errno.into()))
}

fn ensure_private(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(DatapathError::io(format!("create {}", path.display()))(error)),
    }
    let found = fs::symlink_metadata(path).map_err(DatapathError::io(format!("look at {}", path.display())))?;
    let private = found.is_dir() && found.uid() == 0 && found.mode() & 0o777 == 0o700;
    if private {
        return Ok(());
    }
    Err(DatapathError::Pin {
        what: "refusing a pin directory that is not root's with mode 0700; remove it or name another with --bpffs"
            .into(),
        path: path.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let home = tempfile::tempdir().expect("temporary directory");
        let path = home.path().join("netpol");
        fs::create_dir(&path).expect("create");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(matches!(ensure_private(&path), Err(DatapathError::Pin { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("chmod");
        assert!(ensure_private(&path).is_ok());
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_refused() {
        let home = tempfile::tempdir().expect("temporary directory");
        let path = home.path().join("netpol");
        std::os::unix::fs::symlink(home.path(), &path).expect("link");
        assert!(matches!(ensure_private(&path), Err(DatapathError::Pin { .. })));
    }
}
