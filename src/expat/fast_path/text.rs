//! Recognizes text that is certainly well-formed.
//!
//! It accepts complete UTF-8 sequences of XML characters and the five predefined entity
//! references, but no `]]>`. All other text goes to Expat.

use super::run::run;

/// Bytes checked at once.
const CHUNK: usize = 32;

/// The predefined entities (XML 1.0, section 4.6), without their `&`.
const ENTITIES: [&[u8]; 5] = [b"lt;", b"gt;", b"amp;", b"quot;", b"apos;"];

/// Returns the length of the text at the front of `bytes`, up to a `<`, if it is certainly
/// well-formed.
// Inlined, its constants would be loaded again for each attribute.
#[inline(never)]
pub(super) fn text_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // The text up to here is known to be UTF-8.
    let mut utf8_end = 0;
    loop {
        at += match at < utf8_end {
            true => wide_run(&bytes[at..utf8_end]),
            false => long_run(&bytes[at..]),
        };
        let (byte, rest) = bytes[at..].split_first()?;
        at += match byte {
            b'<' => return Some(at),
            b'\t' | b'\n' | b'\r' => 1,
            b'&' => {
                let name = ENTITIES.iter().find(|name| rest.starts_with(name))?;
                1 + name.len()
            }
            b']' => match rest {
                [b']', b'>', ..] => return None,
                _ => 1,
            },
            0x80.. if at >= utf8_end => {
                let text = &bytes[at..][..memchr::memchr(b'<', rest)? + 1];
                std::str::from_utf8(text).ok()?;
                utf8_end = at + text.len();
                0
            }
            // U+FFFE and U+FFFF are not XML characters.
            0xef if rest[0] == 0xbf && rest[1] >= 0xbe => return None,
            0xef => 1,
            _ => return None,
        };
    }
}

/// Does what [`run`] does, with fewer steps for a long run.
fn long_run(text: &[u8]) -> usize {
    let len = calm_len(text, |byte| {
        ((byte as i8) < b' ' as i8) | (byte == b'<') | (byte == b'&') | (byte == b']')
    });
    len + run(&text[len..], b']')
}

/// Returns how many bytes at the front of `text`, which is UTF-8 without `<`, need no look at
/// those that follow.
fn wide_run(text: &[u8]) -> usize {
    let doubtful = |byte| (byte < b' ') | (byte == b'&') | (byte == b']') | (byte == 0xef);
    let len = calm_len(text, doubtful);
    let rest = text[len..].iter();
    len + rest.take_while(|byte| !doubtful(**byte)).count()
}

/// Returns the length of the whole chunks at the front of `text` without a doubtful byte.
fn calm_len(text: &[u8], doubtful: impl Fn(u8) -> bool) -> usize {
    let calm = |chunk: &&[u8]| !chunk.iter().fold(false, |any, &byte| any | doubtful(byte));
    text.chunks_exact(CHUNK).take_while(calm).count() * CHUNK
}

#[cfg(test)]
mod tests {
    use super::super::random::random;
    use super::*;

    /// Whether `text` is plain, character by character.
    fn is_plain(text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else {
            return false;
        };
        text.char_indices().all(|(at, c)| match c {
            '&' => {
                let rest = &text.as_bytes()[at + 1..];
                ENTITIES.iter().any(|entity| rest.starts_with(entity))
            }
            ']' => !text[at..].starts_with("]]>"),
            c => !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..' ' | '\u{fffe}' | '\u{ffff}'),
        })
    }

    #[test]
    fn agrees_with_a_check_of_every_character() {
        let parts: [&[u8]; 22] = [
            b"a",
            b"plain text of some length ",
            b"]",
            b"]]",
            b"]]>",
            b">",
            b"&lt;",
            b"&quot;",
            b"&#65;",
            b"&",
            b"&am",
            b"\x00",
            b"\x1f",
            b"\t\r\n",
            b"\x7f",
            "\u{e4}".as_bytes(),
            "\u{20ac}".as_bytes(),
            "\u{ff0c}".as_bytes(),
            "\u{ffff}".as_bytes(),
            "\u{1fffe}".as_bytes(),
            b"\xf0\x9f",
            b"\xed\xa0\x80",
        ];
        let mut random = random(7);
        let mut count = 0;
        for _ in 0..20_000 {
            let mut text = Vec::new();
            for _ in 0..random(12) {
                // Mostly text that is well-formed.
                let part = if random(3) > 0 {
                    [0, 1, 15, 16, 17, 6][random(6)]
                } else {
                    random(22)
                };
                text.extend_from_slice(parts[part]);
            }
            assert_eq!(text_len(&text), None, "no end: {text:?}");
            let plain = is_plain(&text).then_some(text.len());
            count += usize::from(plain.is_some());
            text.extend(b"<b>\xff");
            assert_eq!(text_len(&text), plain, "{:?}", text.escape_ascii());
        }
        assert!(count > 5_000, "{count}");
    }
}
