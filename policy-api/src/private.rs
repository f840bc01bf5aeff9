//! Files that are their owner's alone: written whole or not at all, at no time readable by others, and read only if they are not
//! by then. Knows nothing of what is in them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// What nobody but the owner may do with them.
const OTHERS: u32 = 0o077;

/// Opens a file that is the owner's alone if it is made by this.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).open(path)
}

/// Puts a file in the place of what is there. Whoever crashes finds one or the other, maybe the old one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // What a crash left may be open to others.
    fs::remove_file(&new).or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) })?;
    let mut file = open(OpenOptions::new().create_new(true).write(true), &new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&new, path)
}

/// The same, and it is still there when this has returned, whatever becomes of the machine.
pub fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// The text of a file; nothing if there is no file.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same of a secret, which is none any more if others may read it.
pub fn read_secret(path: &Path) -> io::Result<Option<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "it is open to others (mode {mode:04o}): `chmod 600` it, and replace what is in it if they read it"
            ),
        ));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some(text))
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn what_a_crash_left_open_to_others_is_not_written_into() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, left) = (directory.path().join("a.key"), directory.path().join("a.new"));
        fs::write(&left, "left").expect("written");
        fs::set_permissions(&left, Permissions::from_mode(0o666)).expect("opened");
        keep(&path, b"secret").expect("kept");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(read_secret(&path).expect("read").as_deref(), Some("secret"));
        assert!(!left.exists());
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("a.key");
        assert_eq!(read_secret(&path).expect("read"), None);
        keep(&path, b"secret").expect("kept");
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("opened");
            let said = read_secret(&path).expect_err("open to others").to_string();
            assert!(said.contains(&format!("{mode:04o}")) && said.contains("chmod 600"), "{said}");
        }
    }
}
