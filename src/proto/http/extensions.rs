//! Reads the offers in Sec-WebSocket-Extensions, and accepts one.
//!
//! Has the grammar of the field (RFC 6455 9.1) and the parameters of permessage-deflate (RFC
//! 7692 7.1), the only supported extension. Compression never keeps a context between messages,
//! in either direction, so a connection needs no memory for it. Other extensions and offers
//! that cannot be met are ignored.

use std::fmt;

use super::head::is_token_byte;
use super::refusal::Refusal;

/// The negotiated parameters of permessage-deflate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deflate {
    /// The client's limit on our LZ77 window, as a power of 2; `None` if it set no limit (RFC
    /// 7692 7.1.2.1).
    pub window_bits: Option<u8>,
}

/// Writes the response to the offer (RFC 7692 5.1, 7.1).
impl fmt::Display for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client must obey the second parameter, even if it did not offer it (7.1.1.2).
        f.write_str("permessage-deflate; server_no_context_takeover; client_no_context_takeover")?;
        match self.window_bits {
            Some(bits) => write!(f, "; server_max_window_bits={bits}"),
            None => Ok(()),
        }
    }
}

/// Returns the first acceptable offer of permessage-deflate in a value of the field.
///
/// # Errors
/// The value is not a list of `extension-token *( ";" extension-param )`. An empty list offers
/// nothing.
pub fn deflate(value: &[u8]) -> Result<Option<Deflate>, Refusal> {
    let mut first = None;
    let mut rest = value.trim_ascii_start();
    loop {
        while let [b',', after @ ..] = rest {
            rest = after.trim_ascii_start();
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let (name, after) = token(rest)?;
        rest = after;
        let mut offer = name
            .eq_ignore_ascii_case(b"permessage-deflate")
            .then(Offer::default);
        while let [b';', after @ ..] = rest {
            let (name, value, after) = parameter(after.trim_ascii_start())?;
            offer = offer.and_then(|offer| offer.with(name, value.as_deref()));
            rest = after;
        }
        if !matches!(rest, [] | [b',', ..]) {
            return Err(Refusal::Extensions);
        }
        first = first.or(offer.map(|offer| offer.answer));
    }
}

/// An offer of permessage-deflate, and the answer to it.
#[derive(Default)]
struct Offer {
    /// The parameters so far; each may appear once.
    seen: [bool; 4],
    answer: Deflate,
}

impl Offer {
    /// Adds a parameter to the offer. Returns `None` if the offer must be declined (RFC 7692
    /// 7.1): the parameter is unknown, repeated, or has an invalid value.
    fn with(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Offer> {
        let at = match (name, value) {
            (b"server_no_context_takeover", None) => 0,
            (b"client_no_context_takeover", None) => 1,
            (b"server_max_window_bits", Some(value)) => {
                self.answer.window_bits = Some(window_bits(value)?);
                2
            }
            // A hint that needs no response, because we can inflate with any window.
            (b"client_max_window_bits", None) => 3,
            (b"client_max_window_bits", Some(value)) => {
                window_bits(value)?;
                3
            }
            _ => return None,
        };
        let repeated = std::mem::replace(&mut self.seen[at], true);
        (!repeated).then_some(self)
    }
}

/// Parses a number from 8 to 15 without leading zeros (RFC 7692 7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [b'8' | b'9'] => Some(value[0] - b'0'),
        [b'1', b'0'..=b'5'] => Some(10 + value[1] - b'0'),
        _ => None,
    }
}

/// The name and value of `token [ "=" ( token / quoted-string ) ]`, and the rest of the bytes.
type Parameter<'a> = (&'a [u8], Option<Vec<u8>>, &'a [u8]);

fn parameter(bytes: &[u8]) -> Result<Parameter<'_>, Refusal> {
    let (name, rest) = token(bytes)?;
    let [b'=', value @ ..] = rest else {
        return Ok((name, None, rest));
    };
    let (value, rest) = match value.trim_ascii_start() {
        [b'"', quoted @ ..] => unquoted(quoted)?,
        value => token(value).map(|(value, rest)| (value.to_vec(), rest))?,
    };
    Ok((name, Some(value), rest))
}

/// Reads a token; returns it and the rest after white space.
fn token(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let n = bytes.iter().take_while(|&&b| is_token_byte(b)).count();
    let (token, rest) = bytes.split_at(n);
    match token {
        [] => Err(Refusal::Extensions),
        _ => Ok((token, rest.trim_ascii_start())),
    }
}

/// Reads a quoted string after its opening quote; returns its value and the rest after white
/// space. The unquoted value must be a token.
fn unquoted(mut bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), Refusal> {
    let mut value = Vec::new();
    loop {
        let (byte, rest) = match *bytes {
            [b'"', ref rest @ ..] if !value.is_empty() => {
                return Ok((value, rest.trim_ascii_start()));
            }
            [b'\\', byte, ref rest @ ..] | [byte, ref rest @ ..] if is_token_byte(byte) => {
                (byte, rest)
            }
            _ => return Err(Refusal::Extensions),
        };
        value.push(byte);
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(value: &str) -> Option<Option<u8>> {
        let accepted = deflate(value.as_bytes()).unwrap();
        accepted.map(|deflate| deflate.window_bits)
    }

    #[test]
    fn keeps_to_the_grammar() {
        for good in [
            "",
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits, x",
            "a;b=c ; d=\"e\\f\",, g",
        ] {
            assert!(deflate(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            ";a",
            "a;",
            "a b",
            "a;b=",
            "a;b=\"",
            "a;b=\"\"",
            "a;b=\"c d\"",
            "a=b",
            "permessage-deflate, a;",
        ] {
            assert_eq!(deflate(bad.as_bytes()), Err(Refusal::Extensions), "{bad}");
        }
    }

    #[test]
    fn takes_the_first_offer_that_can_be_kept() {
        for (offered, accepted) in [
            ("permessage-deflate", Some(None)),
            ("Permessage-Deflate; client_max_window_bits", Some(None)),
            ("x-webkit-deflate-frame, permessage-deflate", Some(None)),
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                Some(None),
            ),
            (
                "permessage-deflate;server_max_window_bits=\"10\"",
                Some(Some(10)),
            ),
            (
                "permessage-deflate; server_max_window_bits=16, \
                 permessage-deflate; server_max_window_bits=8; client_max_window_bits=15",
                Some(Some(8)),
            ),
            (
                "permessage-deflate; server_max_window_bits=9, permessage-deflate",
                Some(Some(9)),
            ),
            ("deflate, x; permessage-deflate", None),
        ] {
            assert_eq!(window(offered), accepted, "{offered}");
        }
    }

    #[test]
    fn declines_parameters_that_rfc_7692_does_not_know() {
        for parameters in [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=",
            "client_max_window_bits=1",
            "server_no_context_takeover=1",
            "client_no_context_takeover; client_no_context_takeover",
            "unknown",
        ] {
            let offered = format!("permessage-deflate; {parameters}");
            let accepted = deflate(offered.as_bytes());
            assert!(
                matches!(accepted, Ok(None) | Err(Refusal::Extensions)),
                "{offered}"
            );
        }
    }

    #[test]
    fn answers_an_offer() {
        let answer = |window_bits| Deflate { window_bits }.to_string();
        let usual = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(answer(None), usual);
        assert_eq!(
            answer(Some(9)),
            format!("{usual}; server_max_window_bits=9")
        );
    }
}
