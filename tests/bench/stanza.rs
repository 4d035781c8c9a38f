//! The stanza that is relayed.

/// A chat message of `size` bytes, nearly all of it text.
pub fn stanza(size: usize) -> Vec<u8> {
    let head = "<message xmlns='jabber:client' to='romeo@example.org' type='chat' id='m1'><body>";
    let tail = "</body></message>";
    let words = "Wherefore art thou? ".chars().cycle();
    let text: String = words.take(size - head.len() - tail.len()).collect();
    format!("{head}{text}{tail}").into_bytes()
}
