//! What a server's stream features offer, and what a web page gets of it.

use super::report::{Member, json_list, list};
use crate::proto::xmpp::features::{self, Item};
use crate::proto::xmpp::ns;

const SASL2: &str = "urn:xmpp:sasl:2";
const FAST: &str = "urn:xmpp:fast:0";
/// XEP-0078.
const OLD_LOGIN: &str = "http://jabber.org/features/iq-auth";
/// All versions of XEP-0198.
const RESUMPTION: &str = "urn:xmpp:sm:";
/// XEP-0478.
const LIMITS: &str = "urn:xmpp:stream-limits:0";

/// The features of a server, summed up.
pub(super) struct Offers {
    /// The ways to log in that are left for web pages.
    pub(super) mechanisms: Vec<String>,
    sasl2: Vec<String>,
    fast: Vec<String>,
    resumption: bool,
    limits: Vec<String>,
    pub(super) removed: Vec<String>,
}

impl Offers {
    /// Compares the features as received and as relayed.
    pub(super) fn new(received: &[u8], relayed: &[u8]) -> Offers {
        // Relayed features are well-formed.
        let [received, relayed] =
            [received, relayed].map(|bytes| features::items(bytes).unwrap_or_default());
        let mechanisms = |namespace: &str| {
            let items = relayed.iter().filter(|item| item.namespace == namespace);
            let items = items.filter(|item| item.name == "mechanism");
            items.map(|item| item.text.clone()).collect::<Vec<_>>()
        };
        let [mut all, sasl2, fast] = [ns::SASL, SASL2, FAST].map(mechanisms);
        let more = sasl2.iter().filter(|name| !all.contains(name)).cloned();
        let more: Vec<_> = more.collect();
        all.extend(more);
        if relayed.iter().any(|item| item.namespace == OLD_LOGIN) {
            all.push("XEP-0078".to_owned());
        }
        let limits = relayed.iter().filter(|item| item.namespace == LIMITS);
        let limits = limits.filter(|item| item.depth == 2);
        let limits = limits.map(|item| format!("{} {}", item.name, item.text));
        let is_removed =
            |item: &&Item| (item.depth == 1 || item.name == "mechanism") && !relayed.contains(item);
        let removed = received.iter().filter(is_removed).map(|item| {
            let is_mechanism = item.name == "mechanism";
            if is_mechanism { &item.text } else { &item.name }.clone()
        });
        let mut removed: Vec<_> = removed.collect();
        removed.dedup();
        Offers {
            mechanisms: all,
            sasl2,
            fast,
            resumption: relayed
                .iter()
                .any(|item| item.namespace.starts_with(RESUMPTION)),
            limits: limits.collect(),
            removed,
        }
    }

    pub(super) fn text(&self) -> String {
        let resumption = match self.resumption {
            true => "yes",
            false => "not shown before the login",
        };
        format!(
            "mechanisms: {}; SASL2: {}; FAST: {}; XEP-0198: {resumption}; limits: {}",
            list(&self.mechanisms),
            list(&self.sasl2),
            list(&self.fast),
            list(&self.limits),
        )
    }

    pub(super) fn members(&self) -> [Member; 5] {
        [
            ("mechanisms", json_list(&self.mechanisms)),
            ("sasl2", json_list(&self.sasl2)),
            ("fast", json_list(&self.fast)),
            ("stream_management", self.resumption.to_string()),
            ("limits", json_list(&self.limits)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_and_what_is_removed() {
        let list = |mechanisms: &str, more: &str| {
            format!(
                "<f><mechanisms xmlns='{}'>{mechanisms}</mechanisms>{more}<authentication \
                 xmlns='{SASL2}'><mechanism>X</mechanism><inline><sm xmlns='urn:xmpp:sm:3'/>\
                 </inline></authentication><limits xmlns='{LIMITS}'><max-bytes>5</max-bytes>\
                 </limits></f>",
                ns::SASL
            )
        };
        let kept = "<mechanism>PLAIN</mechanism>";
        let bound = format!("{kept}<mechanism>S-PLUS</mechanism>");
        let tls = format!("<starttls xmlns='{}'><required/></starttls>", ns::TLS);
        let (received, relayed) = (list(&bound, &tls), list(kept, ""));
        let offers = Offers::new(received.as_bytes(), relayed.as_bytes());
        assert_eq!(offers.removed, ["S-PLUS", "starttls"]);
        assert_eq!(
            offers.text(),
            "mechanisms: PLAIN, X; SASL2: X; FAST: none; XEP-0198: yes; limits: max-bytes 5"
        );
    }
}
