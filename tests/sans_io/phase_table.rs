//! The phase table, cell by cell.

use jabsocket::proto::ws::CloseCode;
use jabsocket::proto::xmpp::error::StreamError;
use jabsocket::session::phase::{Actions, Event, Phase, Refuse, Server};

const ALL: [Phase; 11] = [
    Phase::Accepting,
    Phase::Opening,
    Phase::AwaitOpen,
    Phase::Locating,
    Phase::Connecting,
    Phase::Securing,
    Phase::Greeting,
    Phase::Relaying,
    Phase::Closing,
    Phase::Lingering,
    Phase::Gone,
];

const SETTING_UP: [Phase; 5] = [
    Phase::AwaitOpen,
    Phase::Locating,
    Phase::Connecting,
    Phase::Securing,
    Phase::Greeting,
];

const VIOLATION: Event = Event::Violation(StreamError::NotWellFormed, CloseCode::NORMAL);
const FAILED: Event = Event::FrameViolation(CloseCode::PROTOCOL_ERROR);

const NOTHING: Actions = Actions {
    relay: false,
    refuse: None,
    error: None,
    end_stream: false,
    close: None,
    echo_close: false,
    ping: false,
    server: Server::Keep,
};

/// Every event once.
fn events() -> Vec<Event> {
    vec![
        Event::Encrypted,
        Event::TlsFailed,
        Event::Accepted,
        Event::Refused,
        Event::Served,
        Event::Opened,
        Event::Elsewhere,
        Event::Unit,
        Event::Ended,
        Event::CloseFrame,
        Event::ClientGone,
        VIOLATION,
        FAILED,
        Event::ClientStalled,
        Event::ClientSilent,
        Event::Located,
        Event::Connected,
        Event::Secured,
        Event::Insecure,
        Event::Redirected,
        Event::Unreachable(StreamError::HostUnknown),
        Event::Greeted,
        Event::ServerUnit,
        Event::ServerEnded,
        Event::ServerGone,
        Event::ServerViolation,
        Event::Deadline,
        Event::Unanswered,
        Event::Drain,
        Event::Shed,
        Event::ShedUnread,
    ]
}

/// What the server's side meets when the session ends before and after it was
/// greeted.
fn fate(phase: Phase, greeted: Server) -> Server {
    match phase {
        Phase::Greeting | Phase::Relaying => greeted,
        _ => Server::Abort,
    }
}

