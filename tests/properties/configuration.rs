//! The configuration: whatever it says, no password is repeated. Input: a YAML file, a line `# environment`, and then a
//! variable a line. [`SECRET`] stands where a password is meant.

use std::path::PathBuf;

use course_gc::config::{check_report, parse};

/// What no message and no report may repeat. The files in `crate::SECRETS` hold it, too.
const SECRET: &str = "hunter2xyzzy";

const ENVIRONMENT: &str = "\n# environment\n";

/// Checks what is said of the configuration.
///
/// # Panics
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    if reads_devices(input) {
        return;
    }
    let (text, variables) = input.split_once(ENVIRONMENT).unwrap_or((input, ""));
    let environment: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let is_secret = secrets_are_in_their_place(text) && environment.iter().all(|(name, value)| is_meant(name, value));
    let read = || parse(text, "config.yaml".to_owned(), PathBuf::from(crate::SECRETS), environment.clone());
    let said = match read() {
        Ok(loaded) => format!("{loaded:?}\n{}", check_report(&loaded)),
        Err(errors) => {
            let lines: Vec<String> = errors.lines().collect();
            assert!(!lines.is_empty(), "refused without a reason");
            assert_eq!(
                read().map(|_| ()).map_err(|again| again.lines().collect()),
                Err(lines),
                "a text has one meaning"
            );
            format!("{errors:?}\n{errors}")
        }
    };
    assert!(!is_secret || !said.contains(SECRET), "{said}");
}

/// A file that never ends, or waits for somebody, is the fault of whoever names it.
fn reads_devices(input: &str) -> bool {
    let input = input.to_ascii_lowercase();
    input.contains("_file") && ["dev", "proc", "sys", "\\", ".."].iter().any(|part| input.contains(part))
}

/// Whether the secret stands only where the file may hold a password, as far as a line tells.
fn secrets_are_in_their_place(text: &str) -> bool {
    let is_plain = !text.contains(['|', '>', '"', '\'']);
    text.lines().filter(|line| line.contains(SECRET)).all(|line| {
        let line = line.trim_start_matches([' ', '-']);
        let value = line.strip_prefix("url: ").map(is_password);
        is_plain && value.unwrap_or_else(|| line.starts_with("api_key: "))
    })
}

/// Whether the secret, if it is in this variable, is meant as one.
fn is_meant(name: &str, value: &str) -> bool {
    match (value.contains(SECRET) || name.contains(SECRET), name) {
        (false, _) => true,
        (true, name) if name.contains(SECRET) => false,
        (true, name) if name.ends_with("_URL") => is_password(value),
        (true, name) => name.ends_with("_API_KEY"),
    }
}

/// Whether the secret stands between `scheme://user:` and `@`, where a password is meant, whatever is around it.
fn is_password(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let (Some(colon), Some(at)) = (rest.find(':'), rest.rfind('@')) else { return false };
    let is_user = !rest[..colon].contains(['/', '?', '#', '@', '\\', '[']);
    let is_inside = rest.get(colon + 1..at).is_some_and(|password| password.contains(SECRET));
    let outside = [scheme, &rest[..colon], &rest[at..]];
    is_user && is_inside && !outside.iter().any(|part| part.contains(SECRET))
}
