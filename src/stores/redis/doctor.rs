//! Redis servers as `course-gc doctor` sees them: whether they may throw keys away, what time it is there, what our user may do.
//!
//! Rights are asked by ACL DRYRUN, which does nothing. Who may not ask that is no administrator, which is as it should be; what such a user
//! lacks is told by the first plan.

use chrono::DateTime;

use super::link::{Lease, field};
use super::nodes::Nodes;
use super::{StoreError, marker};
use crate::clock::wall;
use crate::domain::findings::{self, Finding};
use crate::errors::chain;

/// Commands that nobody needs who removes keys.
const EXCESS: [&str; 3] = ["FLUSHALL", "CONFIG SET maxmemory 1", "SHUTDOWN"];

/// What the server may throw away by itself without doing harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::stores) enum Evicts {
    /// Keys that expire in any case.
    WhatExpires,
    /// Nothing: locks of queues expire, and are needed.
    Nothing,
}

/// What a store needs of its server.
pub(in crate::stores) struct Wanted<'a> {
    /// A key of each of its sources.
    pub(in crate::stores) keys: &'a [Vec<u8>],
    /// Commands that it sends about each of them, `{}` in the place of the key.
    pub(in crate::stores) commands: &'a [&'a str],
    /// Where its marker is.
    pub(in crate::stores) marker: &'a str,
    pub(in crate::stores) evicts: Evicts,
}

/// A key that a template or pattern could mean; no course has this id.
pub(in crate::stores) fn example(template: &str) -> Vec<u8> {
    template.replace("{course_id}", "00000000-0000-0000-0000-000000000000").replace('*', "any").into_bytes()
}

/// What was found of the servers behind `nodes`, and of the way for putting back, if it is another.
pub(in crate::stores) async fn examine(
    (nodes, restore): (&Nodes, Option<&Nodes>),
    wanted: &Wanted<'_>,
) -> Vec<Finding> {
    const RESTORE: &str =
        "`course-gc restore` is refused: grant it RESTORE, or name a user who has it in `restore_url`";
    let mut findings = Vec::new();
    let leases = async { nodes.servers("look at its settings").await?.all().await };
    match leases.await {
        Ok(leases) => {
            for mut lease in leases {
                findings.extend(server(&mut lease, wanted.evicts).await);
                lease.give_back();
            }
        }
        Err(error) => return vec![Finding::problem("settings", chain(&error), "see its connection, above")],
    }
    let mut needed: Vec<Vec<u8>> = vec![b"SCAN 0".to_vec(), b"SCRIPT LOAD return".to_vec()];
    for key in wanted.keys {
        needed.extend(wanted.commands.iter().map(|command| of_key(command, key)));
    }
    let of_marker = ["GET {}", "SET {} x", "EVAL return 1 {}"].map(|command| of_key(command, wanted.marker.as_bytes()));
    needed.extend(of_marker);
    findings.push(match rights(nodes, &needed).await {
        Ok(rights) => rights.finding(),
        Err(error) => Finding::problem("rights", chain(&error), "see its connection, above"),
    });
    let restores: Vec<Vec<u8>> = wanted.keys.iter().map(|key| of_key("RESTORE {} 0 x", key)).collect();
    match rights(restore.unwrap_or(nodes), &restores).await {
        Ok(Rights::Lacks { user, command, .. }) => {
            findings.push(Finding::advice("restore", format!("user {user} may not {command}"), RESTORE));
        }
        Ok(Rights::Enough { .. } | Rights::NotTold) => {}
        Err(error) => findings.push(Finding::problem("restore", chain(&error), "correct `restore_url`")),
    }
    findings
}

/// A command about a key; a key may hold anything.
fn of_key(command: &str, key: &[u8]) -> Vec<u8> {
    let (before, after) = command.split_once("{}").unwrap_or((command, ""));
    [before.as_bytes(), key, after.as_bytes()].concat()
}

async fn server(lease: &mut Lease, evicts: Evicts) -> Vec<Finding> {
    let address = lease.call().link().address().to_owned();
    let memory = lease.info("memory").await;
    let mut findings = vec![match &memory {
        Ok(memory) => eviction(&address, memory, evicts),
        Err(error) => Finding::problem("eviction", chain(error), "grant its user INFO"),
    }];
    let before = wall();
    // Who may not ask need not.
    let told = redis::cmd("TIME").query_async::<(i64, u32)>(lease.connection()).await;
    let now = told.ok().and_then(|(seconds, micros)| DateTime::from_timestamp(seconds, micros.saturating_mul(1000)));
    findings.extend(now.map(|now| findings::clock(now, before, wall())));
    findings
}

