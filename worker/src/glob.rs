//! Patterns for names, as shells have them: `*` stands for any text, `?` for one character; everything else is itself.
//!
//! Owns: their translation into regular expressions, which match in linear time.

use regex::Regex;

/// A pattern.
#[derive(Debug)]
pub(crate) struct Glob(Option<Regex>);

impl Glob {
    /// The empty pattern matches everything.
    ///
    /// # Errors
    /// When the pattern is too long.
    pub(crate) fn new(pattern: &str) -> Result<Self, regex::Error> {
        if pattern.is_empty() {
            return Ok(Self(None));
        }
        let mut text = String::from("(?s)^");
        for character in pattern.chars() {
            match character {
                '*' => text.push_str(".*"),
                '?' => text.push('.'),
                other => text.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            }
        }
        text.push('$');
        Regex::new(&text).map(|regex| Self(Some(regex)))
    }

    /// Whether the whole of `name` fits.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|regex| regex.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        for (pattern, name, expected) in [
            ("", "anything", true),
            ("*", "", true),
            ("news:*", "news:1", true),
            ("news:*", "old-news:1", false),
            ("news", "news:1", false),
            ("room-?", "room-7", true),
            ("room-?", "room-77", false),
            ("?", "é", true),
            ("a.c", "abc", false),
            ("[a]", "[a]", true),
            ("*b*", "a\nb\nc", true),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!(glob.matches(name), expected, "{pattern:?} {name:?}");
        }
    }
}
