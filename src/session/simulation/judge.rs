//! Checks that a simulated session relayed exactly what the peers sent.

use super::run::{Fate, Run};
use crate::proto::xmpp::Dialect;
use crate::session::{NEVER, Phase};

impl Run<'_> {
    /// Returns the bytes that the server got after the stream header.
    fn body(&self) -> &[u8] {
        let root = b"<stream:stream";
        let start = self.got.windows(root.len()).position(|at| at == root);
        let body = start.and_then(|start| {
            let end = self.got[start..].iter().position(|byte| *byte == b'>')?;
            Some(&self.got[start + end + 1..])
        });
        body.unwrap_or_default()
    }

    /// Checks that the relayed bytes are the start of what the peers sent.
    pub fn check_order(&self) {
        let body = self.body();
        let got = body.strip_suffix(b"</stream:stream>").unwrap_or(body);
        let cut = body.len() - got.len();
        // The end tag may also arrive in pieces.
        let same = got.iter().zip(&self.script.up).take_while(|(a, b)| a == b);
        let same = same.count();
        let left = &got[same..];
        assert!(
            left.is_empty() || cut == 0 && b"</stream:stream>".starts_with(left),
            "the server got something else at {same} of {}",
            self.script.up.len()
        );
        let units = &self.script.down;
        let texts = self.heard.texts.get(1..).unwrap_or_default();
        let same = texts.iter().zip(units).take_while(|(a, b)| a == b).count();
        for text in &texts[same..] {
            let own = text.starts_with(b"<close ")
                || text.starts_with(b"<stream:error")
                || text == b"</stream:stream>";
            let text = String::from_utf8_lossy(text);
            assert!(
                own,
                "the client got something else as its {same}th: {text:.100}"
            );
        }
        let pongs = &self.heard.pongs;
        assert!(self.script.pings.starts_with(pongs), "other pongs");
    }

    /// Once nothing changes any more, checks that a peer that has stayed has got everything.
    pub fn check_outcome(&self) {
        let fate = self.fate;
        if fate == Fate::Breaks {
            return;
        }
        // A client that has left gets nothing more.
        let opened = self.heard.upgraded && !self.heard.texts.is_empty();
        assert!(
            opened || fate == Fate::ClientLeaves,
            "{}",
            self.session.log.line(None, None)
        );
        let end = b"</stream:stream>";
        let body = self.body();
        if fate == Fate::Stays || fate.is_the_clients() {
            let ended = body.strip_suffix(end);
            assert_eq!(ended.is_some(), fate == Fate::ClientEnds, "the end tag");
            assert_eq!(
                ended.unwrap_or(body).len(),
                self.script.up.len(),
                "the server's share"
            );
        }
        if matches!(fate, Fate::Stays | Fate::ServerEnds | Fate::ServerLeaves) {
            let texts = &self.heard.texts[1..];
            let units = self.script.down.len();
            assert!(texts.len() >= units, "{} of {units} units", texts.len());
            let code = match fate {
                Fate::ServerEnds => Some(1000),
                Fate::ServerLeaves => Some(1001),
                _ => None,
            };
            assert_eq!(self.heard.close, code);
            let said = usize::from(fate == Fate::ServerEnds);
            assert_eq!(texts.len() - units, said, "the end of the stream");
        }
        if fate == Fate::Stays {
            assert_eq!(self.heard.pongs.len(), self.script.pings.len());
            self.check_idle();
        }
    }

    /// Checks that an idle session holds no memory.
    fn check_idle(&self) {
        let session = &self.session;
        assert!(session.phase() == Phase::Relaying);
        assert_eq!(session.held(), 0, "held by an idle session");
        assert!(session.incoming.is_empty());
        assert!(session.server.route.is_none(), "the route is kept");
        let queues = [&session.client, &session.server.side].map(|side| side.out.capacity());
        assert_eq!(queues, [0, 0], "memory of idle queues");
        assert_eq!(session.parser_bytes(), 0, "a parser is kept");
        if self.script.dialect == Dialect::Framed && self.script.up.len() < 10_000 {
            let parked = self.shared.parsers.message.parked();
            assert!(
                parked > 0 || self.script.up.is_empty(),
                "no parser came back"
            );
        }
        let deadline = session.deadline();
        assert!(deadline > self.shared.now && deadline < NEVER);
    }
}
