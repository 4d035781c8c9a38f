//! Streams that share a pool of parsers.

use super::random::Random;
use super::xmpp_stream::{HEADER, Seen, feed, pool, seen};
use jabsocket::expat::{Parser, Token};
use jabsocket::proto::xmpp::server_stream::{Flow, ServerStream};

impl Random {
    fn element(&mut self, depth: usize) -> String {
        let names = ["a", "message", "p:x", "stream:y", "iq"];
        let name = names[self.below(names.len())];
        let own = ["", " xmlns='o'", " xmlns:p='q'", " b='>&lt;'", "\n"][self.below(5)];
        if depth == 3 || self.below(3) == 0 {
            return format!("<{name}{own}/>");
        }
        let mut text = format!("<{name}{own}>");
        for _ in 0..self.below(4) {
            match self.below(4) {
                0 => text += "t\u{e4}xt > ]] &amp; ",
                1 => text += "<![CDATA[ </a> ]]>",
                _ => text += &self.element(depth + 1),
            }
        }
        text + &format!("</{name}>")
    }
}

/// Sessions share one pool of parsers, with their stanzas split at random and
/// interleaved. Each session gets the same result as with its own namespace-aware parser.
#[test]
fn pooled_parsers_equal_dedicated_ones() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut pool = pool();
    let header = HEADER.replace("from='h'", "from='h' xmlns:p='urn:p'");
    let mut sessions: Vec<_> = (0..40)
        .map(|_| (ServerStream::default(), Vec::new(), 0))
        .collect();
    let stanzas: Vec<Vec<String>> = (0..sessions.len())
        .map(|_| (0..60).map(|_| random.element(0)).collect())
        .collect();
    let texts: Vec<String> = stanzas
        .iter()
        .map(|stanzas| header.clone() + &stanzas.join(" "))
        .collect();
    let mut left = sessions.len();
    while left > 0 {
        let at = random.below(sessions.len());
        let (stream, units, fed) = &mut sessions[at];
        let bytes = &texts[at].as_bytes()[*fed..];
        if bytes.is_empty() {
            continue;
        }
        let piece = &bytes[..(1 + random.below(200)).min(bytes.len())];
        *fed += piece.len();
        left -= usize::from(piece.len() == bytes.len());
        let result = feed(stream, &mut pool, piece, |unit| {
            units.push(seen(&unit));
            Flow::Continue
        });
        assert_eq!(result, Ok(Flow::Continue));
    }
    for ((_, units, _), stanzas) in sessions.iter().zip(&stanzas) {
        assert_eq!(units.len(), 1 + stanzas.len());
        for (unit, stanza) in units[1..].iter().zip(stanzas) {
            let Seen::Element(text) = unit else {
                panic!("no element: {unit:?}")
            };
            let inside = format!("{header}{stanza}");
            let names = |text: &str| {
                let mut parser = Parser::new(9);
                parser.feed(text.as_bytes()).unwrap();
                let name = |token: &Token| match token {
                    Token::Start(tag) => {
                        let (space, local) = parser.name(tag);
                        Some((space.to_vec(), local.to_vec()))
                    }
                    Token::End { .. } => None,
                };
                parser.tokens().iter().filter_map(name).collect::<Vec<_>>()
            };
            assert_eq!(names(text), names(&inside)[1..], "{stanza}");
        }
    }
    assert!(pool.parked() <= sessions.len());
}
