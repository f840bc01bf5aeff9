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

/// Where maps and links are pinned.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    maps: PathBuf,
    links: PathBuf,
}

impl Pins {
    /// Makes the directory, or proves that an existing one is root's alone.
    pub(super) fn prepare(directory: PathBuf) -> Result<Self> {
        ensure_bpffs(&directory)?;
        let version = directory.join(format!("v{}", common::SCHEMA));
        let pins = Self { maps: version.join("map"), links: version.join("link") };
        for private in [&directory, &version, &pins.maps, &pins.links] {
            ensure_private(private)?;
        }
        Ok(pins)
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps.join(name)
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.links.join(name)
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
