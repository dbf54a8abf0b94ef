//! Layouts: where below a root the directory of a course lies, or in a bucket its objects. Pure.
//!
//! `{organization_id}/{course_id}` reads: a directory of any name, and in it one directory a course. A layout ends with
//! `{course_id}`, always a whole component, so that the directory belongs to one course and can go with one rename.

use crate::domain::ids::{CourseId, IdType};

/// The store's own folder at the root; no layout leads through it.
pub(crate) const OWN_FOLDER: &[u8] = b".course-gc";

const COURSE: &str = "{course_id}";
const ORGANIZATION: &str = "{organization_id}";

/// A parsed layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    text: String,
    /// The components above the course's own.
    above: Vec<Component>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Component {
    Literal(String),
    Any,
}

/// Why a text is no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// There is no place for the course.
    #[error(
        "the layout `{layout}` does not end with {{course_id}}; a layout is a path such as {{organization_id}}/{{course_id}}"
    )]
    NoCourse {
        /// The text.
        layout: String,
    },
    /// A component that is none.
    #[error("the layout `{layout}` has the component `{component}`; {reason}")]
    Component {
        /// The text.
        layout: String,
        /// The part between two slashes.
        component: String,
        /// What is wrong with it, and what would be right.
        reason: &'static str,
    },
}

impl Layout {
    /// Parses a layout: components separated by `/`, each a literal name, `{organization_id}` or `*` (any one name), and
    /// as the last one `{course_id}`.
    ///
    /// # Errors
    /// If the last component is not `{course_id}`, or another one is neither a name nor a placeholder.
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        let (above, last) = text.rsplit_once('/').map_or((None, text), |(above, last)| (Some(above), last));
        let above = above
            .into_iter()
            .flat_map(|above| above.split('/'))
            .enumerate()
            .map(|(level, component)| {
                Component::parse(level, component).map_err(|reason| LayoutError::Component {
                    layout: text.to_owned(),
                    component: component.to_owned(),
                    reason,
                })
            })
            .collect::<Result<_, _>>()?;
        if last != COURSE {
            return Err(LayoutError::NoCourse { layout: text.to_owned() });
        }
        Ok(Self { text: text.to_owned(), above })
    }

    /// The layout as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many components lead from the root to a course's directory, that directory included; at least 1.
    pub fn depth(&self) -> usize {
        self.above.len() + 1
    }

    /// True if a directory of this name, `level` directories below the root (from 0), can lead to a course's directory.
    /// At the course's own level every name is admitted; [`IdType::parse`] tells what it is. What no directory is called
    /// by (`..`, nothing at all) leads nowhere (S13).
    pub fn admits(&self, level: usize, name: &[u8]) -> bool {
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) || (level == 0 && name == OWN_FOLDER) {
            return false;
        }
        match self.above.get(level) {
            Some(Component::Literal(literal)) => literal.as_bytes() == name,
            Some(Component::Any) => true,
            None => level == self.above.len(),
        }
    }

    /// True if the directory at this path lies above courses' directories, and is made for those in it (an organization's) rather
    /// than once and for all: a placeholder leads to it. Literal names before the first placeholder belong to the root.
    pub fn is_made_per_course(&self, components: &[&[u8]]) -> bool {
        let Some(above) = self.above.get(..components.len()) else { return false };
        above.contains(&Component::Any) && components.iter().enumerate().all(|(level, name)| self.admits(level, name))
    }

    /// The course that owns a path below the root, and how many of the components lead to its directory; `None` if the
    /// path does not lead through a course's directory.
    pub fn owner(&self, id_type: IdType, components: &[&[u8]]) -> Option<CourseId> {
        let (course, above) = components.get(..self.depth())?.split_last()?;
        let leads_there = above.iter().enumerate().all(|(level, name)| self.admits(level, name));
        let admitted = leads_there && self.admits(above.len(), course);
        admitted.then(|| id_type.parse(course)).flatten()
    }
}

