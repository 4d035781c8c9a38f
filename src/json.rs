//! JSON strings.

/// Quotes text as a JSON string in ASCII (RFC 8259, section 7).
pub(crate) fn quoted(text: impl Iterator<Item = char>) -> String {
    let mut quoted = String::from('"');
    for c in text {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    quoted += &format!("\\u{unit:04x}");
                }
            }
        }
    }
    quoted + "\""
}
