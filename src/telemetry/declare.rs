//! How metrics are declared: once, as a field of a struct. From the declaration come the series, their HELP, and the page
//! `docs/metrics.md`.

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts,
};

/// From what answers at once to what takes half a day, in seconds.
const SECONDS: [f64; 15] =
    [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];

/// A declared metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, a sentence.
    pub meaning: &'static str,
}

impl Declared {
    /// In which unit, as its name ends.
    pub fn unit(&self) -> &'static str {
        let base = self.name.strip_suffix("_total").unwrap_or(self.name);
        let unit = [
            ("_timestamp_seconds", "seconds since 1970"),
            ("process_start_time_seconds", "seconds since 1970"),
            ("_seconds", "seconds"),
            ("_bytes", "bytes"),
            ("_ratio", "ratio, 0 to 1"),
        ];
        unit.iter().find(|(end, _)| base.ends_with(end)).map_or("", |(_, unit)| unit)
    }
}

/// Declares a struct of metrics: a field's documentation is its HELP text.
macro_rules! metrics {
    (
        $(#[$struct_doc:meta])*
        pub struct $name:ident {
            $(#[doc = $help:literal] $field:ident: $kind:ty = $metric:literal [$($label:literal),*];)+
        }
    ) => {
        $(#[$struct_doc])*
        pub struct $name {
            $(#[doc = $help] pub(super) $field: $kind,)+
        }

        impl $name {
            /// All of them, in their order.
            pub const DECLARED: &[$crate::telemetry::declare::Declared] = &[$($crate::telemetry::declare::Declared {
                name: $metric,
                kind: <$kind as $crate::telemetry::declare::Kind>::NAME,
                labels: &[$($label),*],
                meaning: $help.trim_ascii(),
            }),+];

            pub(super) fn registered(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
                use $crate::telemetry::declare::Kind;
                $(
                    let $field = <$kind as Kind>::create($metric, $help.trim(), &[$($label),*])?;
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { $($field),+ })
            }
        }
    };
}
pub(super) use metrics;

/// A kind of metric that [`metrics!`] can declare.
pub(super) trait Kind: Sized {
    const NAME: &'static str;

    fn create(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error>;
}

macro_rules! kinds {
    ($($kind:literal: $single:ty, $labelled:ty, $options:expr;)+) => {$(
        impl Kind for $single {
            const NAME: &'static str = $kind;

            fn create(name: &str, help: &str, _: &[&str]) -> Result<Self, prometheus::Error> {
                Self::with_opts($options(name, help))
            }
        }
        impl Kind for $labelled {
            const NAME: &'static str = $kind;

            fn create(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
                Self::new($options(name, help), labels)
            }
        }
    )+};
}

kinds! {
    "counter": IntCounter, IntCounterVec, Opts::new;
    "counter": Counter, CounterVec, Opts::new;
    "gauge": IntGauge, IntGaugeVec, Opts::new;
    "gauge": Gauge, GaugeVec, Opts::new;
    "histogram": Histogram, HistogramVec, |name, help| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
}
