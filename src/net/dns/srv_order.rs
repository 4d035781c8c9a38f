//! The order in which targets are dialled.

use std::net::IpAddr;

use super::question::Service;

/// The addresses with the families taking turns, IPv6 first (RFC 8305, section
/// 4).
pub fn interleaved(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv6());
    let longest = v6.len().max(v4.len());
    (0..longest).flat_map(move |at| {
        [v6.get(at).copied(), v4.get(at).copied()]
            .into_iter()
            .flatten()
    })
}

/// Orders records as RFC 2782 says: by priority, and within one by lot, each
/// record's weight being its share.
pub fn by_lot<T>(mut records: Vec<(Service, T)>, random: fn(u32) -> u32) -> Vec<(Service, T)> {
    // Weight 0 first, so that it has a small chance to be drawn.
    records.sort_by_key(|(service, _)| (service.priority, service.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some((first, _)) = records.first() {
        let priority = first.priority;
        let same = |(service, _): &&(Service, T)| service.priority == priority;
        let group = records.iter().take_while(same);
        let sum: u32 = group.map(|(service, _)| u32::from(service.weight)).sum();
        let lot = random(sum);
        let mut running = 0;
        let drawn = records.iter().position(|(service, _)| {
            running += u32::from(service.weight);
            running >= lot
        });
        ordered.push(records.remove(drawn.unwrap_or(0)));
    }
    ordered
}
