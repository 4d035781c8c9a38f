//! What the server gets first: the client's stream header, and the messages behind it.

use crate::buf::Buf;
use crate::proto::xmpp::header::Header;

pub(in crate::session) struct Greeting {
    /// The client's stream header. It is kept because a redirect needs it again.
    header: Header,
    /// The stream header of the draft, as the client sent it.
    draft_header: Option<Vec<u8>>,
    /// The server has the header already: it was sent to ask for STARTTLS, and the connection
    /// stays in plain text.
    is_header_sent: bool,
    /// What the server answered to that header.
    answer: Vec<u8>,
    /// Messages that wait for the server.
    pub queue: Buf,
}

impl Greeting {
    pub fn new(header: Header, draft_header: Option<Vec<u8>>) -> Greeting {
        Greeting {
            header,
            draft_header,
            is_header_sent: false,
            answer: Vec::new(),
            queue: Buf::new(),
        }
    }

    /// Sends the stream header; `bare` without what a server must not learn without TLS. `text`
    /// is a buffer.
    pub fn send_header(&self, bare: bool, text: &mut Vec<u8>, out: &mut Buf) {
        text.clear();
        match &self.draft_header {
            _ if bare => self.header.write_bare_stream(text),
            Some(bytes) => text.extend_from_slice(bytes),
            None => self.header.write_stream(text),
        }
        out.extend(text);
    }

    /// Sends the stream header, unless the server has it, and the messages.
    pub fn send(&mut self, bare: bool, text: &mut Vec<u8>, out: &mut Buf) {
        if !self.is_header_sent {
            self.send_header(bare, text, out);
        }
        out.extend(self.queue.take().as_slice());
    }

    /// Notes that the server has the header, and what it answered.
    pub fn note_answer(&mut self, answer: Vec<u8>) {
        self.is_header_sent = true;
        self.answer = answer;
    }

    /// Takes what the server answered to a header that was sent before.
    pub fn take_answer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answer)
    }

    /// Starts again with another server.
    pub fn restart(&mut self) {
        self.is_header_sent = false;
    }

    /// Returns the bytes of memory that it holds elsewhere.
    pub fn memory(&self) -> usize {
        let draft = self.draft_header.as_ref().map_or(0, Vec::capacity);
        self.header.memory() + draft + self.queue.capacity()
    }
}
