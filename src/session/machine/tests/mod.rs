//! Explores every reachable state of the machine with every event, and checks the rules.
//!
//! An observer (`Seen`) follows each path. It only knows the events and the actions.

mod table;

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{Actions, Cause, EndTag, Event, MAX_REDIRECTS, Machine, Phase, ServerAction};
use crate::proto::ws;
use crate::proto::xmpp::Dialect;
use crate::proto::xmpp::error::StreamError;

/// Returns every event, with every value that a decision may depend on.
fn events() -> Vec<Event> {
    let mut events = vec![
        Event::Encrypted,
        Event::TlsFailed,
        Event::Accepted,
        Event::Refused,
        Event::Served,
        Event::Unanswered,
        Event::Dialect(Dialect::Framed),
        Event::Dialect(Dialect::Draft),
        Event::Opened,
        Event::Elsewhere,
        Event::Unit,
        Event::Restart { same_domain: true },
        Event::Restart { same_domain: false },
        Event::EndTag { alone: true },
        Event::EndTag { alone: false },
        Event::Ended,
        Event::CloseFrame,
        Event::ClientGone,
        Event::Violation(StreamError::NotWellFormed),
        Event::FrameViolation(ws::Error::Unmasked),
        Event::FrameViolation(ws::Error::FrameTooBig(1)),
        Event::FrameViolation(ws::Error::MessageTooBig(1)),
        Event::ClientStalled,
        Event::Located,
        Event::Connected,
        Event::Secured,
        Event::Insecure,
        Event::Unreachable(StreamError::HostUnknown),
        Event::SeeOther { usable: true },
        Event::SeeOther { usable: false },
        Event::Greeted,
        Event::ServerUnit,
        Event::Authenticated,
        Event::ServerErred,
        Event::ServerEnded,
        Event::ServerGone,
        Event::ServerStalled,
        Event::ServerViolation(StreamError::RestrictedXml),
        Event::Dismissed,
    ];
    for value in [false, true] {
        events.push(Event::Deadline { silent: value });
        events.push(Event::Drain { elsewhere: value });
        events.push(Event::Shed { unread: value });
    }
    events
}

/// A new event does not compile until it is added here; add it to the list above too.
#[expect(dead_code, reason = "only compiled")]
fn all_are_listed(event: Event) {
    match event {
        Event::Encrypted | Event::TlsFailed | Event::Accepted | Event::Refused => {}
        Event::Served | Event::Unanswered | Event::Dialect(_) | Event::Opened => {}
        Event::Elsewhere | Event::Unit | Event::Restart { .. } | Event::EndTag { .. } => {}
        Event::Ended | Event::CloseFrame | Event::ClientGone | Event::Violation(_) => {}
        Event::FrameViolation(_) | Event::ClientStalled | Event::Located => {}
        Event::Connected | Event::Secured | Event::Insecure | Event::Unreachable(_) => {}
        Event::SeeOther { .. } | Event::Greeted | Event::ServerUnit => {}
        Event::Authenticated | Event::ServerErred | Event::ServerEnded => {}
        Event::ServerGone | Event::ServerStalled | Event::ServerViolation(_) => {}
        Event::Deadline { .. } | Event::Drain { .. } | Event::Shed { .. } => {}
        Event::Dismissed => {}
    }
}

/// What an observer knows about a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Seen {
    /// The client has named a domain that is served.
    named: bool,
    /// The client has got an `<open/>` or stream header.
    opened: bool,
    /// The client has got a Close frame, or the answer to its own.
    closed: bool,
    /// There is a connection to a server.
    connected: bool,
    /// Our stream header was sent on it.
    greeted: bool,
    /// The end tag was sent on it, or it closes once the queue is flushed.
    finished: bool,
    /// The client's messages are queued for a server, or were sent to one.
    units_up: bool,
    /// The server has sent more than its header, or nothing for a long time.
    units_down: bool,
    /// SASL has succeeded, and no stream header has followed.
    authenticated: bool,
    redirects: u8,
}

/// Fails and prints the step if a rule is broken.
macro_rules! rule {
    ($holds:expr, $step:expr, $rule:literal) => {
        assert!($holds, "{}: {:#?}", $rule, $step)
    };
}

/// One event in one state.
#[derive(Debug)]
struct Step {
    before: Machine,
    event: Event,
    actions: Actions,
    after: Machine,
}

