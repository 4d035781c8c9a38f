//! The order of targets, and when each is returned.

use super::*;
use crate::net::dns::question::Family;
use crate::net::source::Source;

fn service(priority: u16, weight: u16, host: &str) -> Service {
    Service {
        priority,
        weight,
        port: 1,
        host: host.to_owned(),
    }
}

fn hosts(records: Vec<Service>, random: fn(u32) -> u32) -> String {
    let rank = |service: &Service| (service.priority, service.weight);
    let ordered = by_weight(records, rank, random).into_iter();
    ordered.map(|service| service.host).collect()
}

#[test]
fn priorities_come_in_order_and_weights_at_random() {
    let records = || {
        vec![
            service(20, 0, "e"),
            service(10, 60, "a"),
            service(10, 20, "b"),
            service(10, 0, "c"),
            service(5, 0, "d"),
        ]
    };
    assert_eq!(hosts(records(), |_| 0), "dcabe");
    assert_eq!(hosts(records(), |sum| sum), "dbace");
    assert_eq!(hosts(records(), |sum| sum.min(1)), "dabce");
}

#[test]
fn families_take_turns() {
    let all = ["1.1.1.1", "2.2.2.2", "::1", "3.3.3.3"].map(|ip| ip.parse().unwrap());
    let order: Vec<_> = interleaved(&all).map(|ip| ip.to_string()).collect();
    assert_eq!(order, ["::1", "1.1.1.1", "2.2.2.2", "3.3.3.3"]);
}

fn look_up(clear: ServiceAnswer) -> LookUp {
    let mut look_up = LookUp::new(Waiter {
        id: 1,
        asker: Source::Unix,
        domain: "d".into(),
    });
    look_up.services[0].1 = clear;
    look_up
}

#[test]
fn the_answers_of_both_services_are_combined() {
    let servfail = DnsError::Failed(c_ares::Error::ESERVFAIL);
    let known = |clear, direct| {
        let mut look_up = look_up(Some(clear));
        look_up.services[1].1 = Some(direct);
        let known = look_up.services_known(Patience::All).unwrap();
        known.map(|mixed| mixed.len())
    };
    let none = || Err(DnsError::NotFound);
    let some = || Ok(vec![service(1, 1, "h")]);
    let dot = || Ok(vec![service(1, 1, ".")]);
    assert_eq!(known(some(), some()), Ok(2));
    assert_eq!(known(some(), none()), Ok(1));
    assert_eq!(known(some(), Err(servfail)), Ok(1));
    assert_eq!(known(none(), none()), Ok(0));
    assert_eq!(known(none(), dot()), Err(Error::NotOffered));
    assert_eq!(known(dot(), none()), Err(Error::NotOffered));
    assert_eq!(known(dot(), some()), Ok(1));
    assert_eq!(known(none(), Err(servfail)), Err(Error::Failed(servfail)));
    assert_eq!(known(Ok(Vec::new()), none()), Err(Error::NotFound));
    let mut local = look_up(Some(Err(servfail)));
    local.in_hosts_file = true;
    assert!(local.services_known(Patience::All).is_none());
    assert_eq!(
        local
            .services_known(Patience::UntilUsable)
            .map(|known| known.map(|m| m.len())),
        Some(Ok(0))
    );
    let half = look_up(Some(some()));
    assert!(half.services_known(Patience::All).is_none());
    assert_eq!(
        half.services_known(Patience::UntilUsable)
            .map(|known| known.is_ok()),
        Some(true)
    );
    assert!(
        look_up(Some(none()))
            .services_known(Patience::UntilUsable)
            .is_none()
    );
}

#[test]
fn silence_counts_as_no_record() {
    let servfail = DnsError::Failed(c_ares::Error::ESERVFAIL);
    let none = || Err(DnsError::NotFound);
    let some = || Ok(vec![service(1, 1, "h")]);
    let dot = || Ok(vec![service(1, 1, ".")]);
    let over = |clear| {
        let known = look_up(clear).services_known(Patience::Over).unwrap();
        known.map(|mixed| mixed.len())
    };
    assert_eq!(over(None), Ok(0));
    assert_eq!(over(Some(none())), Ok(0));
    assert_eq!(over(Some(some())), Ok(1));
    assert_eq!(over(Some(dot())), Err(Error::NotOffered));
    assert_eq!(over(Some(Err(servfail))), Err(Error::Failed(servfail)));
    // The same if c-ares reports a time-out.
    let silence = DnsError::Failed(c_ares::Error::ETIMEOUT);
    let mut silent = look_up(Some(Err(silence)));
    silent.services[1].1 = Some(Err(silence));
    silent.fallback = Some(ServerHost::fallback("d"));
    let known = |look_up: &LookUp| {
        look_up
            .services_known(Patience::All)
            .unwrap()
            .map(|m| m.len())
    };
    assert_eq!(known(&silent), Err(Error::Failed(silence)));
    let address = Records::Addresses(vec!["192.0.2.1".parse().unwrap()]);
    silent.take_answer(&Question::Host("d".to_owned(), Family::V4), &Ok(address));
    assert_eq!(known(&silent), Ok(0));
}

#[test]
fn targets_are_given_in_order_unless_one_is_slow() {
    let mut look_up = look_up(None);
    let host = |name: &str| ServerHost::new(name.to_owned(), 1, false);
    look_up.hosts = Some(vec![host("a"), host("b")]);
    let take = |look_up: &mut LookUp, host: &str, family, ip: Option<&str>| {
        let question = Question::Host(host.to_owned(), family);
        let found = ip.map(|ip| Records::Addresses(vec![ip.parse().unwrap()]));
        look_up.take_answer(&question, &found.ok_or(DnsError::NotFound));
    };
    take(&mut look_up, "b", Family::V4, Some("192.0.2.2"));
    take(&mut look_up, "b", Family::V6, Some("2001:db8::2"));
    assert_eq!(look_up.give(false), (vec![], false));
    let (targets, complete) = look_up.give(true);
    let addresses: Vec<_> = targets.iter().map(|t| t.address.to_string()).collect();
    assert_eq!(addresses, ["[2001:db8::2]:1", "192.0.2.2:1"]);
    assert!(!complete);
    // A missing family is not waited for either, but its addresses are used later.
    take(&mut look_up, "a", Family::V4, Some("192.0.2.1"));
    assert_eq!(look_up.give(false), (vec![], false));
    let (targets, complete) = look_up.give(true);
    assert_eq!(targets[0].address.to_string(), "192.0.2.1:1");
    assert_eq!((targets.len(), complete), (1, false));
    take(&mut look_up, "a", Family::V6, None);
    assert_eq!(look_up.give(false), (vec![], true));
}
