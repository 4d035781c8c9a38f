//! The phases of a session.

/// The phase of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// On a TLS port: performs the TLS handshake.
    Accepting,
    /// Reads the request.
    Opening,
    /// Upgraded; waits for the first message.
    AwaitOpen,
    /// Looks up the domain.
    Locating,
    /// Dials the server; each turn continues the dial.
    Connecting,
    /// Connected; negotiates TLS with the server as far as required.
    Securing,
    /// Our stream header is sent; waits for the server's.
    Greeting,
    /// Relays messages in both directions.
    Relaying,
    /// Our Close frame is sent; waits for the client's.
    Closing,
    /// Nothing more to send: flushes, ends our direction, drops what arrives.
    Lingering,
    /// The client's connection is closed; the server's may still be flushed.
    Gone,
}

impl Phase {
    pub const COUNT: usize = 11;

    /// The values of the label `phase` in the metrics, in the order of phases.
    pub const LABELS: &[&str; Phase::COUNT] = &[
        "accepting",
        "opening",
        "await_open",
        "locating",
        "connecting",
        "securing",
        "greeting",
        "relaying",
        "closing",
        "lingering",
        "gone",
    ];

    /// The names for the log, in the order of phases.
    pub const NAMES: &[&str; Phase::COUNT] = &[
        "Accepting",
        "Opening",
        "AwaitOpen",
        "Locating",
        "Connecting",
        "Securing",
        "Greeting",
        "Relaying",
        "Closing",
        "Lingering",
        "Gone",
    ];

    pub fn name(self) -> &'static str {
        Phase::NAMES[self as usize]
    }

    /// Whether the client may still send messages.
    pub fn is_open(self) -> bool {
        self < Phase::Closing
    }

    /// Whether the session is being set up: after the client named a domain, before the
    /// server's stream header.
    pub fn is_setting_up(self) -> bool {
        (Phase::Locating..=Phase::Greeting).contains(&self)
    }

    /// Whether the server's stream is read.
    pub fn reads_stream(self) -> bool {
        matches!(self, Phase::Greeting | Phase::Relaying)
    }
}
