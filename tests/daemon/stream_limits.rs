//! Stream limits (XEP-0478): in both dialects the client receives the lower of the
//! server's and the daemon's limits, also after login.

use crate::common::prometheus::metrics;
use crate::common::stage::*;

const OURS: &str = "max_message_size: 100000\nmax_frame_size: 50000\nping_interval: 60\n";

fn limits(inner: &str) -> String {
    format!(
        "<stream:features><a xmlns='u'/><limits xmlns='urn:xmpp:stream-limits:0'>{inner}\
         </limits></stream:features>"
    )
}

/// What clients of both dialects receive for `features`.
fn told(config: &str, features: &str) -> [String; 2] {
    const DECLARED: &str = " xmlns=\"jabber:client\" \
        xmlns:stream=\"http://etherx.jabber.org/streams\"";
    let stage = Stage::set(config);
    let both = [stage.framed(), stage.draft()];
    let told = both.map(|(mut client, mut server)| {
        server.send(features);
        let first = client.read_text().unwrap().replace(DECLARED, "");
        server.send(SUCCESS);
        client.read_text().unwrap();
        first
    });
    stage.daemon.stop();
    told
}

#[test]
fn a_client_learns_the_lesser_limit() {
    let server = "<max-bytes>262144</max-bytes><idle-seconds>840</idle-seconds>";
    let ours = "<max-bytes>50000</max-bytes><idle-seconds>60</idle-seconds>";
    let small = "<max-bytes>10000</max-bytes><idle-seconds>59</idle-seconds>";
    for (theirs, expected) in [(server, ours), (small, small), ("", "")] {
        for text in told(OURS, &limits(theirs)) {
            assert_eq!(text, limits(expected));
        }
    }
    let none = "max_message_size: 0\nmax_frame_size: 0\nping_interval: 0\n";
    for text in told(none, &limits(server)) {
        assert_eq!(text, limits(server));
    }
}

#[test]
fn our_limits_are_announced_on_demand() {
    let features = "<stream:features><a xmlns='u'/></stream:features>";
    for text in told(OURS, features) {
        assert_eq!(text, features);
    }
    let announced = "<limits xmlns='urn:xmpp:stream-limits:0'>\
        <max-bytes xmlns='urn:xmpp:stream-limits:0'>50000</max-bytes>\
        <idle-seconds xmlns='urn:xmpp:stream-limits:0'>60</idle-seconds></limits>";
    let expected = features.replace("</stream", &format!("{announced}</stream"));
    for text in told(&format!("{OURS}announce_limits: true\n"), features) {
        assert_eq!(text, expected);
    }
}

#[test]
fn metrics_have_the_limits_that_a_client_was_last_told() {
    let stage = Stage::set(&format!("{OURS}status_listen: 127.0.0.1:0\n"));
    let (mut client, mut server) = stage.framed();
    let large = "<max-bytes>262144</max-bytes><idle-seconds>59</idle-seconds>";
    let odd = "<max-bytes>many</max-bytes><idle-seconds>soon</idle-seconds>";
    for (theirs, expected) in [
        (large, [50000.0, 59.0]),
        (odd, [50000.0, 60.0]),
        ("", [0.0; 2]),
    ] {
        server.send(&limits(theirs));
        client.read_text().unwrap();
        let metrics = metrics(&stage.daemon);
        let names = ["max_bytes", "idle_seconds"];
        let told =
            names.map(|name| metrics[&format!("domain_stream_{name}{{domain=\"example.org\"}}")]);
        assert_eq!(told, expected, "{theirs}");
    }
    stage.daemon.stop();
}
