//! What a request for the list of sessions asks for: `sort=queued&limit=20`.

use std::net::IpAddr;

use crate::net::peer::Peer;
use crate::session::facts::Facts;

/// Maximum number of sessions of a sorted list, which is kept while it is made.
const MAX_SORTED: usize = 10_000;

/// What a list is sorted by, the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Number,
    Age,
    Idle,
    Up,
    Down,
    Queued,
}

const SORTS: [(&str, Sort); 6] = [
    ("number", Sort::Number),
    ("age", Sort::Age),
    ("idle", Sort::Idle),
    ("up", Sort::Up),
    ("down", Sort::Down),
    ("queued", Sort::Queued),
];

impl Sort {
    pub fn key(self, facts: &Facts<'_>) -> u64 {
        match self {
            Sort::Number => facts.number.into(),
            Sort::Age => facts.age_ms,
            Sort::Idle => facts.idle_ms,
            Sort::Up => facts.up_bytes,
            Sort::Down => facts.down_bytes,
            Sort::Queued => facts.queued_bytes as u64,
        }
    }
}

/// Whose sessions are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Ip(IpAddr),
    Unix,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub sort: Option<Sort>,
    pub limit: Option<usize>,
    domain: Option<String>,
    client: Option<Client>,
}

impl Query {
    /// Reads the part of a request target after the `?`.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn parse(text: &str) -> Result<Query, &'static str> {
        let mut query = Query::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or("a value is not encoded as in a URI")?;
            match name {
                "sort" => {
                    let sort = SORTS.iter().find(|(name, _)| *name == value);
                    let allowed = "sort: number, age, idle, up, down or queued";
                    query.sort = Some(sort.ok_or(allowed)?.1);
                }
                "limit" => {
                    let limit = value.parse().map_err(|_| "limit: a whole number")?;
                    query.limit = Some(limit);
                }
                "domain" => query.domain = Some(value),
                "address" if value == "unix:" => query.client = Some(Client::Unix),
                "address" => {
                    let ip: IpAddr = value
                        .parse()
                        .map_err(|_| "address: a numeric address without a port, or unix:")?;
                    query.client = Some(Client::Ip(ip.to_canonical()));
                }
                _ => return Err("allowed: sort, limit, domain, address"),
            }
        }
        Ok(query)
    }

    pub fn selects(&self, facts: &Facts<'_>) -> bool {
        let is_domain = |domain: &String| {
            let own = facts.domain;
            own.is_some_and(|own| own.eq_ignore_ascii_case(domain))
        };
        let client = match facts.peer {
            Peer::Ip(address) => Client::Ip(address.ip()),
            Peer::Unix => Client::Unix,
        };
        self.domain.as_ref().is_none_or(is_domain) && self.client.is_none_or(|own| own == client)
    }

    /// Returns the maximum length of a sorted list.
    pub fn sorted_limit(&self) -> usize {
        self.limit.map_or(MAX_SORTED, |limit| limit.min(MAX_SORTED))
    }
}

/// Decodes `%` and two hexadecimal digits.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused() {
        assert_eq!(Query::parse(""), Ok(Query::default()));
        let query = Query::parse("sort=queued&limit=20&domain=a%2eb&address=%3A%3a1").unwrap();
        assert_eq!((query.sort, query.limit), (Some(Sort::Queued), Some(20)));
        assert_eq!(query.domain.as_deref(), Some("a.b"));
        assert_eq!(query.client, Some(Client::Ip("::1".parse().unwrap())));
        let unix = Query::parse("address=unix:").unwrap();
        assert_eq!(unix.client, Some(Client::Unix));
        let most = [
            ("limit=5", 5),
            ("limit=99999999", MAX_SORTED),
            ("", MAX_SORTED),
        ];
        for (query, limit) in most {
            assert_eq!(Query::parse(query).unwrap().sorted_limit(), limit);
        }
        for bad in [
            "sort",
            "sort=x",
            "limit=-1",
            "limit=",
            "address=x",
            "order=up",
            "domain=%f",
            "domain=%ff",
        ] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
