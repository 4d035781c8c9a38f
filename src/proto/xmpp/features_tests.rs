//! Tests of the stream features that a client sees.

use super::*;
use crate::expat::{Boundary, Limits, Pool};
use crate::proto::xmpp::cpu_seconds;
use crate::proto::xmpp::framing::Declarations;

const FEATURES: &str = "<f:features xmlns:f='http://etherx.jabber.org/streams'>\
    <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
    <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism> PLAIN </mechanism></mechanisms>\
    <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='x'/>\
    </sasl-channel-binding><authentication xmlns='urn:xmpp:sasl:2'>\
    <mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism>\
    <inline><bind/></inline></authentication>\
    <compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>\
    <bind xmlns='urn:x'><starttls/></bind></f:features>";

/// Returns the `features` that a client of the draft sees. They declare all their prefixes.
fn changed(features: &str, changes: Changes) -> String {
    let pool = Pool::new(b"<r>");
    let mut parser = pool.inside(b"<r>").unwrap();
    parser.feed(features.as_bytes()).unwrap();
    let Token::Start(tag) = &parser.tokens()[0] else {
        panic!("no tag")
    };
    let start = tag.start;
    let element = Element::seen(features.as_bytes(), (&parser, tag), Declarations::usual());
    let (mut draft, mut framed) = (Vec::new(), Vec::new());
    changes.write(&element, false, &mut draft).unwrap();
    changes.write(&element, true, &mut framed).unwrap();
    assert_eq!(start, 3);
    let (head, tail) = draft.split_at(element.name_end());
    let mut whole = head.to_vec();
    element.inherited(&mut whole);
    whole.extend_from_slice(tail);
    assert!(framed == whole, "the dialects differ");
    String::from_utf8(draft).unwrap()
}

fn strip() -> Changes {
    Changes {
        strip_channel_binding: true,
        ..Changes::default()
    }
}

fn left(strip_channel_binding: bool) -> String {
    let changes = Changes {
        strip_channel_binding,
        ..Changes::default()
    };
    changed(FEATURES, changes)
}

#[test]
fn starttls_and_compression_go() {
    let text = left(false);
    assert!(
        !text.contains("xmpp-tls") && !text.contains("compress"),
        "{text}"
    );
    assert!(text.contains("-PLUS") && text.contains("sasl-cb"), "{text}");
    assert!(text.contains("<bind xmlns='urn:x'><starttls/></bind></f:features>"));
}

#[test]
fn channel_binding_goes_whole_on_demand() {
    let text = left(true);
    assert!(
        !text.contains("PLUS") && !text.contains("sasl-cb"),
        "{text}"
    );
    assert!(text.contains("<mechanism> PLAIN </mechanism></mechanisms>"));
    assert!(text.contains("<mechanism>SCRAM-SHA-256</mechanism><inline>"));
}

#[test]
fn the_kinds_of_mechanisms_that_bind() {
    for name in [
        "SCRAM-SHA-1-PLUS",
        "GS2-KRB5-PLUS",
        "HT-SHA-256-ENDP",
        "HT-SHA3-512-UNIQ",
        "HT-SHA-256-EXPR",
    ] {
        assert!(is_bound(name.as_bytes()), "{name}");
    }
    for name in [
        "",
        "PLAIN",
        "SCRAM-SHA-1",
        "X-PLUS-A",
        "HT-SHA-256-NONE",
        "X-EXPR",
    ] {
        assert!(!is_bound(name.as_bytes()), "{name}");
    }
}

#[test]
fn a_list_without_a_mechanism_left_goes_whole() {
    let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
    let fast = |names: &[&str]| {
        let list: String = names
            .iter()
            .map(|name| format!("<mechanism>{name}</mechanism>"))
            .collect();
        format!("<fast xmlns='urn:xmpp:fast:0'>{list}</fast>")
    };
    let sasl2 = |name: &str, inline: &str| {
        format!(
            "<f><authentication xmlns='urn:xmpp:sasl:2'><mechanism>{name}</mechanism>\
             <inline>{inline}</inline></authentication><x xmlns='u'/></f>"
        )
    };
    for (before, after) in [
        (
            format!("<f><mechanisms xmlns='{sasl}'><mechanism>A-PLUS</mechanism></mechanisms></f>"),
            "<f></f>".to_owned(),
        ),
        (
            format!("<f><mechanisms xmlns='{sasl}'/></f>"),
            format!("<f><mechanisms xmlns='{sasl}'/></f>"),
        ),
        (
            sasl2("A-PLUS", &fast(&["HT-SHA-256-NONE"])),
            "<f><x xmlns='u'/></f>".to_owned(),
        ),
        (
            sasl2("A", &fast(&["HT-SHA-256-EXPR", "HT-SHA-256-UNIQ"])),
            sasl2("A", ""),
        ),
        (
            sasl2("A", &fast(&["HT-SHA-256-NONE", "HT-SHA-256-UNIQ"])),
            sasl2("A", &fast(&["HT-SHA-256-NONE"])),
        ),
    ] {
        assert_eq!(changed(&before, strip()), after);
    }
}

