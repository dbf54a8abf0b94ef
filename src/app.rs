//! The only place where clients are built: a [`Collector`] from a [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

use crate::cleanup::Bell;
use crate::clock::MachineClock;
use crate::config::{
    self, BullmqStore, Config, FilesStore, LivenessAccept, ObjectsStore, PaceConfig, QdrantStore, RedisStore,
    SecretUrl, StoreConfig, TableStore,
};
use crate::doctor::Patient;
use crate::domain::evidence::Graces;
use crate::domain::plan::Limits;
use crate::http::access::{Access, Jwt, JwtSettings, KeySource, Rates, RoleSettings, Scope, Token, Tokens};
use crate::http::api::Api;
use crate::http::tls::{Certificate, CertificateFiles, TlsError};
use crate::ledger::{LedgerError, PostgresLedger};
use crate::liveness::{LivenessSource, PostgresSources, Risk};
use crate::office::Office;
use crate::pace::{self, Pace};
use crate::postgres::Postgres;
use crate::postgres::role::Login;
use crate::quarantine::{Archives, Key, ObjectPlace, Quarantine, Room};
use crate::reconcile::{Collector, Leading, ManagedStore};
use crate::serve::{Runs, Serving, Works};
use crate::stores::layout::{Layout, LayoutError};
use crate::stores::objects::{Bucket, BucketSettings};
use crate::stores::template::{Template, TemplateError};
use crate::stores::{StoreError, bullmq, files, objects, qdrant, redis, table};
use crate::telemetry::measured::{MeasuredLedger, MeasuredSources, MeasuredStore};
use crate::telemetry::metrics::Metrics;
use crate::tombstones::Tombstones;

