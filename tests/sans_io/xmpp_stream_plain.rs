//! What servers usually send first needs no parser, however it is split.

use super::xmpp_stream::{HEADER, Seen, read};
use crate::common::chop::chop;
use jabsocket::expat::parsers_made;
use jabsocket::proto::xmpp::server_stream::Error;

#[test]
fn a_usual_header_needs_no_parser() {
    let all_to_expat = u64::from(std::env::var_os("JABSOCKET_ALL_TO_EXPAT").is_some());
    let streams = "xmlns:stream='http://etherx.jabber.org/streams'";
    for (text, parsers) in [
        (HEADER.to_owned(), all_to_expat),
        (
            format!("<stream:stream {streams} xmlns='jabber:client'>"),
            all_to_expat,
        ),
        (HEADER.replace('\'', "\""), all_to_expat),
        (
            HEADER.replace("h'>", "h' xmlns:db='jabber:server:dialback'>"),
            1,
        ),
        (HEADER.replace("i>d", "i&gt;d"), 1),
        (
            HEADER
                .replace(":stream", ":s")
                .replace("stream:s ", "s:stream "),
            1,
        ),
    ] {
        for cut in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let before = parsers_made();
            let (units, error) = read(&[first, second]);
            assert_eq!(units, [Seen::Header(text.clone())], "{error:?}");
            assert_eq!(parsers_made() - before, parsers, "{text} at {cut}");
        }
    }
}

/// The features of the usual servers are made of plain elements.
#[test]
fn usual_features_need_no_parser() {
    let all_to_expat = u64::from(std::env::var_os("JABSOCKET_ALL_TO_EXPAT").is_some());
    for (body, parsers) in [
        (
            "<mechanisms xmlns='urn:m'><mechanism>PLAIN</mechanism></mechanisms><ver/>",
            all_to_expat,
        ),
        ("", all_to_expat),
        ("<a xmlns=''/>", 1),
        ("<stream:a/>", 1),
        (" <a/>", 1),
    ] {
        let features = format!("<stream:features>{body}</stream:features>");
        let text = format!("{HEADER}{features}<a/>");
        let complete = features.replace(
            "<stream:features",
            "<stream:features xmlns=\"jabber:client\" \
             xmlns:stream=\"http://etherx.jabber.org/streams\"",
        );
        for cut in HEADER.len()..text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let before = parsers_made();
            let (units, error) = read(&[first, second]);
            assert_eq!((units.len(), error), (3, None), "{body}");
            assert_eq!(units[1], Seen::Element(complete.clone()));
            // One for the header.
            let made = parsers_made() - before - all_to_expat;
            assert_eq!(made, parsers, "{body} at {cut}");
        }
    }
    for wrong in [
        "<stream:features><a></b></stream:features>",
        "<stream:features></stream:feature>",
        "<stream:features><a/></features>",
        "<stream:features><a xmlns:stream='urn:x'></stream:features></a>",
    ] {
        let text = format!("{HEADER}{wrong}<b/>");
        let (units, error) = chop(text.as_bytes(), read);
        assert!(matches!(error, Some(Error::Xml(_))), "{wrong}: {error:?}");
        assert_eq!(units.len(), 1);
    }
}
