//! Tokens that are good, and all others.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::clock::{Clock, MachineClock, wall};

const SECRET: &str = "a-secret-between-the-provider-and-us-01";
const ISSUER: &str = "https://campus.test/auth/v1";

/// The modulus of an RSA key whose other half is lost.
const RSA: &str = "pS6n-HPBBTCD0BZF31Em7iExB6lCrHD385Ser9mYY7AC1zVJJDkUwlfS_2l4ktNqXc85afLTfi1hjRSw0sSRTGujpI7-\
    FrepADEtvRLrhDz5AvCFVicq1hFPrqYrRFCaWz7AL1AdVMz04VHiLV31pnSQdFywGi1COkLlr2ZzKteirSXO7_lrDf4jo3TjSvbM\
    ZEV1yZu8DFkhGxhtI4BQeptkp3NSMnE2Yl_vOCV6cd8N-\
    8yhYAgaAcjx1Jiw7CGM6xFx0klj7Iounq3gdr03WLAa2Z1fJHSV77WdHePtDZmDqJihGiosc5kytv4vSd8DrJgOSCMZDKkfeTtja\
    s4D8w";
/// What was signed with it: good until the year 2100.
const RS256: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2NhbXB1cy50ZXN0L2F1dGgvdjE\
    iLCJhdWQiOiJjb3Vyc2UtZ2MiLCJzdWIiOiJzb21lYm9keSIsInJvbGUiOiJzZXJ2aWNlX3JvbGUiLCJleHAiOjQxMDI0NDQ4MDB\
    9.ow-k8M4UZy87aEIwWQscoAwYR186_zqgSR--o6YuCOEAgOgl0gzVYWREHcyyetAL5BTq9BwtV9Ti0QrFfgzYp24SF5hvORx-\
    C2rwx1DCy51V6ELtfb2yhhmoNaJVK58T-\
    nt5C0zaQQM7RoLOHm95Y06d2eYphbdPWfGoTp01yjlEEd3zLhd1YIgdrd3nIjEhLaQ5OU7P1srIo-\
    x7LCaamobgSzYUc4bYKxeznyLaVqLQntrq3Jtvykefi786vvKn2Y4HTZDNbc8Bodbds625_aplDl22SwPpZsiICHW_oh_4K_eCex\
    c2FN3YZIVNPJj2IuJjnAz-o8QOvxLzbo6pKg";

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

/// Claims that are good, with others in place of some; null takes one away.
fn claims(others: Value) -> Value {
    let exp = wall().timestamp() + 300;
    let mut all = json!({ "iss": ISSUER, "aud": "course-gc", "sub": "somebody", "role": "service_role", "exp": exp });
    for (name, value) in others.as_object().unwrap() {
        match value {
            Value::Null => _ = all.as_object_mut().unwrap().remove(name),
            value => all[name] = value.clone(),
        }
    }
    all
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", encode(signature))
}

fn hmac_with(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

fn hs256(claims: &Value) -> String {
    signed(&json!({ "alg": "HS256" }), claims, |message| hmac_with(SECRET.as_bytes(), message))
}

/// A key of the provider on the curve P-256.
struct Curve(EcdsaKeyPair);

impl Curve {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    fn jwk(&self, id: &str) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "use": "sig", "alg": "ES256" })
    }

    fn token(&self, id: &str, claims: &Value) -> String {
        let sign = |message: &[u8]| self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        signed(&json!({ "alg": "ES256", "kid": id }), claims, sign)
    }
}

fn settings(keys: KeySource) -> JwtSettings {
    let role = |scopes: &[Scope], every_organization| RoleSettings {
        scopes: scopes.iter().copied().collect(),
        every_organization,
    };
    let roles = BTreeMap::from([
        ("service_role".to_owned(), role(&[Scope::Read, Scope::Cleanup], true)),
        ("teacher".to_owned(), role(&[Scope::Cleanup], false)),
    ]);
    let (issuer, audience, role_claim) = (ISSUER.into(), "course-gc".into(), "role".into());
    JwtSettings { issuer, audience, keys, role_claim, roles, organization_claim: Some("/app/organization".into()) }
}

fn provider(keys: KeySource) -> Jwt {
    Jwt::new(settings(keys), Arc::new(MachineClock)).unwrap()
}

fn by_secret() -> Jwt {
    provider(KeySource::Secret(SECRET.into()))
}