/// Why a configuration that was read makes no collector.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// The ledger.
    #[error("the ledger cannot be used")]
    Ledger(#[source] LedgerError),
    /// A store.
    #[error("store {name} cannot be used")]
    Store {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The bucket of the quarantine.
    #[error("quarantine.bucket cannot be used")]
    Bucket(#[source] StoreError),
    /// The key of the quarantine.
    #[error("quarantine.key cannot be used: {0}")]
    Key(String),
    /// The identity provider.
    #[error("no client can be made for the keys of `api.jwt`")]
    Keys(#[source] reqwest::Error),
    /// The certificate.
    #[error("`http.tls` has no certificate that can be served")]
    Tls(#[source] TlsError),
    /// A key template.
    #[error("store {name} has a template that cannot be used")]
    Template {
        /// The store.
        name: String,
        /// Why.
        #[source]
        source: TemplateError,
    },
    /// A layout.
    #[error("store {name} has a layout that cannot be used")]
    Layout {
        /// The store.
        name: String,
        /// Why.
        #[source]
        source: LayoutError,
    },
}

/// The ledger alone, for commands that touch nothing else.
///
/// # Errors
/// If its URL cannot be read.
pub fn ledger(config: &Config) -> Result<PostgresLedger, AssemblyError> {
    let postgres = postgres(config, "the ledger".to_owned(), config.ledger_url());
    PostgresLedger::new(postgres, config.course_id).map_err(AssemblyError::Ledger)
}

/// The liveness sources alone. Connects to nothing.
pub fn liveness(config: &Config) -> PostgresSources {
    let sources = config.liveness.iter().map(|(name, source)| LivenessSource {
        name: name.to_owned(),
        postgres: postgres(config, format!("liveness source {name}"), &source.url),
        query: source.query.clone(),
        accepted: source.i_accept.iter().map(|accept| risk(*accept)).collect(),
        tombstones: tombstones(config, name, source),
        organizations: source.organizations.clone(),
    });
    PostgresSources { id_type: config.course_id, sources: sources.collect() }
}

/// The liveness sources that keep tombstones, by name. Connects to nothing.
pub fn watched(config: &Config) -> Vec<(String, Tombstones)> {
    liveness(config).sources.into_iter().filter_map(|source| Some((source.name, source.tombstones?))).collect()
}

/// Everything that a run works with. Connects to nothing.
///
/// # Errors
/// If a part of the configuration cannot be used.
pub fn collector(config: &Config) -> Result<Collector, AssemblyError> {
    let stores = config.stores.iter().map(|(name, store)| managed(config, name, store));
    let limits = &config.limits;
    Ok(Collector {
        installation: config.installation.clone(),
        id_type: config.course_id,
        liveness: Arc::new(liveness(config)),
        ledger: Arc::new(ledger(config)?),
        stores: stores.collect::<Result<_, _>>()?,
        quarantine: Arc::new(quarantine(config)?),
        limits: Limits {
            graces: Graces {
                tombstoned: config.grace.tombstoned,
                departed: config.grace.departed,
                stranger: config.grace.stranger,
            },
            breaker_share: limits.breaker_share.get(),
            breaker_share_strangers: limits.breaker_share_strangers.get(),
            breaker_courses: limits.breaker_courses,
            breaker_bytes: limits.breaker_bytes.get(),
            cap_courses: limits.cap_courses,
        },
        refuse_below: limits.refuse_below,
        refuse_drop: limits.refuse_drop.get(),
        confirmation: limits.confirmation,
        live_cleanups: config.api.as_ref().and_then(|api| api.live_cleanups_per_hour),
        schedule: config.schedule(),
        clock: Arc::new(MachineClock),
        leading: Leading::default(),
    })
}

/// Everything that is served. Connects to nothing.
///
/// # Errors
/// If a part of the configuration cannot be used.
pub fn serving(config: &Config, metrics: Arc<Metrics>) -> Result<Serving, AssemblyError> {
    let bell = Arc::new(Bell::default());
    let works = works(config, &metrics, &bell)?;
    metrics.configured(config);
    let certificate = config
        .http
        .tls
        .as_ref()
        .map(|tls| Certificate::read(certificate_files(tls)).map(Arc::new).map_err(AssemblyError::Tls));
    Ok(Serving { works, metrics, bell, certificate: certificate.transpose()?, runs: Runs::Here, changes: None })
}

/// What is made anew when the configuration changes. Connects to nothing.
///
/// # Errors
/// If a part of the configuration cannot be used.
pub fn works(config: &Config, metrics: &Arc<Metrics>, bell: &Arc<Bell>) -> Result<Works, AssemblyError> {
    let mut collector = collector(config)?;
    measure(&mut collector, metrics);
    let collector = Arc::new(collector);
    let api = config.api.as_ref().map(|api| {
        let measured = (Arc::clone(metrics), api.wait);
        let office = Office::new(Arc::clone(&collector), ledger(config)?, Arc::clone(bell), measured);
        Ok(Arc::new(Api::new(office, access(api)?, Arc::clone(metrics), Arc::new(MachineClock))))
    });
    let heard = watched(config).into_iter().map(|(_, tombstones)| tombstones).filter(|tombstones| tombstones.notify);
    Ok(Works { collector, api: api.transpose()?, heard: heard.collect() })
}

fn certificate_files(tls: &config::Tls) -> CertificateFiles {
    CertificateFiles { certificate: tls.certificate_file.clone(), key: tls.key_file.clone() }
}

/// Everything that a doctor looks at. Connects to nothing.
///
/// # Errors
/// If a part of the configuration cannot be used.
pub fn patient(config: &Config) -> Result<Patient, AssemblyError> {
    let certificate = config.http.tls.as_ref().map(|tls| Certificate::read(certificate_files(tls)).map(drop));
    Ok(Patient {
        collector: collector(config)?,
        ledger: ledger(config)?,
        sources: liveness(config),
        logins: logins(config),
        access: config.api.as_ref().map(access).transpose()?,
        certificate,
    })
}

/// Every role of every database, and what each is for.
fn logins(config: &Config) -> Vec<Login> {
    let ledger = [(config.ledger_url(), "the ledger".to_owned(), Vec::new())];
    let liveness =
        config.liveness.iter().map(|(name, source)| (&source.url, format!("liveness source {name}"), Vec::new()));
    let stores = config.stores.iter().filter_map(|(name, store)| match store {
        StoreConfig::Table(store) => Some((&store.url, format!("store {name}"), store.tables.iter().collect())),
        _ => None,
    });
    let mut logins: BTreeMap<&str, Login> = BTreeMap::new();
    for (url, purpose, tables) in ledger.into_iter().chain(liveness).chain(stores) {
        let login = logins.entry(url.expose()).or_insert_with(|| {
            let postgres = postgres(config, purpose.clone(), url);
            Login { postgres, purposes: Vec::new(), tables: BTreeSet::new() }
        });
        login.purposes.push(purpose);
        login.tables.extend(tables.into_iter().map(|table: &config::Table| table.table.clone()));
    }
    logins.into_values().collect()
}

/// From now on the time is taken of whatever its clients do.
fn measure(collector: &mut Collector, metrics: &Metrics) {
    let Collector { liveness, ledger, stores, clock, .. } = collector;
    *liveness = Arc::new(MeasuredSources::new(Arc::clone(liveness), metrics, Arc::clone(clock)));
    *ledger = Arc::new(MeasuredLedger::new(Arc::clone(ledger), metrics, Arc::clone(clock)));
    for ManagedStore { store, .. } in stores {
        *store = Arc::new(MeasuredStore::new(Arc::clone(store), metrics, Arc::clone(clock)));
    }
}

/// Who may use the API. Connects to nothing.
///
/// # Errors
/// If no client for the identity provider can be made.
pub fn access(api: &config::Api) -> Result<Access, AssemblyError> {
    let clock = Arc::new(MachineClock);
    let tokens = api.tokens.iter().flat_map(config::Named::iter).map(|(name, token)| Token {
        name: name.to_owned(),
        file: token.file.clone(),
        scopes: scopes(&token.scopes),
    });
    let jwt = api.jwt.as_ref().and_then(|jwt| {
        let keys = match (&jwt.secret, &jwt.jwks_file, &jwt.jwks_url) {
            (Some(secret), _, _) => KeySource::Secret(secret.clone()),
            (None, Some(file), _) => KeySource::File(file.clone()),
            (None, None, Some(url)) => KeySource::Url(url.expose().to_owned()),
            (None, None, None) => return None,
        };
        let named =
            [(&jwt.read_roles, Scope::Read), (&jwt.cleanup_roles, Scope::Cleanup), (&jwt.admin_roles, Scope::Admin)];
        let mut roles: BTreeMap<String, RoleSettings> = BTreeMap::new();
        for (role, scope) in named.iter().flat_map(|(named, scope)| named.iter().map(move |role| (role, *scope))) {
            let every_organization = jwt.unbound_roles.contains(role);
            let settings = RoleSettings { scopes: BTreeSet::new(), every_organization };
            roles.entry(role.clone()).or_insert(settings).scopes.insert(scope);
        }
        let settings = JwtSettings {
            issuer: jwt.issuer.clone(),
            audience: jwt.audience.clone(),
            keys,
            role_claim: jwt.role_claim.clone(),
            roles,
            organization_claim: jwt.organization_claim.clone(),
        };
        Some(Jwt::new(settings, clock.clone()))
    });
    Ok(Access {
        tokens: Tokens::new(tokens.collect()),
        jwt: jwt.transpose().map_err(AssemblyError::Keys)?,
        rates: Arc::new(Rates::new(api.requests_per_minute, clock)),
    })
}

fn scopes(scopes: &[config::ApiScope]) -> BTreeSet<Scope> {
    let scope = |scope: &config::ApiScope| match scope {
        config::ApiScope::Read => Scope::Read,
        config::ApiScope::Cleanup => Scope::Cleanup,
        config::ApiScope::Admin => Scope::Admin,
    };
    scopes.iter().map(scope).collect()
}

/// Where what is deleted lies until it expires. Connects to nothing.
fn quarantine(config: &Config) -> Result<Quarantine, AssemblyError> {
    let settings = &config.quarantine;
    let key = settings.key.as_ref().map(Key::parse).transpose().map_err(AssemblyError::Key)?;
    let place = match &settings.bucket {
        None => ObjectPlace::folder(settings.folder.clone(), config.limits.call_timeout),
        Some(archives) => {
            let bucket = Bucket::new(&BucketSettings {
                url: archives.url.expose().to_owned(),
                bucket: archives.bucket.clone(),
                region: archives.region.clone(),
                access_key: archives.access_key.clone(),
                secret_key: archives.secret_key.clone(),
                call_timeout: config.limits.call_timeout,
            });
            ObjectPlace::bucket(&bucket.map_err(AssemblyError::Bucket)?)
        }
    };
    let place = Arc::new(place);
    let room = Room { max_bytes: settings.max_size.get(), min_free_percent: settings.min_free.get() };
    let archives = Archives::new(place, config.installation.clone(), config.course_id, key, room);
    Ok(Quarantine { archives, keep: settings.keep })
}

/// Where a liveness source's deaths are recorded, if they are. Connects to nothing.
fn tombstones(config: &Config, name: &str, source: &config::LivenessSource) -> Option<Tombstones> {
    let settings = source.tombstones.as_ref()?;
    let (schema, table) = settings.table.split_once('.')?;
    Some(Tombstones {
        postgres: postgres(config, format!("liveness source {name}"), &source.url),
        schema: schema.to_owned(),
        table: table.to_owned(),
        column: settings.column.clone(),
        notify: settings.notify,
    })
}

fn risk(accepted: LivenessAccept) -> Risk {
    match accepted {
        LivenessAccept::ForeignTables => Risk::ForeignTables,
        LivenessAccept::MaterializedViews => Risk::MaterializedViews,
        LivenessAccept::SubscribedTables => Risk::SubscribedTables,
        LivenessAccept::FunctionSettings => Risk::FunctionSettings,
    }
}

fn postgres(config: &Config, what: String, url: &SecretUrl) -> Postgres {
    Postgres {
        what,
        url: SecretString::from(url.expose()),
        call_timeout: config.limits.call_timeout,
        idle_timeout: config.limits.lock_timeout,
        application: format!("course-gc/{}", config.installation),
    }
}

fn managed(config: &Config, name: &str, store: &StoreConfig) -> Result<ManagedStore, AssemblyError> {
    match store {
        StoreConfig::Qdrant(store) => qdrant_store(config, name, store),
        StoreConfig::Redis(store) => redis_store(config, name, store),
        StoreConfig::Bullmq(store) => bullmq_store(config, name, store),
        StoreConfig::Files(store) => files_store(config, name, store),
        StoreConfig::Objects(store) => objects_store(config, name, store),
        StoreConfig::Table(store) => table_store(config, name, store),
    }
}

fn qdrant_store(config: &Config, name: &str, store: &QdrantStore) -> Result<ManagedStore, AssemblyError> {
    let collections = store
        .collections
        .iter()
        .map(|collection| qdrant::QdrantCollection { name: collection.name.clone(), key: collection.key.clone() });
    let settings = qdrant::QdrantSettings {
        name: name.to_owned(),
        url: store.url.expose().to_owned(),
        api_key: store.api_key.clone(),
        collections: collections.collect(),
        id_type: config.course_id,
        batch_limit: batch(store.batch),
        call_timeout: config.limits.call_timeout,
    };
    let made = qdrant::QdrantStore::new(settings).map_err(|source| unusable(name, source))?.paced(pace(&store.pace));
    let exclusive = store.collections.iter().map(|collection| collection.exclusive).collect();
    Ok(ManagedStore { store: Arc::new(made), exclusive, quarantined: store.quarantine })
}

fn redis_store(config: &Config, name: &str, store: &RedisStore) -> Result<ManagedStore, AssemblyError> {
    let compile = |template: &crate::config::Template| Template::compile(&template.template);
    let templates = store.templates.iter().map(compile).collect::<Result<Vec<_>, _>>();
    let settings = redis::RedisSettings {
        name: name.to_owned(),
        server: redis::ServerSettings {
            url: SecretString::from(store.url.expose()),
            restore_url: store.restore_url.as_ref().map(|url| SecretString::from(url.expose())),
            nodes: store.nodes.clone(),
            sentinels: store.sentinels.iter().map(|url| SecretString::from(url.expose())).collect(),
            ca: store.ca.clone(),
            call_timeout: config.limits.call_timeout,
        },
        templates: templates.map_err(|source| AssemblyError::Template { name: name.to_owned(), source })?,
        id_type: config.course_id,
        scan_count: store.scan_count,
        batch_limit: batch(store.batch),
    };
    let made = redis::RedisStore::new(settings).map_err(|source| unusable(name, source))?.paced(pace(&store.pace));
    let exclusive = store.templates.iter().map(|template| template.exclusive).collect();
    Ok(ManagedStore { store: Arc::new(made), exclusive, quarantined: store.quarantine })
}

fn bullmq_store(config: &Config, name: &str, store: &BullmqStore) -> Result<ManagedStore, AssemblyError> {
    let job_ids = store.job_ids.iter().map(|template| Template::compile(template)).collect::<Result<Vec<_>, _>>();
    let settings = bullmq::BullmqSettings {
        name: name.to_owned(),
        server: redis::ServerSettings {
            url: SecretString::from(store.url.expose()),
            restore_url: store.restore_url.as_ref().map(|url| SecretString::from(url.expose())),
            nodes: store.nodes.clone(),
            sentinels: store.sentinels.iter().map(|url| SecretString::from(url.expose())).collect(),
            ca: store.ca.clone(),
            call_timeout: config.limits.call_timeout,
        },
        prefix: store.prefix.clone(),
        queues: store.queues.iter().map(|queue| queue.name.clone()).collect(),
        reading: bullmq::owner::Reading {
            pointers: store.job_data.clone(),
            job_ids: job_ids.map_err(|source| AssemblyError::Template { name: name.to_owned(), source })?,
            id_type: config.course_id,
        },
        scan_count: store.scan_count,
        batch_limit: batch(store.batch),
    };
    let made = bullmq::BullmqStore::new(settings).map_err(|source| unusable(name, source))?.paced(pace(&store.pace));
    let exclusive = store.queues.iter().map(|queue| queue.exclusive).collect();
    Ok(ManagedStore { store: Arc::new(made), exclusive, quarantined: store.quarantine })
}

fn files_store(config: &Config, name: &str, store: &FilesStore) -> Result<ManagedStore, AssemblyError> {
    let layout =
        Layout::parse(&store.layout).map_err(|source| AssemblyError::Layout { name: name.to_owned(), source })?;
    let references = store.references.as_ref().map(|references| files::ReferenceSettings {
        query: references.query.clone(),
        strip_prefix: references.strip_prefix.clone(),
        absolute_roots: references.absolute_roots.iter().map(PathBuf::clone).collect(),
    });
    let settings = files::FilesSettings {
        name: name.to_owned(),
        root: store.root.clone(),
        layout,
        id_type: config.course_id,
        batch_limit: batch(store.batch),
        call_timeout: config.limits.call_timeout,
        references,
    };
    let made = files::FilesStore::new(settings).map_err(|source| unusable(name, source))?.paced(pace(&store.pace));
    Ok(ManagedStore { store: Arc::new(made), exclusive: vec![store.exclusive], quarantined: store.quarantine })
}

fn objects_store(config: &Config, name: &str, store: &ObjectsStore) -> Result<ManagedStore, AssemblyError> {
    let layout =
        Layout::parse(&store.layout).map_err(|source| AssemblyError::Layout { name: name.to_owned(), source })?;
    let bucket = Bucket::new(&BucketSettings {
        url: store.url.expose().to_owned(),
        bucket: store.bucket.clone(),
        region: store.region.clone(),
        access_key: store.access_key.clone(),
        secret_key: store.secret_key.clone(),
        call_timeout: config.limits.call_timeout,
    });
    let made = objects::ObjectsStore::new(objects::ObjectsSettings {
        name: name.to_owned(),
        bucket: bucket.map_err(|source| unusable(name, source))?,
        layout,
        id_type: config.course_id,
        batch_limit: batch(store.batch),
    })
    .paced(pace(&store.pace));
    Ok(ManagedStore { store: Arc::new(made), exclusive: vec![store.exclusive], quarantined: store.quarantine })
}

fn table_store(config: &Config, name: &str, store: &TableStore) -> Result<ManagedStore, AssemblyError> {
    let source = |table: &config::Table| {
        let (schema, name) = table.table.split_once('.').unwrap_or(("public", &table.table));
        table::TableSource {
            schema: schema.to_owned(),
            table: name.to_owned(),
            column: table.column.clone(),
            filter: table.r#where.clone(),
        }
    };
    let settings = table::TableSettings {
        name: name.to_owned(),
        postgres: postgres(config, format!("the database of store {name}"), &store.url),
        tables: store.tables.iter().map(source).collect(),
        id_type: config.course_id,
        batch_limit: batch(store.batch),
    };
    let made = table::TableStore::new(settings).map_err(|source| unusable(name, source))?.paced(pace(&store.pace));
    let exclusive = store.tables.iter().map(|table| table.exclusive).collect();
    Ok(ManagedStore { store: Arc::new(made), exclusive, quarantined: store.quarantine })
}

fn pace(pace: &PaceConfig) -> Pace {
    let settings = pace::Settings {
        calls_per_second: pace.calls_per_second.and_then(NonZeroU32::new),
        in_flight: batch(pace.in_flight),
        slow_down_over: pace.slow_down_over,
        longest_rest: pace.longest_rest,
    };
    Pace::new(settings, Arc::new(MachineClock))
}

fn batch(configured: u32) -> usize {
    usize::try_from(configured).unwrap_or(usize::MAX).max(1)
}

fn unusable(name: &str, source: StoreError) -> AssemblyError {
    AssemblyError::Store { name: name.to_owned(), source }
}