/// Whether the server may throw away keys by itself, as INFO says.
fn eviction(address: &str, memory: &str, evicts: Evicts) -> Finding {
    const CHECK: &str = "eviction";
    const FIX: &str = "set `maxmemory-policy noeviction`: what a server throws away by itself is in no copy, and its marker may be among it";
    let (Some(policy), Some(limit)) = (field(memory, "maxmemory_policy"), field(memory, "maxmemory")) else {
        return Finding::advice(CHECK, format!("{address} does not say whether it may throw keys away"), FIX);
    };
    let is_safe = match evicts {
        Evicts::WhatExpires => policy == "noeviction" || policy.starts_with("volatile-"),
        Evicts::Nothing => policy == "noeviction",
    };
    let seen = format!("{address} has maxmemory {limit} and policy {policy}");
    match (is_safe, limit) {
        (true, _) => Finding::ok(CHECK, seen),
        (false, "0") => Finding::advice(CHECK, format!("{seen}: keys are lost once somebody sets a limit"), FIX),
        (false, _) => Finding::problem(CHECK, format!("{seen}: it throws keys away when it is full"), FIX),
    }
}

/// What a user may do.
enum Rights {
    /// All that is needed; and of [`EXCESS`] these.
    Enough { user: String, excess: Vec<&'static str> },
    /// Not this command, and why.
    Lacks { user: String, command: String, why: String },
    /// The server tells no such thing, or not to this user.
    NotTold,
}

impl Rights {
    fn finding(self) -> Finding {
        const CHECK: &str = "rights";
        match self {
            Self::Enough { user, excess } if excess.is_empty() => {
                Finding::ok(CHECK, format!("user {user} may do what is needed"))
            }
            Self::Enough { user, excess } => Finding::advice(
                CHECK,
                format!("user {user} may also {}", excess.join(", ")),
                "let it connect as a user of its own, who may touch its templates' keys and its marker alone (ACL SETUSER)",
            ),
            Self::Lacks { user, command, why } => {
                Finding::problem(CHECK, format!("user {user} may not {command}: {why}"), "grant it (ACL SETUSER)")
            }
            Self::NotTold => Finding::ok(
                CHECK,
                "its user may not ask what it may do, so it is no administrator; a plan tells what it lacks",
            ),
        }
    }
}

/// Asks of the first server what the user may do there.
async fn rights(nodes: &Nodes, needed: &[Vec<u8>]) -> Result<Rights, StoreError> {
    let mut lease = nodes.servers("ask for its user's rights").await?.of(marker::KEY.as_bytes()).await?;
    // An older server knows no such command, and most users may not send it.
    let Ok(user) = redis::cmd("ACL").arg("WHOAMI").query_async::<String>(lease.connection()).await else {
        return Ok(Rights::NotTold);
    };
    for command in needed {
        match dry_run(&mut lease, &user, command).await {
            None => return Ok(Rights::NotTold),
            Some(Ok(())) => {}
            Some(Err(why)) => {
                let command = String::from_utf8_lossy(command).into_owned();
                return Ok(Rights::Lacks { user, command, why });
            }
        }
    }
    let mut excess = Vec::new();
    for command in EXCESS {
        if dry_run(&mut lease, &user, command.as_bytes()).await == Some(Ok(())) {
            excess.push(command);
        }
    }
    lease.give_back();
    Ok(Rights::Enough { user, excess })
}

/// Whether the user may send a command, without sending it; `None` if that is not told.
async fn dry_run(lease: &mut Lease, user: &str, command: &[u8]) -> Option<Result<(), String>> {
    let mut ask = redis::cmd("ACL");
    ask.arg("DRYRUN").arg(user);
    command.split(|byte| *byte == b' ').for_each(|word| _ = ask.arg(word));
    match ask.query_async::<String>(lease.connection()).await {
        Ok(answer) if answer == "OK" => Some(Ok(())),
        Ok(why) => Some(Err(why)),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::findings::Level;

    #[test]
    fn who_may_throw_keys_away_is_told_by_policy_and_limit() {
        let level = |policy: &str, limit: &str, evicts| {
            eviction("there", &format!("maxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n"), evicts).level
        };
        for (policy, limit, cache, queues) in [
            ("noeviction", "100", Level::Ok, Level::Ok),
            ("volatile-lru", "100", Level::Ok, Level::Problem),
            ("allkeys-lru", "100", Level::Problem, Level::Problem),
            ("allkeys-lru", "0", Level::Advice, Level::Advice),
            ("volatile-ttl", "0", Level::Ok, Level::Advice),
        ] {
            let found = [Evicts::WhatExpires, Evicts::Nothing].map(|evicts| level(policy, limit, evicts));
            assert_eq!(found, [cache, queues], "{policy} {limit}");
        }
        assert_eq!(eviction("there", "used_memory:1\r\n", Evicts::Nothing).level, Level::Advice);
    }
}
