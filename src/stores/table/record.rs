//! The text of a row, as Postgres writes it: `(1,"a, ""b""",,"")`. Pure.

/// The fields of a row's text; `None` is NULL. Nothing if it is no row's text.
pub(super) fn parse(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let mut fields = Vec::new();
    let (mut field, mut is_null, mut quoted) = (String::new(), true, false);
    let mut rest = inner.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' => {
                quoted = !quoted;
                is_null = false;
            }
            '\\' => {
                field.push(rest.next()?);
                is_null = false;
            }
            ',' if !quoted => {
                fields.push((!is_null).then(|| std::mem::take(&mut field)));
                is_null = true;
            }
            other => {
                field.push(other);
                is_null = false;
            }
        }
    }
    if quoted {
        return None;
    }
    fields.push((!is_null).then_some(field));
    Some(fields)
}

/// A row's text of these fields.
pub(super) fn write<'a>(fields: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let written = fields.into_iter().map(|field| match field {
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\"")),
        None => String::new(),
    });
    format!("({})", written.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn s12_null_and_nothing_written_are_two_things() {
        assert_eq!(parse("(1,,\"\")"), Some(vec![Some("1".into()), None, Some(String::new())]));
        assert_eq!(parse("()"), Some(vec![None]));
        assert_eq!(parse("(\"a, \"\"b\"\" \\\\ (c)\")"), Some(vec![Some("a, \"b\" \\ (c)".into())]));
        for wrong in ["", "1", "(1", "(\"1)", "(\\"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn s12_what_is_written_is_read(fields in proptest::collection::vec(proptest::option::of(any::<String>()), 1..6)) {
            let text = write(fields.iter().map(Option::as_deref));
            prop_assert_eq!(parse(&text), Some(fields));
        }
    }
}