async fn refused(jwt: &Jwt, token: &str) -> &'static str {
    match jwt.caller(token).await {
        Err(Refusal::Invalid(why)) => why,
        other => panic!("{token}: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_of_the_provider_is_good_for_what_its_role_may() {
    let caller = by_secret().caller(&hs256(&claims(json!({})))).await.unwrap();
    assert_eq!(caller.name, "user/somebody");
    assert_eq!(caller.scopes, [Scope::Read, Scope::Cleanup].into());
    assert_eq!(caller.organization, None);
    let several = claims(json!({ "role": ["x", "service_role"], "aud": ["y", "course-gc"] }));
    assert_eq!(by_secret().caller(&hs256(&several)).await.unwrap().scopes.len(), 2);
    let unknown = claims(json!({ "role": "x", "app": { "organization": "o" } }));
    assert_eq!(by_secret().caller(&hs256(&unknown)).await.unwrap().scopes, BTreeSet::new());
}

#[tokio::test]
async fn who_is_bound_to_an_organization_stays_bound_whatever_other_role_it_has() {
    let jwt = by_secret();
    let organization = json!({ "organization": "o" });
    for role in [json!("teacher"), json!(["teacher", "service_role"])] {
        let bound = claims(json!({ "role": role, "app": organization }));
        assert_eq!(jwt.caller(&hs256(&bound)).await.unwrap().organization.as_deref(), Some("o"));
        for none in [json!({}), json!({ "app": { "organization": "" } }), json!({ "app": { "organization": 1 } })] {
            let mut unbound = none;
            unbound["role"] = role.clone();
            assert_eq!(refused(&jwt, &hs256(&claims(unbound))).await, "it names no organization");
        }
    }
}

#[tokio::test]
async fn a_token_that_lacks_anything_is_not_good() {
    let jwt = by_secret();
    let now = wall().timestamp();
    let lacks = "it lacks exp, iss, aud or sub";
    for (others, why) in [
        (json!({ "exp": now - 31 }), "it has expired"),
        (json!({ "nbf": now + 60 }), "it is not valid yet"),
        (json!({ "iss": "https://other.test" }), "it is another issuer's"),
        (json!({ "aud": "other" }), "it is for another audience"),
        (json!({ "aud": [] }), "it is for another audience"),
        (json!({ "exp": null }), lacks),
        (json!({ "iss": null }), lacks),
        (json!({ "aud": null }), lacks),
        (json!({ "sub": null }), lacks),
        (json!({ "exp": "tomorrow" }), lacks),
        (json!({ "nbf": "tomorrow" }), "it cannot be read"),
        (json!({ "sub": "" }), "its subject is no name"),
        (json!({ "sub": "a\nb" }), "its subject is no name"),
        (json!({ "sub": "a".repeat(201) }), "its subject is no name"),
    ] {
        assert_eq!(refused(&jwt, &hs256(&claims(others.clone()))).await, why, "{others}");
    }
    let leeway = claims(json!({ "exp": now - 20, "nbf": now + 20 }));
    assert!(jwt.caller(&hs256(&leeway)).await.is_ok());
}

#[tokio::test]
async fn who_signs_with_something_else_is_nobody() {
    let jwt = by_secret();
    let good = claims(json!({}));
    let other = signed(&json!({ "alg": "HS256" }), &good, |message| hmac_with(b"another secret", message));
    assert_eq!(refused(&jwt, &other).await, "its signature is wrong");
    let token = hs256(&good);
    let (message, _) = token.rsplit_once('.').unwrap();
    assert_eq!(refused(&jwt, &format!("{message}.")).await, "its signature is wrong");
    for algorithm in ["HS384", "HS512", "RS256", "ES256"] {
        let header = json!({ "alg": algorithm });
        let wrong = signed(&header, &good, |message| hmac_with(SECRET.as_bytes(), message));
        assert_eq!(refused(&jwt, &wrong).await, "its key is unknown, or is not for its algorithm", "{algorithm}");
    }
    for header in [json!({ "alg": "none" }), json!({ "alg": "None" }), json!({})] {
        let unsigned = signed(&header, &good, |_| Vec::new());
        assert_eq!(refused(&jwt, &unsigned).await, "it is none that is known here", "{header}");
    }
    let critical = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
    let critical = signed(&critical, &good, |message| hmac_with(SECRET.as_bytes(), message));
    assert_eq!(refused(&jwt, &critical).await, "it demands an extension that is not known here");
    for odd in ["", ".", "..", "a.b.c", "a.b.c.d", message] {
        assert!(jwt.caller(odd).await.is_err(), "{odd:?}");
    }
}

#[tokio::test]
async fn each_key_of_a_set_is_good_for_its_own_algorithm_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let (curve, stranger) = (Curve::new(), Curve::new());
    let rsa = json!({ "kty": "RSA", "n": RSA, "e": "AQAB", "kid": "rsa", "use": "sig" });
    let secret = json!({ "kty": "oct", "k": encode(SECRET), "kid": "oct", "alg": "HS256" });
    let sealing = json!({ "kty": "RSA", "n": RSA, "e": "AQAB", "kid": "sealing", "use": "enc" });
    let unheard = json!({ "kty": "unheard-of", "kid": "unheard" });
    fs::write(&file, json!({ "keys": [unheard, sealing, secret, rsa, curve.jwk("curve")] }).to_string()).unwrap();
    let jwt = provider(KeySource::File(file.clone()));
    let good = claims(json!({}));
    assert!(jwt.caller(RS256).await.is_ok());
    assert!(jwt.caller(&curve.token("curve", &good)).await.is_ok());
    assert_eq!(refused(&jwt, &stranger.token("curve", &good)).await, "its signature is wrong");
    let unknown = "its key is unknown, or is not for its algorithm";
    for id in ["rsa", "oct", "sealing", "unheard", "", "other"] {
        assert_eq!(refused(&jwt, &curve.token(id, &good)).await, unknown, "{id}");
    }
    // The public half of a key is no secret.
    for (id, public) in
        [("rsa", URL_SAFE_NO_PAD.decode(RSA).unwrap()), ("oct", SECRET.into()), ("curve", SECRET.into())]
    {
        let forged = signed(&json!({ "alg": "HS256", "kid": id }), &good, |message| hmac_with(&public, message));
        assert_eq!(refused(&jwt, &forged).await, unknown, "{id}");
    }
    let mut tampered = RS256.to_owned();
    tampered.pop();
    assert!(jwt.caller(&tampered).await.is_err());

    // It is replaced, then gone.
    fs::write(folder.path().join("new"), json!({ "keys": [stranger.jwk("curve")] }).to_string()).unwrap();
    fs::rename(folder.path().join("new"), &file).unwrap();
    assert!(jwt.caller(&stranger.token("curve", &good)).await.is_ok());
    assert_eq!(refused(&jwt, &curve.token("curve", &good)).await, "its signature is wrong");
    fs::remove_file(&file).unwrap();
    let gone = jwt.caller(&stranger.token("curve", &good)).await;
    assert!(matches!(gone, Err(Refusal::Unknown(_))), "{gone:?}");
}

