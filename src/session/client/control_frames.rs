//! Answers the client's control frames: a Ping with a Pong, and a Close frame with a Close frame
//! if we have not sent one (RFC 6455, section 5.5).

use crate::proto::ws::{self, frame};
use crate::session::Session;
use crate::session::machine::Event;
use crate::session::shared::Shared;

impl Session {
    /// Handles a control frame. After our Close frame was sent, only the client's Close frame
    /// matters.
    pub(super) fn take_control_frame(&mut self, control: ws::Event<'_>, shared: &mut Shared) {
        match control {
            ws::Event::Ping(payload) if self.machine.phase().is_open() => {
                frame::write_pong(&mut self.client.out, payload);
            }
            ws::Event::Close { code, reason } => {
                let detail = code.map_or(String::new(), |code| code.0.to_string());
                let actions = self.step(Event::CloseFrame, &detail, shared);
                if actions.echo_close {
                    frame::write_close(&mut self.client.out, code, reason);
                }
            }
            _ => {}
        }
    }
}
