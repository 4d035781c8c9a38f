//! Remembers what clients get for the stream features of their servers.
//!
//! A server sends the same features to all sessions, and to edit them takes a parser. What is
//! remembered depends on nothing but the bytes of the features and the changes, so no session
//! sees anything of another.

use super::features::{Changes, StreamLimits};
use super::framing::Element;
use crate::expat::Error;

/// Maximum number of features. The most recent ones are kept.
const MOST: usize = 16;
/// Longer features are not remembered, in bytes.
const MAX_LEN: usize = 4 << 10;

/// Features as a server sent them, and as clients get them.
struct Known {
    received: Box<[u8]>,
    changes: Changes,
    framed: bool,
    relayed: Box<[u8]>,
    limits: StreamLimits,
}

/// The features that a worker remembers.
#[derive(Default)]
pub struct KnownFeatures {
    /// The most recent last.
    known: Vec<Known>,
}

impl KnownFeatures {
    /// Does what [`Changes::write`] does. Also returns whether the features had to be parsed.
    ///
    /// # Errors
    /// The element is not well-formed.
    pub fn write(
        &mut self,
        changes: Changes,
        element: &Element<'_>,
        framed: bool,
        out: &mut Vec<u8>,
    ) -> Result<(StreamLimits, bool), Error> {
        let is_same = |known: &Known| {
            *known.received == *element.bytes && known.changes == changes && known.framed == framed
        };
        let usual = element.is_in_usual_stream();
        if usual && let Some(known) = self.known.iter().rev().find(|known| is_same(known)) {
            out.extend_from_slice(&known.relayed);
            return Ok((known.limits, false));
        }
        let start = out.len();
        let limits = changes.write(element, framed, out)?;
        if usual && element.bytes.len().max(out.len() - start) <= MAX_LEN {
            if self.known.len() == MOST {
                self.known.remove(0);
            }
            self.known.push(Known {
                received: element.bytes.into(),
                changes,
                framed,
                relayed: out[start..].into(),
                limits,
            });
        }
        Ok((limits, true))
    }

    /// Returns the memory held, in bytes.
    pub fn held_bytes(&self) -> usize {
        let bytes = |known: &Known| size_of::<Known>() + known.received.len() + known.relayed.len();
        self.known.iter().map(bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expat::parsers_made;

    fn features(name: &str) -> String {
        format!(
            "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
             <{name} xmlns='urn:x'/></stream:features>"
        )
    }

    /// Writes features. Returns them and their limits, and whether a parser was created.
    fn write(
        known: &mut KnownFeatures,
        text: &str,
        framed: bool,
        changes: Changes,
    ) -> ((String, StreamLimits), bool) {
        let (mut out, before) = (b"before ".to_vec(), parsers_made());
        let element = Element::features(text.as_bytes());
        let (limits, parsed) = known.write(changes, &element, framed, &mut out).unwrap();
        assert_eq!(parsers_made() - before, u64::from(parsed));
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("before ").unwrap().to_owned();
        ((text, limits), parsed)
    }

    #[test]
    fn what_is_remembered_is_what_the_changes_write() {
        let mut known = KnownFeatures::default();
        let announce = Changes {
            max_bytes: Some(7),
            announce_limits: true,
            ..Changes::default()
        };
        for round in 0..3 {
            for name in ["a", "b"] {
                for framed in [true, false] {
                    for changes in [Changes::default(), announce] {
                        let text = features(name);
                        let element = Element::features(text.as_bytes());
                        let mut expected = Vec::new();
                        let limits = changes.write(&element, framed, &mut expected).unwrap();
                        let expected = (String::from_utf8(expected).unwrap(), limits);
                        let written = write(&mut known, &text, framed, changes);
                        assert_eq!(written, (expected, round == 0));
                    }
                }
            }
        }
        assert_eq!(known.known.len(), 8);
    }

    #[test]
    fn few_short_features_are_remembered() {
        let mut known = KnownFeatures::default();
        let changes = Changes::default();
        for n in 0..3 * MOST {
            assert!(write(&mut known, &features(&format!("f{n}")), true, changes).1);
            assert!(!write(&mut known, &features(&format!("f{n}")), true, changes).1);
        }
        assert!(!write(&mut known, &features("f32"), true, changes).1);
        assert!(write(&mut known, &features("f0"), true, changes).1);
        for _ in 0..2 {
            assert!(write(&mut known, &features(&"x".repeat(MAX_LEN)), true, changes).1);
        }
        for n in 0..2 * MOST {
            write(
                &mut known,
                &features(&"x".repeat(MAX_LEN - 300 + n)),
                true,
                changes,
            );
        }
        let most = MOST * (2 * MAX_LEN + 100);
        assert!((most / 2..most).contains(&known.held_bytes()));
    }
}