/// Time that passes when a test says so.
#[derive(Default)]
struct Hand(Mutex<Duration>);

impl Hand {
    fn pass(&self, seconds: u64) {
        *self.0.lock().unwrap() += Duration::from_secs(seconds);
    }
}

impl Clock for Hand {
    fn since_boot(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

#[tokio::test]
async fn a_set_is_asked_for_when_a_key_is_unknown_but_not_more_than_once_a_minute() {
    let (first, second) = (Curve::new(), Curve::new());
    let served = Arc::new(Mutex::new(json!({ "keys": [first.jwk("first")] }).to_string()));
    let asked = Arc::new(AtomicUsize::new(0));
    let (text, count) = (Arc::clone(&served), Arc::clone(&asked));
    let answer = get(move || {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(text.lock().unwrap().clone())
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().route("/jwks", answer)).await });
    let clock = Arc::new(Hand::default());
    let jwt = Jwt::new(settings(KeySource::Url(format!("http://{address}/jwks"))), clock.clone()).unwrap();
    let good = claims(json!({}));
    let (of_first, of_second) = (first.token("first", &good), second.token("second", &good));
    for _ in 0..3 {
        assert!(jwt.caller(&of_first).await.is_ok());
        assert!(jwt.caller(&of_second).await.is_err());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    *served.lock().unwrap() = json!({ "keys": [first.jwk("first"), second.jwk("second")] }).to_string();
    clock.pass(59);
    assert!(jwt.caller(&of_second).await.is_err());
    clock.pass(1);
    assert!(jwt.caller(&of_second).await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    // A key that was withdrawn is good for ten minutes more, and then it is not.
    *served.lock().unwrap() = json!({ "keys": [second.jwk("second")] }).to_string();
    clock.pass(599);
    assert!(jwt.caller(&of_first).await.is_ok());
    clock.pass(1);
    assert!(jwt.caller(&of_first).await.is_err());
    assert_eq!(asked.load(Ordering::SeqCst), 3);

    // What is no set leaves those that were there.
    *served.lock().unwrap() = "busy".to_owned();
    clock.pass(600);
    assert!(jwt.caller(&of_second).await.is_ok());
    server.abort();
}

#[tokio::test]
async fn while_keys_cannot_be_had_nobody_is_let_in_and_nobody_is_asked_over_and_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let clock = Arc::new(Hand::default());
    let jwt = Jwt::new(settings(KeySource::Url(format!("http://{address}/jwks"))), clock).unwrap();
    for _ in 0..2 {
        let nobody = jwt.caller(&Curve::new().token("x", &claims(json!({})))).await;
        assert!(matches!(nobody, Err(Refusal::Unknown(_))), "{nobody:?}");
    }
}

#[test]
fn each_caller_has_its_own_share_of_a_minute() {
    let clock = Arc::new(Hand::default());
    let rates = Rates::new(60, clock.clone());
    for _ in 0..60 {
        assert_eq!(rates.take(Some("a")), Ok(()));
    }
    assert_eq!(rates.take(Some("a")), Err(Duration::from_secs(1)));
    assert_eq!(rates.take(Some("b")), Ok(()), "another caller's share is another");
    (0..60).for_each(|_| assert_eq!(rates.take(None), Ok(())));
    assert!(rates.take(None).is_err(), "all strangers have one");
    clock.pass(2);
    assert_eq!([rates.take(Some("a")), rates.take(Some("a"))], [Ok(()), Ok(())]);
    assert!(rates.take(Some("a")).is_err());
}

#[test]
fn however_many_callers_come_the_buckets_are_bounded_and_those_at_work_keep_theirs() {
    let clock = Arc::new(Hand::default());
    let rates = Rates::new(60, clock.clone());
    (0..60).for_each(|_| assert_eq!(rates.take(Some("busy")), Ok(())));
    (0..9_999).for_each(|n| assert_eq!(rates.take(Some(&n.to_string())), Ok(())));
    // All are at work: whoever comes now shares nobody's bucket, of which there is none yet.
    (0..60).for_each(|n| assert_eq!(rates.take(Some(&format!("late{n}"))), Ok(())));
    assert!(rates.take(Some("latest")).is_err());
    assert!(rates.take(Some("busy")).is_err());
    // A little later those who came once are full again, and make room.
    clock.pass(2);
    assert_eq!(rates.take(Some("new")), Ok(()));
    (0..59).for_each(|_| assert_eq!(rates.take(Some("new")), Ok(())));
    assert!(rates.take(Some("new")).is_err(), "it has its own");
}

#[tokio::test]
async fn a_token_is_shown_once_as_a_bearers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let text = "a-token-that-nobody-could-guess-0001";
    fs::write(&file, text).unwrap();
    let token = Token { name: "web".into(), file, scopes: [Scope::Read].into() };
    let rates = Arc::new(Rates::new(1, Arc::new(MachineClock)));
    let access = Access { tokens: Tokens::new(vec![token]), jwt: None, rates };
    let shown = async |values: &[&str]| {
        let mut headers = HeaderMap::new();
        values
            .iter()
            .for_each(|value| _ = headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap()));
        access.caller(&headers).await.map(|caller| caller.name)
    };
    let bearer = format!("Bearer {text}");
    assert_eq!(shown(&[&bearer]).await, Ok("token/web".into()));
    assert_eq!(shown(&[&format!("bearer {text}")]).await, Ok("token/web".into()));
    assert_eq!(shown(&[&bearer, &bearer]).await, Err(Refusal::Invalid("there is more than one")));
    for other in ["", text, "Basic Zm9vOmJhcg=="] {
        assert_eq!(shown(&[other]).await, Err(Refusal::Missing), "{other}");
    }
    assert_eq!(shown(&[]).await, Err(Refusal::Missing));
    let unknown = Err(Refusal::Invalid("it is none of those that are configured"));
    for other in [format!("{bearer}x"), bearer[..bearer.len() - 1].to_owned(), "Bearer ".to_owned()] {
        assert_eq!(shown(&[&other]).await, unknown, "{other}");
    }
}
