//! Directories beneath a root, opened one component at a time, by descriptor (S13).
//!
//! No path is ever resolved by the kernel across a link, a mount or `..`: each step opens one name in an open directory
//! with `openat2` (BENEATH, NO_SYMLINKS, NO_XDEV). Where that call is lacking (old kernels, some sandboxes), `openat`
//! with O_NOFOLLOW does the same for a single component, and the mount ids are compared. They tell what `st_dev` does
//! not: a bind mount has its parent's device.
//!
//! All calls block; they run on the blocking threads.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Statx, StatxFlags, Timespec, Timestamps,
};
use rustix::io::{Errno, Result, retry_on_intr};
use rustix::process::{Gid, Uid};

/// Room for a batch of directory entries, each at most 280 bytes.
const ENTRIES_BYTES: usize = 32 * 1024;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// A file, a link (never followed), a socket, …
    Other,
}

/// What a name in a directory is, the link itself if it is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub kind: Kind,
    /// True if it is a file with content of its own, and no link, pipe or device.
    pub is_regular: bool,
    /// Its size by its content.
    pub size: u64,
    /// What it takes on the disk, in bytes.
    pub allocated: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, u32),
    /// When it, or what is known of it, last changed; seconds and nanoseconds.
    pub changed: (i64, u32),
    pub mount: u64,
    /// How many names it has.
    pub links: u32,
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Major and minor number, inode.
    pub identity: (u32, u32, u64),
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    mount: u64,
}

impl Dir {
    /// Opens the root. Links that lead to it are the operator's and followed; `/` itself is refused with `EPERM`.
    pub fn root(path: &Path) -> Result<Self> {
        let fd = retry_on_intr(|| rustix::fs::open(path, DIRECTORY, Mode::empty()))?;
        let stat = stat(&fd, c"", AtFlags::EMPTY_PATH)?;
        if stat.identity == self::stat(rustix::fs::CWD, c"/", AtFlags::empty())?.identity {
            return Err(Errno::PERM);
        }
        Ok(Self { fd, mount: stat.mount })
    }

    /// Opens a directory in this one. `EXDEV` if something is mounted there, `NOTDIR` or `LOOP` if it is no directory.
    pub fn open(&self, name: &[u8]) -> Result<Self> {
        let name = component(name)?;
        match retry_on_intr(|| rustix::fs::openat2(&self.fd, name, DIRECTORY, Mode::empty(), RESOLVE)) {
            Err(Errno::NOSYS | Errno::PERM) => self.open_stepwise(name),
            opened => Ok(Self { fd: opened?, mount: self.mount }),
        }
    }

    /// [`Dir::open`] without `openat2`.
    pub fn open_stepwise(&self, name: &OsStr) -> Result<Self> {
        Ok(Self { fd: self.step(name, DIRECTORY, Mode::empty())?, mount: self.mount })
    }