impl Seen {
    /// Checks every rule for a step, and returns what the observer knows after it.
    fn after(self, step: &Step) -> Seen {
        let mut seen = self;
        seen.take_event(step);
        seen.take_words_to_server(step);
        seen.take_words_to_client(step);
        let Step { after, actions, .. } = step;
        rule!(
            after.is_connected() == seen.connected,
            (step, seen),
            "the machine knows whether there is a connection to the server"
        );
        rule!(
            after.phase() >= step.before.phase()
                || step.before.phase().is_open() && after.phase().is_setting_up(),
            step,
            "a session goes back only to seek a server"
        );
        let ends = step.before.phase().is_open() && !after.phase().is_open();
        rule!(
            !ends || actions.cause.is_some(),
            step,
            "a session ends for a cause"
        );
        seen
    }

    fn take_event(&mut self, step: &Step) {
        let relaying = step.before.phase() == Phase::Relaying;
        match step.event {
            Event::Opened | Event::Elsewhere => {
                self.named |= step.after.phase() == Phase::Locating;
            }
            Event::Connected if step.before.phase() == Phase::Connecting => {
                rule!(!self.connected, step, "one connection at a time");
                *self = Seen {
                    connected: true,
                    greeted: false,
                    finished: false,
                    ..*self
                };
            }
            Event::ServerUnit | Event::ServerErred | Event::Deadline { .. } if relaying => {
                self.units_down = true;
            }
            Event::Authenticated if relaying => {
                self.units_down = true;
                self.authenticated = true;
            }
            Event::Greeted if step.before.phase() == Phase::Greeting => self.opened = true,
            _ => {}
        }
        if relaying || step.after.phase() == Phase::Relaying {
            rule!(
                self.opened,
                step,
                "nothing is relayed to a client without a stream"
            );
        }
    }

    fn take_relayed(&mut self, step: &Step) {
        rule!(self.named, step, "no message for a server before a domain");
        rule!(
            !self.finished,
            step,
            "no message behind the end of a stream"
        );
        rule!(
            !self.connected || self.greeted || step.before.phase() == Phase::Securing,
            step,
            "no message before our stream header"
        );
        match step.event {
            Event::Restart { .. } => {
                rule!(self.authenticated, step, "a restart follows SASL");
                self.authenticated = false;
            }
            Event::EndTag { alone: true } => {}
            _ => rule!(
                !self.authenticated,
                step,
                "between SASL success and restart only an end"
            ),
        }
        self.units_up = true;
    }

    fn take_words_to_server(&mut self, step: &Step) {
        let actions = &step.actions;
        if actions.relay {
            self.take_relayed(step);
        }
        let lost = matches!(
            step.event,
            Event::CloseFrame
                | Event::ClientGone
                | Event::ClientStalled
                | Event::Deadline { .. }
                | Event::Drain { .. }
                | Event::Dismissed
        );
        match actions.server {
            ServerAction::Keep => {}
            ServerAction::LookUp => rule!(self.named, step, "no look-up before a domain"),
            ServerAction::Greet => {
                rule!(self.connected && !self.greeted, step, "one stream header");
                self.greeted = true;
            }
            ServerAction::Disconnect => self.disconnect(),
            ServerAction::Follow => {
                let exchanged = self.greeted && (self.units_up || self.units_down);
                rule!(!exchanged, step, "no redirect behind more than headers");
                self.redirects += 1;
                rule!(self.redirects <= MAX_REDIRECTS, step, "few redirects");
                self.disconnect();
            }
            ServerAction::End(_) | ServerAction::Fail(_) => {
                rule!(self.greeted && !self.finished, step, "one end of a stream");
                rule!(!lost, step, "who may resume is cut");
                // An end tag in the relayed message must not be sent again.
                let has_tag = actions.relay && matches!(step.event, Event::EndTag { .. });
                rule!(
                    has_tag == (actions.server == ServerAction::End(EndTag::Clients)),
                    step,
                    "an end sends the end tag, once"
                );
                let fails = matches!(actions.server, ServerAction::Fail(_));
                let broke = matches!(step.event, Event::ServerViolation(_));
                rule!(fails == broke, step, "an error for a broken rule");
                self.finished = true;
            }
            ServerAction::Cut => {
                rule!(
                    lost,
                    step,
                    "who did not end its stream is cut, and may resume"
                );
                rule!(self.greeted && !self.finished, step, "one end of a stream");
                let tag = matches!(step.event, Event::EndTag { .. });
                rule!(!tag, step, "a cut sends no end tag");
                self.finished = true;
            }
            ServerAction::Abort => self.disconnect(),
        }
    }

