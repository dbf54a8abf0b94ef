//! The identity provider's tokens: JSON Web Tokens, of which the signature, the issuer, the audience and the time are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::Value;

use super::keys::{KeySource, Keys};
use super::signatures::RING;
use super::{Caller, Refusal, Scope};
use crate::clock::Clock;

/// How far the provider's clock may be from ours, in seconds.
const LEEWAY: u64 = 30;
/// A longer subject is none.
const LONGEST_SUBJECT: usize = 200;

/// An identity provider, and what its tokens are good for.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// Who must have issued a token.
    pub issuer: String,
    /// For whom it must be.
    pub audience: String,
    /// Where its keys come from.
    pub keys: KeySource,
    /// The claim with the role, or a list of roles; a JSON pointer if it begins with a slash.
    pub role_claim: String,
    /// What roles may do.
    pub roles: BTreeMap<String, RoleSettings>,
    /// The claim with the organization, likewise; none if callers are bound to none.
    pub organization_claim: Option<String>,
}

/// What a role may do.
#[derive(Debug, Clone)]
pub struct RoleSettings {
    /// Its scopes.
    pub scopes: BTreeSet<Scope>,
    /// It is bound to no organization.
    pub every_organization: bool,
}

/// An identity provider whose tokens are good here.
pub struct Jwt {
    settings: JwtSettings,
    keys: Keys,
}

impl Jwt {
    /// How many keys there are by which tokens can be verified; or why they cannot be had.
    ///
    /// # Errors
    /// In words.
    pub async fn keys(&self) -> Result<usize, String> {
        self.keys.count().await
    }

    /// Connects to nothing.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(settings: JwtSettings, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        // Named once in a process; it is always this one.
        let _ = RING.install_default();
        let keys = Keys::new(settings.keys.clone(), clock)?;
        Ok(Self { settings, keys })
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// If it is not good, or nobody knows.
    pub async fn caller(&self, token: &str) -> Result<Caller, Refusal> {
        let header = decode_header(token).map_err(|_| Refusal::Invalid("it is none that is known here"))?;
        if header.crit.is_some() {
            return Err(Refusal::Invalid("it demands an extension that is not known here"));
        }
        let key = self.keys.find(header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        let claims = decode::<Value>(token, &key.key, &validation).map_err(|error| refusal(error.kind()))?.claims;
        self.admit(&claims)
    }

    /// What the claims of a token that is good are good for.
    fn admit(&self, claims: &Value) -> Result<Caller, Refusal> {
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT || subject.contains(char::is_control) {
            return Err(Refusal::Invalid("its subject is no name"));
        }
        let settings = &self.settings;
        let named: Vec<&str> = match claim(claims, &settings.role_claim) {
            Some(Value::String(role)) => vec![role],
            Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let roles: Vec<&RoleSettings> = named.iter().filter_map(|role| settings.roles.get(*role)).collect();
        let organization = match &settings.organization_claim {
            None => None,
            // One that is bound binds them all.
            Some(_) if !roles.is_empty() && roles.iter().all(|role| role.every_organization) => None,
            Some(name) => {
                let bound = claim(claims, name).and_then(Value::as_str).filter(|name| !name.is_empty());
                Some(bound.ok_or(Refusal::Invalid("it names no organization"))?.to_owned())
            }
        };
        let scopes = roles.iter().flat_map(|role| role.scopes.iter().copied()).collect();
        Ok(Caller { name: format!("user/{subject}"), scopes, organization })
    }
}

fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

fn refusal(kind: &ErrorKind) -> Refusal {
    Refusal::Invalid(match kind {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidIssuer => "it is another issuer's",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "it lacks exp, iss, aud or sub",
        _ => "it cannot be read",
    })
}
