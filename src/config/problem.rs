//! What is wrong with a configuration, and where.

use std::fmt;

use super::files::Files;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The configuration file; line and column count from 1.
    File { line: usize, column: usize },
    /// The environment variable of this name.
    Environment(String),
    /// Neither gives it.
    Default,
}

impl Origin {
    /// `config.yaml:12:5`, or the environment variable's name, or the file where it is missing.
    pub(super) fn place(&self, file: &str) -> String {
        match self {
            Self::File { line, column } => format!("{file}:{line}:{column}"),
            Self::Environment(name) => name.clone(),
            Self::Default => file.to_owned(),
        }
    }
}

/// One thing that is wrong: where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    pub(super) origin: Origin,
    /// The field, such as `stores.cache.templates[2]`; empty for the file as a whole.
    pub(super) path: String,
    pub(super) message: String,
}

/// Everything that is wrong with a configuration. Its `Display` is one line for each problem:
/// `config.yaml:12:5: stores.cache.templates[2]: what is wrong; what would be right`.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    file: String,
    problems: Vec<Problem>,
    files: Files,
}

impl ConfigErrors {
    /// Takes the problems, in any order.
    pub(super) fn new(file: String, mut problems: Vec<Problem>, files: Files) -> Self {
        problems.sort();
        problems.dedup();
        Self { file, problems, files }
    }

    /// What was read, or was to be.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// One line for each problem, in the file's order.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| {
            let place = problem.origin.place(&self.file);
            let path = match problem.path.as_str() {
                "" => String::new(),
                path => format!("{path}: "),
            };
            format!("{place}: {path}{}", problem.message)
        })
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            write!(f, "{}{line}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