    fn disconnect(&mut self) {
        (self.connected, self.greeted, self.finished) = (false, false, false);
    }

    fn take_words_to_client(&mut self, step: &Step) {
        let actions = &step.actions;
        let says = actions.open
            || actions.error.is_some()
            || actions.end_stream
            || actions.elsewhere
            || actions.close.is_some()
            || actions.echo_close
            || actions.ping
            || actions.refuse.is_some();
        rule!(!(self.closed && says), step, "nothing behind a Close frame");
        if actions.open {
            rule!(!self.opened, step, "one <open/>");
            self.opened = true;
        }
        if actions.error.is_some() {
            rule!(self.opened, step, "an <open/> before an error");
            rule!(actions.end_stream, step, "an error ends the stream");
        }
        if actions.end_stream {
            // A client that closes its stream before a server has answered gets its answer
            // without an `<open/>`.
            let asked = matches!(step.event, Event::Ended | Event::EndTag { .. });
            rule!(self.opened || asked, step, "an <open/> before a <close/>");
        }
        if actions.elsewhere {
            rule!(
                !self.opened && !actions.end_stream && actions.close.is_some(),
                step,
                "only who has no stream is told to go elsewhere"
            );
        }
        if actions.end_stream || actions.close.is_some() {
            rule!(
                actions.close.is_some(),
                step,
                "the end of a stream is followed by a Close frame"
            );
            self.closed = true;
        }
        self.closed |= actions.echo_close || actions.refuse.is_some();
    }
}

/// Returns all reachable states with what the observer knows in them, and all steps.
fn explore() -> (HashMap<Machine, Vec<Seen>>, Vec<Step>) {
    let (mut states, mut steps) = (HashMap::<Machine, Vec<Seen>>::new(), Vec::new());
    let mut queue = VecDeque::new();
    for tls in [true, false] {
        let start = Machine::new(tls);
        states.insert(start, vec![Seen::default()]);
        queue.push_back((start, Seen::default()));
    }
    let events = events();
    while let Some((before, seen)) = queue.pop_front() {
        for &event in &events {
            let mut after = before;
            let actions = after.step(event);
            let step = Step {
                before,
                event,
                actions,
                after,
            };
            let next = seen.after(&step);
            let known = states.entry(after).or_default();
            if !known.contains(&next) {
                known.push(next);
                queue.push_back((after, next));
            }
            steps.push(step);
        }
    }
    (states, steps)
}

#[test]
fn the_rules_hold_in_every_state() {
    let (states, steps) = explore();
    let (mut reached, mut moves) = (BTreeSet::new(), 0);
    for step in &steps {
        reached.insert(step.after.phase());
        moves += usize::from(step.before != step.after || step.actions != Actions::default());
    }
    println!(
        "{} states ({} with what was seen), {} edges, {moves} of which do something",
        states.len(),
        states.values().map(Vec::len).sum::<usize>(),
        steps.len(),
    );
    assert_eq!(reached.len(), Phase::COUNT, "phases that are reached");
    for machine in states.keys() {
        ends_by_deadlines(*machine);
    }
}

/// Checks that deadlines alone end the session and its connection to the server, whatever it
/// waits for.
fn ends_by_deadlines(mut machine: Machine) {
    let begun = machine;
    for _ in 0..8 {
        if machine.is_over() {
            assert!(!machine.is_connected());
            return;
        }
        machine.step(Event::Deadline { silent: true });
    }
    panic!("for ever in {machine:?}, begun in {begun:?}");
}

#[test]
fn every_word_for_a_cause_is_in_the_list_of_words() {
    let (_, steps) = explore();
    let words = Cause::WORDS;
    let mut met = BTreeSet::new();
    for cause in steps.iter().filter_map(|step| step.actions.cause) {
        assert!(words.contains(&cause.words()), "{cause:?}");
        met.insert(cause.words());
        assert!(!cause.to_string().is_empty());
    }
    met.insert(Cause::Unreachable(StreamError::RemoteConnectionFailed("")).words());
    assert_eq!(met, BTreeSet::from(words), "words that nothing comes to");
}
