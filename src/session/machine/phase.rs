//! The phases of a session.

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// On a TLS port: before the end of the TLS handshake.
    Accepting,
    /// Reads the request.
    Opening,
    /// Upgraded; waits for the first message.
    AwaitOpen,
    /// Looks the domain up.
    Locating,
    /// Dials the server; each turn goes on with that.
    Connecting,
    /// Connected; a turn makes the connection secure.
    Securing,
    /// Our stream header is sent; waits for the server's.
    Greeting,
    /// Passes messages on, both ways.
    Relaying { missed_pings: u8 },
    /// Our Close frame is sent; waits for the client's.
    Closing,
    /// Nothing more to say: flushes, ends our direction, drops what comes.
    Lingering,
    /// The client's connection is closed; the server's may still be flushed.
    Gone,
}

impl Phase {
    pub const COUNT: usize = 11;

    /// Its place in the order of phases.
    pub fn index(self) -> usize {
        match self {
            Phase::Accepting => 0,
            Phase::Opening => 1,
            Phase::AwaitOpen => 2,
            Phase::Locating => 3,
            Phase::Connecting => 4,
            Phase::Securing => 5,
            Phase::Greeting => 6,
            Phase::Relaying { .. } => 7,
            Phase::Closing => 8,
            Phase::Lingering => 9,
            Phase::Gone => 10,
        }
    }

    pub fn name(self) -> &'static str {
        [
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
        ][self.index()]
    }

    /// Whether the client may still send messages.
    pub fn is_open(self) -> bool {
        self < Phase::Closing
    }

    pub fn is_relaying(self) -> bool {
        matches!(self, Phase::Relaying { .. })
    }

    /// Whether the server is sought: from its domain to its stream header.
    pub fn is_setting_up(self) -> bool {
        (Phase::Locating..=Phase::Greeting).contains(&self)
    }

    /// Whether the server's stream is read.
    pub fn reads_stream(self) -> bool {
        self == Phase::Greeting || self.is_relaying()
    }
}