impl Component {
    fn parse(level: usize, text: &str) -> Result<Self, &'static str> {
        match text {
            ORGANIZATION | "*" => Ok(Self::Any),
            COURSE => Err("{course_id} comes once, as the last component"),
            "" => Err("a layout is relative to the root, without empty components"),
            "." | ".." => Err("a layout leads straight down from the root"),
            _ if text.contains(['{', '}', '*']) => {
                Err("a component is a whole placeholder ({organization_id}, {course_id}, *) or a plain name")
            }
            _ if text.contains('\0') => Err("a name holds no NUL"),
            _ if level == 0 && text.as_bytes() == OWN_FOLDER => Err("that folder is course-gc's own"),
            _ => Ok(Self::Literal(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";

    fn owner(layout: &str, path: &str) -> Option<String> {
        let components: Vec<_> = path.split('/').map(str::as_bytes).collect();
        Layout::parse(layout).unwrap().owner(IdType::Uuid, &components).map(|id| id.to_string())
    }

    #[test]
    fn a_layout_names_the_course_directory() {
        for (layout, path, is_owned) in [
            ("{course_id}", ID.to_owned(), true),
            ("{course_id}", format!("{ID}/lesson/a.webp"), true),
            ("{course_id}", format!("x/{ID}"), false),
            ("{organization_id}/{course_id}", format!("org/{ID}/file"), true),
            ("{organization_id}/{course_id}", ID.to_owned(), false),
            ("{organization_id}/{course_id}", "org/career-playbooks/file".to_owned(), false),
            ("{organization_id}/x/{course_id}", format!("org/x/{ID}"), true),
            ("{organization_id}/x/{course_id}", format!("org/y/{ID}"), false),
            ("*/*/{course_id}", format!("a/b/{ID}/c"), true),
            ("*/{course_id}", format!(".course-gc/{ID}"), false),
            ("*/{course_id}", format!("../{ID}"), false),
            ("*/{course_id}", format!("./{ID}"), false),
            ("*/{course_id}", format!("/{ID}"), false),
            ("*/{course_id}", format!("a\0b/{ID}"), false),
        ] {
            assert_eq!(owner(layout, &path), is_owned.then(|| ID.to_owned()), "{layout} {path}");
        }
    }

    #[test]
    fn what_a_placeholder_leads_to_is_made_per_course() {
        for (layout, path, expected) in [
            ("{course_id}", "", false),
            ("{organization_id}/{course_id}", "", false),
            ("{organization_id}/{course_id}", "org", true),
            ("{organization_id}/{course_id}", ".course-gc", false),
            ("{organization_id}/{course_id}", "org/below", false),
            ("{organization_id}/courses/{course_id}", "org", true),
            ("{organization_id}/courses/{course_id}", "org/courses", true),
            ("{organization_id}/courses/{course_id}", "org/other", false),
            ("uploads/*/{course_id}", "uploads", false),
            ("uploads/*/{course_id}", "uploads/org", true),
            ("uploads/*/{course_id}", "other/org", false),
        ] {
            let components: Vec<_> = path.split('/').map(str::as_bytes).collect();
            assert_eq!(Layout::parse(layout).unwrap().is_made_per_course(&components), expected, "{layout} {path}");
        }
    }

    #[test]
    fn s5_only_the_canonical_component_is_an_owner() {
        for bad in
            [ID.to_uppercase(), format!("{{{ID}}}"), "..".into(), String::new(), format!("{ID} "), format!("{ID}.bak")]
        {
            assert_eq!(owner("{course_id}", &bad), None, "{bad}");
        }
    }

    #[test]
    fn bad_layouts_are_refused_with_what_would_be_right() {
        for bad in [
            "",
            "/",
            "{course_id}/",
            "/{course_id}",
            "a//{course_id}",
            "../{course_id}",
            "./{course_id}",
            "{course_id}/x",
            "{course_id}/{course_id}",
            "x-{course_id}",
            "{course_id}.d",
            "{org}/{course_id}",
            "a*/{course_id}",
            ".course-gc/{course_id}",
            "{organization_id}",
        ] {
            let error = Layout::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the layout `{bad}` ")), "{error}");
        }
        assert_eq!(Layout::parse("a/{organization_id}/{course_id}").unwrap().depth(), 3);
    }

    proptest! {
        #[test]
        fn s5_an_owner_is_the_canonical_component_at_its_depth(path in "[a-z0-9./-]{0,12}(/[0-9-]{1,4}){0,3}") {
            let components: Vec<_> = path.split('/').map(str::as_bytes).collect();
            let layout = Layout::parse("*/{course_id}").unwrap();
            if let Some(owner) = layout.owner(IdType::Integer, &components) {
                prop_assert_eq!(owner.to_string().into_bytes(), components[1].to_vec());
            }
        }
    }
}
