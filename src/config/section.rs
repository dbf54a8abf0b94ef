//! Sections: a declaration gives the type, its reading and its documentation.

use super::read::{At, FieldDoc, Reader};
use super::yaml::{Content, Entry, Node};

/// A section that [`section!`] declares.
pub(super) trait Section: Sized {
    const FIELDS: &'static [FieldDoc];
    /// Whether a scalar may stand for the first field.
    const SHORTHAND: bool;

    fn read_fields(at: &At<'_>, reader: &mut Reader) -> Option<Self>;

    /// Reads the section; `also` are fields that something else reads.
    fn read_section(at: &At<'_>, reader: &mut Reader, also: &[FieldDoc]) -> Option<Self> {
        let expanded = at.node.filter(|_| Self::SHORTHAND).and_then(|node| node.expand(Self::FIELDS));
        let node = expanded.as_ref().or(at.node);
        let at = At { path: at.path.clone(), node, file: None, section: at.section };
        let is_map = reader.section(&at, &[Self::FIELDS, also]);
        if is_map { Self::read_fields(&at, reader) } else { None }
    }
}

impl Node {
    /// The section that a scalar stands for: its first field has that value.
    fn expand(&self, fields: &[FieldDoc]) -> Option<Node> {
        self.scalar()?;
        let entry =
            Entry { key: fields.first()?.name.to_owned(), key_origin: self.origin.clone(), value: self.clone() };
        Some(Node { content: Content::Map(vec![entry]), origin: self.origin.clone() })
    }
}

/// Declares a section: its type, how it is read, and its documentation.
///
/// A field is `name: Type = "default"`, `name: Type, example "value"` or, where it is optional,
/// `name: Option<Type>, mention "value"`. `(shorthand)` after the section's name lets a scalar stand
/// for the first field.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(($shorthand:ident))? {
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty
                $(= $default:literal)? $(, example $example:literal)? $(, mention $mention:literal)?;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl $crate::config::section::Section for $name {
            const FIELDS: &'static [$crate::config::read::FieldDoc] = &[
                $($crate::config::read::FieldDoc {
                    name: $crate::config::section::plain(stringify!($field)),
                    optional: <$type as $crate::config::read::Value>::OPTIONAL,
                    doc: &[$($doc),+],
                    shape: &<$type as $crate::config::read::Value>::SHAPE,
                    default: $crate::config::section::option!($($default)?),
                    example: $crate::config::section::option!($($example)?),
                    mention: $crate::config::section::option!($($mention)?),
                },)+
            ];
            const SHORTHAND: bool = $crate::config::section::option!($(stringify!($shorthand))?).is_some();

            fn read_fields(
                at: &$crate::config::read::At<'_>,
                reader: &mut $crate::config::read::Reader,
            ) -> Option<Self> {
                // All are read before the first that failed ends it: all problems are collected.
                let [$($field),+] = <Self as $crate::config::section::Section>::FIELDS else {
                    return None;
                };
                $(let $field = reader.field::<$type>(at, $field);)+
                Some(Self { $($field: $field?,)+ })
            }
        }

        impl $crate::config::read::Value for $name {
            const SHAPE: $crate::config::read::Shape = $crate::config::read::Shape::Section {
                fields: <Self as $crate::config::section::Section>::FIELDS,
                shorthand: <Self as $crate::config::section::Section>::SHORTHAND,
            };

            fn read(
                at: &$crate::config::read::At<'_>,
                reader: &mut $crate::config::read::Reader,
            ) -> Option<Self> {
                reader.record(at, None);
                <Self as $crate::config::section::Section>::read_section(at, reader, &[])
            }
        }
    };
}
pub(super) use section;

/// A field's name as it is written in a configuration: `where` is a word of Rust, too.
pub(super) const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// `Some` of what is given.
macro_rules! option {
    () => {
        None::<&'static str>
    };
    ($value:expr) => {
        Some($value)
    };
}
pub(super) use option;