fn told(error: Option<StreamError>, close: Option<(CloseCode, &'static str)>) -> Actions {
    Actions {
        error,
        end_stream: true,
        close,
        ..NOTHING
    }
}

#[test]
fn the_way_from_request_to_relaying() {
    let mut phase = Phase::Opening;
    for (event, next, server) in [
        (Event::Accepted, Phase::AwaitOpen, Server::Keep),
        (Event::Opened, Phase::Locating, Server::LookUp),
        (Event::Located, Phase::Connecting, Server::Dial),
        (Event::Connected, Phase::Securing, Server::Secure),
        (Event::Secured, Phase::Greeting, Server::Greet),
        (Event::Greeted, Phase::Relaying, Server::Keep),
    ] {
        let (after, actions) = phase.step(event);
        assert_eq!((after, actions.server), (next, server), "{event:?}");
        phase = after;
    }
}

#[test]
fn messages_are_queued_from_open_on_and_relayed_both_ways() {
    for phase in ALL {
        let (after, actions) = phase.step(Event::Unit);
        let relays = phase > Phase::AwaitOpen && phase <= Phase::Relaying;
        assert_eq!((after, actions.relay), (phase, relays), "{phase:?}");
        let (after, actions) = phase.step(Event::ServerUnit);
        assert_eq!((after, actions.relay), (phase, phase == Phase::Relaying));
    }
}

#[test]
fn the_opening_handshake() {
    let refused = |refuse| Actions {
        refuse: Some(refuse),
        ..NOTHING
    };
    for (event, after, actions) in [
        (Event::Refused, Phase::Lingering, NOTHING),
        (Event::Served, Phase::Lingering, NOTHING),
        (Event::Deadline, Phase::Lingering, refused(Refuse::Timeout)),
        (Event::Drain, Phase::Lingering, refused(Refuse::Unavailable)),
        (Event::ClientGone, Phase::Gone, NOTHING),
        (Event::Unanswered, Phase::Gone, NOTHING),
    ] {
        assert_eq!(Phase::Opening.step(event), (after, actions));
    }
}

/// Before TLS nothing can be said to a client, but that it is to speak TLS.
#[test]
fn the_tls_handshake() {
    for event in events() {
        let after = match event {
            Event::Encrypted => Phase::Opening,
            Event::Refused => Phase::Lingering,
            Event::TlsFailed
            | Event::Unanswered
            | Event::Deadline
            | Event::Drain
            | Event::ClientGone
            | Event::ClientStalled
            | Event::Shed => Phase::Gone,
            _ => Phase::Accepting,
        };
        assert_eq!(Phase::Accepting.step(event), (after, NOTHING), "{event:?}");
    }
}

#[test]
fn a_close_frame_is_echoed_and_cuts() {
    for phase in SETTING_UP.into_iter().chain([Phase::Relaying]) {
        let (after, actions) = phase.step(Event::CloseFrame);
        let expected = Actions {
            echo_close: true,
            server: fate(phase, Server::Cut),
            ..NOTHING
        };
        assert_eq!((after, actions), (Phase::Lingering, expected), "{phase:?}");
    }
    assert_eq!(
        Phase::Closing.step(Event::CloseFrame),
        (Phase::Lingering, NOTHING)
    );
}

#[test]
fn a_lost_client_cuts() {
    for event in [Event::ClientGone, Event::ClientStalled, Event::ShedUnread] {
        for phase in SETTING_UP.into_iter().chain([Phase::Relaying]) {
            let (after, actions) = phase.step(event);
            let expected = Actions {
                server: fate(phase, Server::Cut),
                ..NOTHING
            };
            assert_eq!((after, actions), (Phase::Gone, expected), "{phase:?}");
        }
        for phase in [Phase::Closing, Phase::Lingering] {
            assert_eq!(phase.step(event), (Phase::Gone, NOTHING));
        }
    }
    let (after, actions) = Phase::Relaying.step(Event::ClientSilent);
    let close = actions.close.map(|(code, _)| code);
    assert_eq!(
        (after, close, actions.end_stream, actions.server),
        (
            Phase::Closing,
            Some(CloseCode::GOING_AWAY),
            false,
            Server::Cut
        )
    );
}

#[test]
fn an_ended_stream_ends_both() {
    for phase in SETTING_UP.into_iter().chain([Phase::Relaying]) {
        let (after, actions) = phase.step(Event::Ended);
        let expected = Actions {
            server: fate(phase, Server::End),
            ..told(None, Some((CloseCode::NORMAL, "")))
        };
        assert_eq!((after, actions), (Phase::Closing, expected), "{phase:?}");
    }
    let expected = Actions {
        server: Server::End,
        ..told(None, Some((CloseCode::NORMAL, "")))
    };
    assert_eq!(
        Phase::Relaying.step(Event::ServerEnded),
        (Phase::Closing, expected)
    );
}

#[test]
fn a_violation_of_xmpp_is_told_and_ends() {
    for phase in SETTING_UP.into_iter().chain([Phase::Relaying]) {
        let (after, actions) = phase.step(VIOLATION);
        let expected = Actions {
            server: fate(phase, Server::End),
            ..told(
                Some(StreamError::NotWellFormed),
                Some((CloseCode::NORMAL, "")),
            )
        };
        assert_eq!((after, actions), (Phase::Closing, expected), "{phase:?}");
    }
}

#[test]
fn a_violation_of_the_frames_fails_the_connection_and_ends() {
    for phase in SETTING_UP.into_iter().chain([Phase::Relaying]) {
        let (after, actions) = phase.step(FAILED);
        let expected = Actions {
            close: Some((CloseCode::PROTOCOL_ERROR, "")),
            server: fate(phase, Server::End),
            ..NOTHING
        };
        assert_eq!((after, actions), (Phase::Lingering, expected), "{phase:?}");
    }
    assert_eq!(Phase::Closing.step(FAILED), (Phase::Lingering, NOTHING));
}

#[test]
fn no_way_to_the_server_is_told() {
    for phase in [
        Phase::Locating,
        Phase::Connecting,
        Phase::Securing,
        Phase::Greeting,
        Phase::Relaying,
    ] {
        let (after, actions) = phase.step(Event::Unreachable(StreamError::HostUnknown));
        let expected = Actions {
            server: Server::Abort,
            ..told(
                Some(StreamError::HostUnknown),
                Some((CloseCode::NORMAL, "")),
            )
        };
        assert_eq!((after, actions), (Phase::Closing, expected), "{phase:?}");
    }
    for event in [
        Event::ServerEnded,
        Event::ServerGone,
        Event::ServerViolation,
        Event::Deadline,
    ] {
        let (after, actions) = Phase::Greeting.step(event);
        let error = actions.error.map(|error| error.condition());
        assert_eq!(
            (after, error, actions.end_stream, actions.server),
            (
                Phase::Closing,
                Some("remote-connection-failed"),
                true,
                Server::Abort
            ),
            "{event:?}"
        );
    }
}

#[test]
fn an_insecure_connection_gives_way_to_the_next_address() {
    let dial = Actions {
        server: Server::Dial,
        ..NOTHING
    };
    assert_eq!(
        Phase::Securing.step(Event::Insecure),
        (Phase::Connecting, dial)
    );
}

#[test]
fn a_server_that_sends_elsewhere_is_followed() {
    let look_up = Actions {
        server: Server::LookUp,
        ..NOTHING
    };
    for phase in [Phase::Securing, Phase::Relaying] {
        let (after, actions) = phase.step(Event::Redirected);
        assert_eq!((after, actions), (Phase::Locating, look_up));
    }
}

#[test]
fn a_lost_server_closes_without_ending_the_stream() {
    let (after, actions) = Phase::Relaying.step(Event::ServerGone);
    let expected = Actions {
        close: Some((CloseCode::GOING_AWAY, "XMPP server closed")),
        server: Server::Abort,
        ..NOTHING
    };
    assert_eq!((after, actions), (Phase::Closing, expected));
}

#[test]
fn a_server_that_breaks_a_rule_is_ended() {
    let (after, actions) = Phase::Relaying.step(Event::ServerViolation);
    let error = actions.error.map(|error| error.condition());
    assert_eq!(
        (after, error, actions.end_stream, actions.server),
        (
            Phase::Closing,
            Some("remote-connection-failed"),
            true,
            Server::End
        )
    );
}

#[test]
fn deadlines() {
    let (after, actions) = Phase::AwaitOpen.step(Event::Deadline);
    assert_eq!(
        (after, actions.error),
        (Phase::Closing, Some(StreamError::ConnectionTimeout))
    );
    let (after, actions) = Phase::Relaying.step(Event::Deadline);
    let ping = Actions {
        ping: true,
        ..NOTHING
    };
    assert_eq!((after, actions), (Phase::Relaying, ping));
    for phase in [Phase::Closing, Phase::Lingering] {
        assert_eq!(phase.step(Event::Deadline), (Phase::Gone, NOTHING));
    }
    let abort = Actions {
        server: Server::Abort,
        ..NOTHING
    };
    assert_eq!(Phase::Gone.step(Event::Deadline), (Phase::Gone, abort));
}

#[test]
fn a_drain_goes_away_and_cuts() {
    for phase in SETTING_UP.into_iter().chain([Phase::Relaying]) {
        let (after, actions) = phase.step(Event::Drain);
        let code = actions.close.map(|(code, _)| code);
        assert_eq!((after, code), (Phase::Closing, Some(CloseCode::GOING_AWAY)));
        assert_eq!(
            (actions.end_stream, actions.error, actions.server),
            (false, None, fate(phase, Server::Cut)),
            "{phase:?}"
        );
    }
}

#[test]
fn nothing_is_said_behind_a_close_frame() {
    for phase in [Phase::Closing, Phase::Lingering, Phase::Gone] {
        for event in events() {
            let (after, actions) = phase.step(event);
            assert!(after >= phase, "{phase:?} {event:?} went back to {after:?}");
            let silent = Actions {
                server: actions.server,
                ..NOTHING
            };
            assert_eq!(actions, silent, "{phase:?} {event:?}");
        }
    }
}

#[test]
fn no_phase_but_relaying_and_the_set_up_lasts_through_its_deadline() {
    for phase in ALL {
        let (after, actions) = phase.step(Event::Deadline);
        let moves = after > phase || actions.ping || actions.server == Server::Abort;
        assert!(moves, "{phase:?} lasts for ever");
    }
}

/// Cells that the table leaves empty: an event that a phase has no use for.
#[test]
fn events_out_of_place_change_nothing() {
    for (phase, event) in [
        (Phase::Opening, Event::Encrypted),
        (Phase::Opening, Event::TlsFailed),
        (Phase::Opening, Event::Opened),
        (Phase::Opening, Event::Greeted),
        (Phase::AwaitOpen, Event::Located),
        (Phase::AwaitOpen, Event::Connected),
        (Phase::Locating, Event::Opened),
        (Phase::Locating, Event::Connected),
        (Phase::Connecting, Event::Located),
        (Phase::Connecting, Event::Greeted),
        (Phase::Connecting, Event::Secured),
        (Phase::Securing, Event::Greeted),
        (Phase::Securing, Event::Connected),
        (Phase::Greeting, Event::Insecure),
        (Phase::Greeting, Event::Connected),
        (Phase::Relaying, Event::Opened),
        (Phase::Relaying, Event::Located),
        (Phase::Relaying, Event::Accepted),
    ] {
        assert_eq!(phase.step(event), (phase, NOTHING), "{phase:?} {event:?}");
    }
}

#[test]
fn a_session_given_up_tells_its_client_to_come_later_and_leaves_its_server() {
    let close = (CloseCode::TRY_AGAIN_LATER, "");
    for phase in SETTING_UP.into_iter().chain([Phase::Relaying]) {
        let (after, actions) = phase.step(Event::Shed);
        let expected = Actions {
            error: Some(StreamError::ResourceConstraint),
            end_stream: true,
            close: Some(close),
            server: Server::Abort,
            ..NOTHING
        };
        assert_eq!((after, actions), (Phase::Lingering, expected), "{phase:?}");
    }
    for phase in [Phase::Opening, Phase::Closing, Phase::Lingering] {
        assert_eq!(phase.step(Event::Shed), (Phase::Gone, NOTHING), "{phase:?}");
    }
    assert_eq!(Phase::Gone.step(Event::Shed), (Phase::Gone, NOTHING));
}

#[test]
fn a_client_is_sent_elsewhere_before_its_stream_is_opened_or_never() {
    let (after, actions) = Phase::AwaitOpen.step(Event::Elsewhere);
    let expected = Actions {
        close: Some((CloseCode::NORMAL, "")),
        ..NOTHING
    };
    assert_eq!((after, actions), (Phase::Closing, expected));
    for phase in ALL.into_iter().filter(|phase| *phase != Phase::AwaitOpen) {
        assert_eq!(phase.step(Event::Elsewhere), (phase, NOTHING), "{phase:?}");
    }
}
