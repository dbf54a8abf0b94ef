//! The chart in `helm/`: rendered by the real Helm SDK and judged by `helm/check.py`, for a matrix of values and versions of Kubernetes;
//! and what its containers are started with, judged by the program itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail so")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use age::secrecy::ExposeSecret;
use clap::Parser;
use course_gc::cli::Cli;
use serde::Deserialize;

const SERVE: &str = include_str!("../src/serve.rs");

/// What the chart starts a container with.
#[derive(Deserialize)]
struct Container {
    args: Vec<String>,
    /// By name; without a value, it comes from a Secret.
    env: BTreeMap<String, Option<String>>,
    /// The text of its configuration file.
    config: String,
    /// `terminationGracePeriodSeconds`.
    grace: u64,
    /// How long its `preStop` sleeps, in seconds.
    pre_stop: u64,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A secret as the field behind this variable may have it.
fn secret(variable: &str) -> String {
    let field = variable.trim_start_matches("COURSE_GC_").trim_end_matches("_FILE");
    match field {
        "QUARANTINE_KEY" => age::x25519::Identity::generate().to_string().expose_secret().to_owned(),
        "STORES_VECTORS_URL" => "https://qdrant:6334".to_owned(),
        "STORES_CACHE_URL" => "redis://:secret@redis:6379/0".to_owned(),
        "STORES_CACHE_RESTORE_URL" => "redis://restorer:secret@redis:6379/0".to_owned(),
        "STORES_JOBS_URL" => "redis://:secret@redis:6379/1".to_owned(),
        _ if field.ends_with("_URL") => format!("postgres://course_gc:secret@db/{}", field.to_lowercase()),
        _ => "0123456789abcdef0123456789abcdef".to_owned(),
    }
}

/// `course-gc config check` as the container would run it, with its mounts in `folder`.
fn config_check(container: &Container, folder: &Path) -> Output {
    let config = folder.join("course-gc.yaml");
    std::fs::write(&config, &container.config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_course-gc"));
    command.env_clear().args(["config", "check"]);
    for (name, value) in &container.env {
        let Some(value) = value else {
            command.env(name, secret(name));
            continue;
        };
        let Some(path) = value.strip_prefix("/run/secrets/") else {
            command.env(name, value);
            continue;
        };
        let file = folder.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, secret(name)).unwrap();
        command.env(name, file);
    }
    command.env("COURSE_GC_CONFIG", config).output().unwrap()
}

/// A constant of `src/serve.rs`, in seconds.
fn seconds(constant: &str) -> u64 {
    let declared = format!("const {constant}: Duration = Duration::from_secs(");
    let value = SERVE.split_once(&declared).unwrap_or_else(|| panic!("no {constant} in src/serve.rs")).1;
    value.split(')').next().unwrap().parse().unwrap()
}

#[test]
fn the_chart_renders_what_kubernetes_and_the_program_take_and_refuses_what_contradicts_itself() {
    let python = root().join("sandbox/.venv/bin/python");
    assert!(python.is_file(), "Helm's SDK is not in sandbox/.venv: `make setup` prepares it");
    let folder = tempfile::tempdir().unwrap();
    let rendered = folder.path().join("rendered");
    let checked = Command::new(python).arg(root().join("helm/check.py")).arg(&rendered).output().unwrap();
    assert!(checked.status.success(), "{}", shown(&checked));

    let containers = std::fs::read_to_string(rendered.join("containers.json")).unwrap();
    let cases: BTreeMap<String, Vec<Container>> = serde_json::from_str(&containers).unwrap();
    let mut started = Vec::new();
    for (case, containers) in &cases {
        for (index, container) in containers.iter().enumerate() {
            let args = container.args.join(" ");
            let place = folder.path().join(format!("{case}-{index}"));
            std::fs::create_dir(&place).unwrap();
            let arguments = ["course-gc"].into_iter().chain(container.args.iter().map(String::as_str));
            assert!(Cli::try_parse_from(arguments).is_ok(), "{case}: course-gc takes no `{args}`");
            let answer = config_check(container, &place);
            assert!(answer.status.success(), "{case}, {args}: {}", shown(&answer));
            if args.starts_with("serve") {
                let takes = container.pre_stop + seconds("STOP_WITHIN") + seconds("CLOSE_WITHIN");
                assert!(container.grace >= takes, "{case}: it takes {takes} s to end, and has {} s", container.grace);
            }
            started.push(args);
        }
    }
    for args in [
        "serve",
        "serve --without-runs",
        "run",
        "run --held-is-done",
        "run --due --held-is-done",
        "migrate",
        "adopt --yes --exclusive",
        "doctor",
    ] {
        assert!(started.iter().any(|it| it == args), "no case starts `{args}`: {started:?}");
    }
}