#[test]
fn an_offer_of_starttls_is_found() {
    assert_eq!(offers_starttls(FEATURES.as_bytes()), Ok(true));
    assert_eq!(offers_starttls(left(false).as_bytes()), Ok(false));
}

#[test]
fn the_lesser_limit_is_told() {
    let ours = |max_bytes, idle_seconds| Changes {
        max_bytes,
        idle_seconds,
        ..Changes::default()
    };
    let features = |bytes: &str, idle: &str| {
        format!(
            "<f xmlns='u'><a/><limits xmlns='{LIMITS}'><max-bytes>{bytes}</max-bytes>\
             <idle-seconds>{idle}</idle-seconds></limits><b/></f>"
        )
    };
    for (theirs, own, told) in [
        (("262144", "840"), (Some(1000), Some(30)), ("1000", "30")),
        (
            ("262144", "840"),
            (Some(1_048_576), None),
            ("262144", "840"),
        ),
        (
            ("262144", " 20 "),
            (Some(262_144), Some(30)),
            ("262144", " 20 "),
        ),
        (
            ("262144", "99999999999999999999"),
            (None, Some(30)),
            ("262144", "30"),
        ),
        (("many", ""), (Some(7), Some(30)), ("7", "30")),
    ] {
        let changed = changed(&features(theirs.0, theirs.1), ours(own.0, own.1));
        assert_eq!(changed, features(told.0, told.1));
    }
    let elsewhere = "<f><limits xmlns='u'><max-bytes>9</max-bytes></limits><g>\
        <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>9</max-bytes></limits></g></f>";
    assert_eq!(changed(elsewhere, ours(Some(1), Some(1))), elsewhere);
    assert_eq!(changed("<f/>", ours(Some(1), Some(1))), "<f/>");
}

#[test]
fn limits_that_the_server_does_not_tell_are_announced_on_demand() {
    let changes = |max_bytes| Changes {
        max_bytes,
        idle_seconds: Some(30),
        announce_limits: true,
        ..Changes::default()
    };
    let bytes = format!("<max-bytes xmlns='{LIMITS}'>9</max-bytes>");
    let idle = format!("<idle-seconds xmlns='{LIMITS}'>30</idle-seconds>");
    let limits = |inner: &str| format!("<limits xmlns='{LIMITS}'>{inner}</limits>");
    for (before, after) in [
        (
            "<f/>".to_owned(),
            format!("<f>{}</f>", limits(&(bytes.clone() + &idle))),
        ),
        (
            "<f><a/> </f>".to_owned(),
            format!("<f><a/> {}</f>", limits(&(bytes.clone() + &idle))),
        ),
        (
            format!("<f>{}<a/></f>", limits("<max-bytes>8</max-bytes>")),
            format!(
                "<f>{}<a/></f>",
                limits(&format!("<max-bytes>8</max-bytes>{idle}"))
            ),
        ),
        (
            format!("<f><l:limits xmlns:l='{LIMITS}'/></f>"),
            format!("<f><l:limits xmlns:l='{LIMITS}'>{bytes}{idle}</l:limits></f>"),
        ),
    ] {
        assert_eq!(changed(&before, changes(Some(9))), after);
    }
    assert_eq!(
        changed("<f></f>", changes(None)),
        format!("<f>{}</f>", limits(&idle))
    );
}

/// However many changes a server's features need, they are copied once, not once per change.
#[test]
fn many_changes_are_made_at_once() {
    let begun = cpu_seconds();
    let starttls = format!("<starttls xmlns='{}'/>", ns::TLS);
    let features = format!("<f>{}</f>", starttls.repeat((4 << 20) / starttls.len()));
    assert_eq!(changed(&features, strip()), "<f></f>");
    let took = cpu_seconds() - begun;
    assert!(took < 4, "{took} s");
}

/// Otherwise it would depend on the packets of the server whether they are refused.
#[test]
fn plain_features_are_within_the_lowest_max_depth() {
    let limits = Limits {
        depth: 16,
        ..Limits::DEFAULT
    };
    for levels in 1..20 {
        let (start, end) = ("<a>".repeat(levels), "</a>".repeat(levels));
        let features = format!("<stream:features>{start}<b/>{end}</stream:features>");
        let features = features.as_bytes();
        let end = Boundary::element(limits).feed(features).ok().flatten();
        if let Some(found) = plain(features) {
            assert_eq!(Some(found.len()), end, "{levels}");
        }
    }
}
