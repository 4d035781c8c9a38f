//! Reads the domain in the `to` of a stream header.
//!
//! A `to` that is not a domain name is refused before any look-up: with address literals and
//! ports, a client could reach any port of any host in the internal network.

/// The reasons to refuse a `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is absent or empty (RFC 6120, section 4.7.2).
    Missing,
    /// It is longer than 253 bytes, or has a label longer than 63 (RFC 1035).
    TooLong,
    /// It has a local part or a resource, so it is not the address of a server.
    NotADomain,
    /// It is an IPv4 or IPv6 address, in any notation.
    AddressLiteral,
    /// It has a port number.
    Port,
    /// It has a character that is not allowed in a domain name, or an empty label.
    BadCharacter,
}

impl Error {
    /// Returns the text for the client.
    pub fn text(self) -> &'static str {
        match self {
            Error::Missing => "the stream header has no 'to'",
            Error::TooLong => "the 'to' is too long for a domain name",
            Error::NotADomain => "the 'to' must be a domain, without local part or resource",
            Error::AddressLiteral => "the 'to' must be a domain name, not an address",
            Error::Port => "the 'to' must not name a port",
            Error::BadCharacter => "the 'to' is not a domain name",
        }
    }
}

/// Returns the domain in `to`, in lower case and without a final dot.
pub fn domain(to: Option<&str>) -> Result<String, Error> {
    let to = to.unwrap_or_default();
    if to.is_empty() {
        return Err(Error::Missing);
    }
    if to.contains(['@', '/']) {
        return Err(Error::NotADomain);
    }
    if to.starts_with('[') || to.matches(':').count() > 1 {
        return Err(Error::AddressLiteral);
    }
    if to.contains(':') {
        return Err(Error::Port);
    }
    let name = to.strip_suffix('.').unwrap_or(to);
    if name.len() > 253 || name.split('.').any(|label| label.len() > 63) {
        return Err(Error::TooLong);
    }
    let bad = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => false,
        c if c.is_ascii() => true,
        c => !c.is_alphanumeric() && !is_mark(c),
    };
    if name
        .split('.')
        .any(|label| label.is_empty() || label.contains(bad))
    {
        return Err(Error::BadCharacter);
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if is_number(last) {
        return Err(Error::AddressLiteral);
    }
    Ok(name.to_lowercase())
}

/// Converts a domain that [`domain`] returned to A-labels (RFC 5890), the form that DNS and
/// certificates use.
pub fn to_ascii(name: &str) -> Result<String, Error> {
    if name.is_ascii() {
        return Ok(name.to_owned());
    }
    let ascii = idna::domain_to_ascii(name).map_err(|_| Error::BadCharacter)?;
    // The conversion may have turned letters into an address or a port.
    domain(Some(&ascii))
}

/// Whether the last label makes the name an address: C libraries also accept `127.1`,
/// `2130706433` and `0x7f.1` as IPv4 addresses.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or(label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// Whether `c` is a combining mark, a joiner or a middle dot that IDNA allows. Names in many
/// scripts have such characters, although they are not alphanumeric.
fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{483}'..='\u{487}' | '\u{591}'..='\u{5c7}'
        | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{900}'..='\u{d7f}'
        | '\u{e31}'..='\u{e4e}' | '\u{eb1}'..='\u{ecd}' | '\u{f71}'..='\u{fbc}'
        | '\u{102b}'..='\u{109d}' | '\u{17b4}'..='\u{17dd}' | '\u{200c}' | '\u{200d}'
        | '\u{3099}' | '\u{309a}' | '\u{30fb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_domain_names() {
        for (to, name) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com.", "example.com"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("b\u{fc}cher.example", "b\u{fc}cher.example"),
            ("BÜCHER.example", "bücher.example"),
            ("हिन्दी.example", "हिन्दी.example"),
            ("4chan.example", "4chan.example"),
            ("_xmpp.example", "_xmpp.example"),
        ] {
            assert_eq!(domain(Some(to)).as_deref(), Ok(name));
        }
    }

    #[test]
    fn other_scripts_become_a_labels() {
        assert_eq!(
            to_ascii("b\u{fc}cher.example").as_deref(),
            Ok("xn--bcher-kva.example")
        );
        assert_eq!(to_ascii("example.com").as_deref(), Ok("example.com"));
        // Full-width digits and dots also form an address.
        let wide = domain(Some("\u{ff11}27.0.0.\u{ff11}")).unwrap();
        assert_eq!(to_ascii(&wide), Err(Error::AddressLiteral));
    }

    #[test]
    fn refuses_all_else() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = "abcdefg.".repeat(32) + "ex";
        for (to, error) in [
            ("", Error::Missing),
            ("user@example.com", Error::NotADomain),
            ("example.com/res", Error::NotADomain),
            ("127.0.0.1", Error::AddressLiteral),
            ("127.1", Error::AddressLiteral),
            ("2130706433", Error::AddressLiteral),
            ("0x7f000001", Error::AddressLiteral),
            ("0x7f.0x1", Error::AddressLiteral),
            ("127.0.0.1.", Error::AddressLiteral),
            ("::1", Error::AddressLiteral),
            ("[::1]", Error::AddressLiteral),
            ("[::1]:5222", Error::AddressLiteral),
            ("example.com:22", Error::Port),
            ("127.0.0.1:22", Error::Port),
            ("exa mple.com", Error::BadCharacter),
            ("example.com\n", Error::BadCharacter),
            ("exam\0ple", Error::BadCharacter),
            ("exam\u{85}ple", Error::BadCharacter),
            ("exam\u{202e}ple", Error::BadCharacter),
            (".example", Error::BadCharacter),
            ("a..b", Error::BadCharacter),
            (".", Error::BadCharacter),
            ("a%41.b", Error::BadCharacter),
            (&long_label, Error::TooLong),
            (&long_name, Error::TooLong),
        ] {
            assert_eq!(domain(Some(to)), Err(error), "{to:?}");
        }
        assert_eq!(domain(None), Err(Error::Missing));
    }
}
