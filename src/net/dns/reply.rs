//! Extracts the records from a DNS message (RFC 1035, section 4.1).

use std::net::IpAddr;

use c_ares::{AAAAResults, AResults, SRVResults};

use super::question::{Error, Family, Question, Records, Service};

/// Maximum number of addresses or SRV records taken from one answer.
const MAX_RECORDS: usize = 16;
/// Maximum length of a host name in an SRV record, in bytes (RFC 1035, section 3.1).
const MAX_HOST: usize = 255;

/// Records with their TTL in seconds.
pub type Timed = (Records, u32);

/// Extracts the records of an answer to `question`, up to a useful number.
///
/// # Errors
/// There are no records, or the message is malformed.
pub fn records(question: &Question, message: &[u8]) -> Result<Timed, Error> {
    match question {
        Question::Service(_) => services(message),
        Question::Host(_, Family::V4) => {
            let results = AResults::parse_from(message)?;
            addresses(results.iter().map(|a| (a.ipv4().into(), a.ttl())))
        }
        Question::Host(_, Family::V6) => {
            let results = AAAAResults::parse_from(message)?;
            addresses(results.iter().map(|a| (a.ipv6().into(), a.ttl())))
        }
    }
}

fn addresses(results: impl Iterator<Item = (IpAddr, i32)>) -> Result<Timed, Error> {
    let mut addresses = Vec::new();
    let mut least = u32::MAX;
    for (address, ttl) in results {
        if !addresses.contains(&address) && addresses.len() < MAX_RECORDS {
            addresses.push(address);
            least = least.min(u32::try_from(ttl).unwrap_or(0));
        }
    }
    match addresses.is_empty() {
        true => Err(Error::NotFound),
        false => Ok((Records::Addresses(addresses), least)),
    }
}

fn services(message: &[u8]) -> Result<Timed, Error> {
    let results = SRVResults::parse_from(message)?;
    let fits = results.iter().filter(|srv| srv.host().len() <= MAX_HOST);
    let mut order: Vec<_> = fits.collect();
    order.sort_by_key(|srv| srv.priority());
    order.truncate(MAX_RECORDS);
    let services: Vec<_> = order
        .iter()
        .map(|srv| Service {
            priority: srv.priority(),
            weight: srv.weight(),
            port: srv.port(),
            host: srv.host().to_ascii_lowercase(),
        })
        .collect();
    match services.is_empty() {
        // Records exist, even if none of them is usable.
        true if results.iter().next().is_some() => Err(Error::Failed(c_ares::Error::EBADRESP)),
        true => Err(Error::NotFound),
        false => Ok((Records::Services(services), least_ttl(message).unwrap_or(0))),
    }
}

/// The smallest TTL in the answer section of a DNS message, which c-ares does not return
/// for SRV records; `None` if there is none.
fn least_ttl(message: &[u8]) -> Option<u32> {
    let word = |at: usize| {
        let bytes = message.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let name_end = |mut at: usize| loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            label => at += 1 + usize::from(label),
        }
    };
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name_end(at)? + 4;
    }
    let mut least = None;
    for _ in 0..answers {
        at = name_end(at)?;
        let ttl = u32::from(word(at + 4)?) << 16 | u32::from(word(at + 6)?);
        least = Some(least.map_or(ttl, |least: u32| least.min(ttl)));
        at += 10 + usize::from(word(at + 8)?);
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to a question for the name `a`, with these records of one type.
    fn message(kind: u16, records: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let count = (records.len() as u16).to_be_bytes();
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, count[0], count[1], 0, 0, 0, 0];
        message.extend(b"\x01a\x00");
        message.extend(kind.to_be_bytes());
        message.extend(b"\x00\x01");
        for (ttl, data) in records {
            message.extend(b"\xc0\x0c");
            message.extend(kind.to_be_bytes());
            message.extend(b"\x00\x01");
            message.extend(ttl.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(data);
        }
        message
    }

    fn srv(priority: u16, host: &[u8]) -> (u32, Vec<u8>) {
        let mut data = priority.to_be_bytes().to_vec();
        data.extend([0, 1, 0, 7]);
        data.extend(host);
        (300, data)
    }

    fn service() -> Question {
        Question::Service("a".to_owned())
    }

    #[test]
    fn the_least_ttl_of_an_answer() {
        let records = [300, 70].map(|ttl| (ttl, b"abc".to_vec()));
        let message = message(33, &records);
        assert_eq!(least_ttl(&message), Some(70));
        for cut in 0..message.len() - 4 {
            assert_eq!(least_ttl(&message[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_services_with_the_best_priorities_are_kept() {
        // The name of each record points to the name in the question.
        let all: Vec<_> = (0..1000).rev().map(|at| srv(at, b"\xc0\x0c")).collect();
        let (records, _) = records(&service(), &message(33, &all)).unwrap();
        let Records::Services(services) = records else {
            panic!("{records:?}");
        };
        let priorities: Vec<u16> = services.iter().map(|service| service.priority).collect();
        assert_eq!(priorities, Vec::from_iter(0..16));
    }

    #[test]
    fn the_number_of_addresses_is_limited() {
        let a: Vec<_> = (0..200).map(|at| (300, vec![192, 0, 2, at])).collect();
        let aaaa: Vec<_> = (0..200).map(|at| (300, vec![at; 16])).collect();
        for (family, kind, all) in [(Family::V4, 1, a), (Family::V6, 28, aaaa)] {
            let question = Question::Host("a".to_owned(), family);
            let (records, _) = records(&question, &message(kind, &all)).unwrap();
            let Records::Addresses(addresses) = records else {
                panic!("{records:?}");
            };
            assert_eq!(addresses.len(), 16);
        }
    }

    #[test]
    fn a_host_that_is_not_a_name_is_a_bad_answer_not_a_missing_record() {
        // c-ares writes these bytes as `\000`, with four characters each.
        let long = [&[63][..], &[0; 63], &[63], &[0; 63], &[0]].concat();
        let only = message(33, &[srv(1, &long)]);
        let refused = Error::Failed(c_ares::Error::EBADRESP);
        assert_eq!(records(&service(), &only), Err(refused));
        let both = message(33, &[srv(1, &long), srv(2, b"\x01B\x00")]);
        let (found, ttl) = records(&service(), &both).unwrap();
        let Records::Services(services) = found else {
            panic!("{found:?}");
        };
        assert_eq!((services.len(), ttl), (1, 300));
        assert_eq!(services[0].host, "b");
    }
}
