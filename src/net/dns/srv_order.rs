//! The order in which servers are tried.

use std::net::IpAddr;

/// Alternates between the address families, IPv6 first (RFC 8305, section 4).
pub fn interleaved(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv6());
    let longest = v6.len().max(v4.len());
    (0..longest).flat_map(move |at| {
        [v6.get(at).copied(), v4.get(at).copied()]
            .into_iter()
            .flatten()
    })
}

/// Orders records as in RFC 2782: by priority, and within a priority at random, in proportion
/// to the weights. `rank` returns priority and weight.
pub fn by_weight<T>(
    mut records: Vec<T>,
    rank: impl Fn(&T) -> (u16, u16),
    random: fn(u32) -> u32,
) -> Vec<T> {
    // Weight 0 goes first, so it has a small chance of being drawn.
    records.sort_by_key(|record| {
        let (priority, weight) = rank(record);
        (priority, weight != 0)
    });
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let (priority, _) = rank(first);
        let group = records.iter().map(&rank);
        let group = group.take_while(|(other, _)| *other == priority);
        let sum: u32 = group.map(|(_, weight)| u32::from(weight)).sum();
        let chosen = random(sum);
        let mut running = 0;
        let drawn = records.iter().position(|record| {
            running += u32::from(rank(record).1);
            running >= chosen
        });
        ordered.push(records.remove(drawn.unwrap_or(0)));
    }
    ordered
}
