//! What fails and how: a proxy before a server misbehaves, or a root is not there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use sandbox::{Behaviour, Proxy};

/// An answer that comes so late comes too late.
pub const LATE: Duration = Duration::from_millis(1500);
/// An answer that comes so late still counts.
pub const SLOW: Duration = Duration::from_millis(5);

/// What fails, by what the document calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struck {
    Postgres,
    Redis,
    Qdrant,
    Files,
}

impl Struck {
    /// The store that it is; Postgres is behind all of them.
    pub fn store(self) -> Option<&'static str> {
        match self {
            Self::Postgres => None,
            Self::Redis => Some("cache"),
            Self::Qdrant => Some("vectors"),
            Self::Files => Some("uploads"),
        }
    }

    /// The faults, in the order of the table's columns.
    pub fn faults(self) -> Vec<(&'static str, Fault)> {
        // Not even one answer is whole after so many bytes.
        let cut = match self {
            Self::Postgres => 20,
            Self::Redis => 2,
            Self::Qdrant => 12,
            Self::Files => {
                let roots = [("missing", Root::Missing), ("empty", Root::Empty), ("a file", Root::File)];
                return roots.map(|(name, root)| (name, Fault::Root(root))).to_vec();
            }
        };
        let servers = [
            ("refused", Behaviour::Refuse),
            ("silent", Behaviour::Silent),
            ("late", Behaviour::Delay(LATE)),
            ("slow", Behaviour::Delay(SLOW)),
            ("cut", Behaviour::Cut(cut)),
            ("garbage", Behaviour::Garbage),
            ("dropped", Behaviour::Drop),
        ];
        servers.map(|(name, behaviour)| (name, Fault::Server(behaviour))).to_vec()
    }
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of a server.
    Server(Behaviour),
    /// Of a root of files.
    Root(Root),
}

/// What is where a root was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Nothing.
    Missing,
    /// An empty folder, as where a volume is not mounted.
    Empty,
    /// A file.
    File,
}

/// What makes a fault and ends it.
#[derive(Clone)]
pub enum Switch {
    /// Of the server behind this proxy.
    Proxy(Arc<Proxy>),
    /// Of this root, which lies aside meanwhile.
    Root { root: PathBuf, aside: PathBuf },
}

impl Switch {
    /// At once, or when all of this was sent to the server.
    pub fn make(&self, fault: Fault, needles: &[&[u8]]) -> Result<()> {
        match (self, fault) {
            (Self::Proxy(proxy), Fault::Server(behaviour)) => proxy.switch_after(needles, behaviour),
            (Self::Root { root, aside }, Fault::Root(instead)) => {
                std::fs::rename(root, aside)?;
                match instead {
                    Root::Missing => {}
                    Root::Empty => std::fs::create_dir(root)?,
                    Root::File => std::fs::write(root, "a volume that is not mounted")?,
                }
            }
            _ => bail!("{fault:?} is another part's"),
        }
        Ok(())
    }

    /// Ends what was made. False if it was not made, or never met.
    pub fn end(&self) -> Result<bool> {
        match self {
            Self::Proxy(proxy) => {
                let is_met = proxy.has_switched();
                proxy.switch(Behaviour::Pass);
                Ok(is_met)
            }
            Self::Root { root, aside } => {
                if !aside.exists() {
                    return Ok(false);
                }
                match root.symlink_metadata() {
                    Ok(there) if there.is_dir() => std::fs::remove_dir_all(root)?,
                    Ok(_) => std::fs::remove_file(root)?,
                    Err(_) => {}
                }
                std::fs::rename(aside, root)?;
                Ok(true)
            }
        }
    }
}
