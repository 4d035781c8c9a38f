//! Recognizes text that is certainly well-formed.
//!
//! It accepts complete UTF-8 sequences of XML characters and the five predefined entity
//! references, but no `]]>`. All other text goes to Expat.

/// Bytes checked at once.
const CHUNK: usize = 32;

/// The predefined entities (XML 1.0, section 4.6), without their `&`.
const ENTITIES: [&[u8]; 5] = [b"lt;", b"gt;", b"amp;", b"quot;", b"apos;"];

/// Returns the length of the part at the front of `text` that is certainly well-formed. `text`
/// must not contain `<`.
pub(super) fn plain_len(text: &[u8]) -> usize {
    let mut at = 0;
    // The text up to here is known to be UTF-8.
    let mut utf8_end = 0;
    loop {
        at += match at < utf8_end {
            true => calm_len(&text[at..utf8_end], true),
            false => calm_len(&text[at..], false),
        };
        let Some(&byte) = text.get(at) else {
            return at;
        };
        let rest = &text[at + 1..];
        at += match byte {
            b'\t' | b'\n' | b'\r' => 1,
            0..b' ' => return at,
            b' '..=b'%' | b'\''..=b'\\' | b'^'..=0x7f => 1,
            b'&' => match ENTITIES.iter().find(|name| rest.starts_with(name)) {
                Some(name) => 1 + name.len(),
                None => return at,
            },
            b']' => match rest {
                [b']', b'>', ..] | [b']'] | [] => return at,
                _ => 1,
            },
            0x80.. if at >= utf8_end => {
                let valid = match std::str::from_utf8(&text[at..]) {
                    Ok(_) => text.len() - at,
                    Err(error) => error.valid_up_to(),
                };
                if valid == 0 {
                    return at;
                }
                utf8_end = at + valid;
                0
            }
            // U+FFFE and U+FFFF are not XML characters.
            0xef if rest[0] == 0xbf && rest[1] >= 0xbe => return at,
            _ => 1,
        };
    }
}

/// Returns the length of the part at the front of `text` in which each byte is harmless by
/// itself. `utf8`: the text is known to be UTF-8.
fn calm_len(text: &[u8], utf8: bool) -> usize {
    let doubtful = |byte: u8| {
        let ascii = (byte < b' ') | (byte == b'&') | (byte == b']');
        ascii | if utf8 { byte == 0xef } else { byte >= 0x80 }
    };
    let calm = |chunk: &&[u8]| !chunk.iter().fold(false, |any, &byte| any | doubtful(byte));
    text.chunks_exact(CHUNK).take_while(calm).count() * CHUNK
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference for [`plain_len`], character by character.
    fn slow(text: &[u8]) -> usize {
        let valid = match std::str::from_utf8(text) {
            Ok(all) => all,
            Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap(),
        };
        let mut at = 0;
        while let Some(c) = valid[at..].chars().next() {
            let rest = &valid[at..];
            at += match c {
                '&' => match ENTITIES
                    .iter()
                    .find(|e| rest.as_bytes()[1..].starts_with(e))
                {
                    Some(entity) => 1 + entity.len(),
                    None => return at,
                },
                ']' if rest.starts_with("]]>") || text[at..] == *b"]]" || text[at..] == *b"]" => {
                    return at;
                }
                '\t' | '\n' | '\r' => 1,
                '\0'..' ' | '\u{fffe}' | '\u{ffff}' => return at,
                c => c.len_utf8(),
            };
        }
        at
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
        let mut state = 7u64;
        let mut random = |n: usize| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
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
            assert_eq!(
                plain_len(&text),
                slow(&text),
                "{:?}",
                String::from_utf8_lossy(&text)
            );
        }
    }
}
