//! The properties of tests/properties, for the targets of this folder.

#[path = "../../tests/properties/configuration.rs"]
pub mod configuration;
#[path = "../../tests/properties/copy_stream.rs"]
pub mod copy_stream;
#[path = "../../tests/properties/ids.rs"]
pub mod ids;
#[path = "../../tests/properties/input.rs"]
pub mod input;
#[path = "../../tests/properties/job_data.rs"]
pub mod job_data;
#[path = "../../tests/properties/layouts.rs"]
pub mod layouts;
#[path = "../../tests/properties/references.rs"]
pub mod references;
#[path = "../../tests/properties/templates.rs"]
pub mod templates;

/// The folder of the files that hold secrets.
const SECRETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/properties/secrets");