    /// Opens one name without `openat2`: no link, nothing mounted.
    fn step(&self, name: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let fd = retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags | OFlags::NOFOLLOW, mode))?;
        let mount = stat(&fd, c"", AtFlags::EMPTY_PATH)?.mount;
        if mount == self.mount { Ok(fd) } else { Err(Errno::XDEV) }
    }

    /// Opens what is no directory, as [`Dir::open`] does, and never waits for a pipe's other end.
    fn file(&self, name: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let name = component(name)?;
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match retry_on_intr(|| rustix::fs::openat2(&self.fd, name, flags, mode, RESOLVE)) {
            Err(Errno::NOSYS | Errno::PERM) => self.step(name, flags, mode),
            opened => opened,
        }
    }

    /// Opens a file of this directory for reading. It may be no regular file: look before you read.
    pub fn open_file(&self, name: &[u8]) -> Result<OwnedFd> {
        self.file(name, OFlags::RDONLY, Mode::empty())
    }

    /// Makes a file that is not there yet, for the collector's user alone, and opens it for writing.
    pub fn create(&self, name: &[u8]) -> Result<OwnedFd> {
        self.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)
    }

    /// Makes a file that holds this, in place of what a crash left of one. What it holds is durable then, its name once this directory is
    /// [synced](Dir::sync).
    pub fn write(&self, name: &[u8], bytes: &[u8]) -> Result<()> {
        match self.unlink(name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let mut file = File::from(self.create(name)?);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// Opens a file for writing, made if it is not there.
    pub fn open_or_create(&self, name: &[u8]) -> Result<OwnedFd> {
        self.file(name, OFlags::WRONLY | OFlags::CREATE, Mode::RUSR | Mode::WUSR)
    }

    /// Makes what was made, renamed and removed here outlive a power cut.
    pub fn sync(&self) -> Result<()> {
        retry_on_intr(|| rustix::fs::fsync(&self.fd))
    }

    /// Gives a file of this directory another name, in place of what had it.
    pub fn replace(&self, name: &[u8], new_name: &[u8]) -> Result<()> {
        rustix::fs::renameat(&self.fd, component(name)?, &self.fd, component(new_name)?)
    }

    /// Opens a directory several levels below, step by step; without names, this one anew.
    pub fn descend(&self, names: &[&[u8]]) -> Result<Self> {
        let fd = retry_on_intr(|| rustix::fs::openat(&self.fd, c".", DIRECTORY, Mode::empty()))?;
        names.iter().try_fold(Self { fd, mount: self.mount }, |dir, name| dir.open(name))
    }

    /// What is in this directory, from its start, in no order; `.` and `..` are left out. Entries that come or go
    /// meanwhile may be missed. `fault` turns an error of the directory itself into the caller's.
    pub fn entries<E>(
        &self,
        fault: impl Fn(Errno) -> E,
        mut each: impl FnMut(&[u8], Kind) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.rewind().map_err(&fault)?;
        while self.more_entries(&fault, &mut each)? {}
        Ok(())
    }

    /// The next entries, a few hundred, from where the last call ended; false if there are no more. Whoever has something to do
    /// in between need not remember a large directory as a whole.
    pub fn more_entries<E>(
        &self,
        fault: impl Fn(Errno) -> E,
        mut each: impl FnMut(&[u8], Kind) -> std::result::Result<(), E>,
    ) -> std::result::Result<bool, E> {
        let mut buffer = Vec::with_capacity(ENTRIES_BYTES);
        let mut entries = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        loop {
            let entry = match entries.next() {
                None => return Ok(false),
                Some(Err(Errno::INTR)) => continue,
                Some(entry) => entry.map_err(&fault)?,
            };
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let kind = match entry.file_type() {
                    FileType::Directory => Some(Kind::Directory),
                    // Some file systems do not say.
                    FileType::Unknown => match self.stat(name) {
                        Ok(stat) => Some(stat.kind),
                        Err(Errno::NOENT) => None,
                        Err(error) => return Err(fault(error)),
                    },
                    _ => Some(Kind::Other),
                };
                if let Some(kind) = kind {
                    each(name, kind)?;
                }
            }
            if entries.is_buffer_empty() {
                return Ok(true);
            }
        }
    }

    /// Goes back to this directory's first entry.
    pub fn rewind(&self) -> Result<()> {
        rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0)).map(|_| ())
    }

    /// What a name in this directory is. `Stat::mount` differs from [`Dir::mount`] if something is mounted there.
    pub fn stat(&self, name: &[u8]) -> Result<Stat> {
        stat(&self.fd, component(name)?, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What this directory itself is.
    pub fn own_stat(&self) -> Result<Stat> {
        stat(&self.fd, c"", AtFlags::EMPTY_PATH)
    }

    /// The mount that it lies on.
    pub fn mount(&self) -> u64 {
        self.mount
    }

    /// Opens a directory in this one, made if it is not there.
    pub fn make(&self, name: &[u8]) -> Result<Self> {
        match rustix::fs::mkdirat(&self.fd, component(name)?, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.open(name),
            Err(error) => Err(error),
        }
    }

    /// Moves a name of this directory to another one, where it must not be yet.
    pub fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        let (name, new_name) = (component(name)?, component(new_name)?);
        match rustix::fs::renameat_with(&self.fd, name, &to.fd, new_name, RenameFlags::NOREPLACE) {
            // Network file systems know no flags. There a directory at least never replaces one that holds something.
            Err(Errno::INVAL | Errno::NOSYS)
                if matches!(stat(&to.fd, new_name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) =>
            {
                rustix::fs::renameat(&self.fd, name, &to.fd, new_name)
            }
            done => done,
        }
    }

    /// Moves a name of this directory to another one, in place of what has it there.
    pub fn replace_in(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        rustix::fs::renameat(&self.fd, component(name)?, &to.fd, component(new_name)?)
    }

    /// Gives this directory the owner, the permissions and the time of another one.
    pub fn be_like(&self, stat: &Stat) -> Result<()> {
        self.belong_to(stat.owner, stat.mode)?;
        let (tv_sec, tv_nsec) = stat.modified;
        let modified = Timespec { tv_sec, tv_nsec: tv_nsec.into() };
        let kept = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        rustix::fs::futimens(&self.fd, &Timestamps { last_access: kept, last_modification: modified })
    }

    /// Gives this directory to a user and a group, and sets its permissions.
    pub fn belong_to(&self, (user, group): (u32, u32), mode: u32) -> Result<()> {
        if user != u32::MAX && group != u32::MAX {
            match rustix::fs::fchown(&self.fd, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))) {
                // Only root may give away what is its own; what the collector's user made is better than nothing.
                Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode))
    }

    /// Removes a name that is no directory.
    pub fn unlink(&self, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, component(name)?, AtFlags::empty())
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, component(name)?, AtFlags::REMOVEDIR)
    }
}

/// A name that stays in its directory.
fn component(name: &[u8]) -> Result<&OsStr> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    Ok(OsStr::from_bytes(name))
}

fn stat(dir: impl AsFd, name: impl rustix::path::Arg + Copy, flags: AtFlags) -> Result<Stat> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let statx = retry_on_intr(|| rustix::fs::statx(&dir, name, flags | AtFlags::NO_AUTOMOUNT, wanted))?;
    if !StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::MNT_ID) {
        // Without mount ids a mount could be swept unseen (S13).
        return Err(Errno::OPNOTSUPP);
    }
    Ok(Stat::from(statx))
}

impl From<Statx> for Stat {
    fn from(statx: Statx) -> Self {
        let kind = FileType::from_raw_mode(statx.stx_mode.into());
        Self {
            kind: if kind == FileType::Directory { Kind::Directory } else { Kind::Other },
            is_regular: kind == FileType::RegularFile,
            size: statx.stx_size,
            allocated: statx.stx_blocks.saturating_mul(512),
            modified: (statx.stx_mtime.tv_sec, statx.stx_mtime.tv_nsec),
            changed: (statx.stx_ctime.tv_sec, statx.stx_ctime.tv_nsec),
            mount: statx.stx_mnt_id,
            links: statx.stx_nlink,
            mode: u32::from(statx.stx_mode) & 0o7777,
            owner: (statx.stx_uid, statx.stx_gid),
            identity: (statx.stx_dev_major, statx.stx_dev_minor, statx.stx_ino),
        }
    }
}
