//! Who may: a caller shows a bearer token, which is one of ours or one of the platform's identity provider.
//!
//! - Without a token that is good, nobody is anybody: there is no anonymous caller.
//! - What a token is good for is said here, never by who shows it: scopes by the token's name or by the provider's role, and the
//!   organization, if any, by the provider's claim.
//! - A token that cannot be checked (its file is gone, its keys cannot be had) is not good.

mod jwt;
mod keys;
mod rate;
mod signatures;
mod tokens;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::{HeaderMap, header};

use crate::domain::findings::Finding;

pub use jwt::{Jwt, JwtSettings, RoleSettings};
pub use keys::KeySource;
pub use rate::Rates;
pub use tokens::{Token, Tokens};

/// What a caller may do. None implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Look.
    Read,
    /// Ask for what a course left to be removed.
    Cleanup,
    /// Approve, pause, restore, ask for a run.
    Admin,
}

impl Scope {
    /// Its name in the configuration and over HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Cleanup => "cleanup",
            Self::Admin => "admin",
        }
    }
}

/// Somebody whose token is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `token/` and the token's name, or `user/` and the subject that the provider names.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// The only organization whose courses it may touch; none if it is bound to none.
    pub organization: Option<String>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no token.
    #[error("there is no bearer token; send `Authorization: Bearer …`")]
    Missing,
    /// The token is not good.
    #[error("the bearer token is not good: {0}")]
    Invalid(&'static str),
    /// It cannot be known whether the token is good.
    #[error("whether the bearer token is good cannot be known: {0}")]
    Unknown(String),
}

/// Everybody who may come.
pub struct Access {
    /// Ours.
    pub tokens: Tokens,
    /// The identity provider's.
    pub jwt: Option<Jwt>,
    /// How often they may come.
    pub rates: Arc<Rates>,
}

impl Access {
    /// What a doctor tells of the files and servers on which it depends who is let in.
    pub async fn examine(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            self.tokens.states().map(|(token, is_good)| token_found(token, is_good)).collect();
        if let Some(jwt) = &self.jwt {
            const KEYS: &str = "keys";
            const FIX: &str = "correct `api.jwt`, and see that the identity provider may be reached from here";
            findings.push(match jwt.keys().await {
                Ok(0) => Finding::problem(KEYS, "no key of the identity provider is one for RS256 or ES256", FIX),
                Ok(count) => Finding::ok(KEYS, format!("{count} keys verify the identity provider's tokens")),
                Err(why) => Finding::problem(KEYS, why, FIX),
            });
        }
        findings
    }

    /// Who sends this.
    ///
    /// # Errors
    /// Why nobody is to be let in.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let shown = bearer(headers)?;
        if let Some(caller) = self.tokens.caller(shown) {
            return Ok(caller);
        }
        match &self.jwt {
            Some(jwt) => jwt.caller(shown).await,
            None => Err(Refusal::Invalid("it is none of those that are configured")),
        }
    }
}

fn token_found(Token { name, file, .. }: &Token, is_good: bool) -> Finding {
    const CHECK: &str = "token";
    match is_good {
        true => Finding::ok(CHECK, format!("{name} lets its bearer in")),
        false => {
            let seen = format!("{name} lets nobody in: {} cannot be read, or is too short", file.display());
            Finding::problem(CHECK, seen, "mount a Secret there with a token of 32 characters or more")
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (first, more) = (all.next().ok_or(Refusal::Missing)?, all.next());
    if more.is_some() {
        return Err(Refusal::Invalid("there is more than one"));
    }
    let text = first.to_str().map_err(|_| Refusal::Invalid("it is no text"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Refusal::Missing),
    }
}

#[cfg(test)]
mod tests;
