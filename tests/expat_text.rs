//! Text that Expat is not shown, judged by Expat: over random documents in
//! random pieces a parser that leaves text out reports what one does that is
//! shown every byte, piece by piece: tags, positions, verdicts.

use std::ops::Range;

use jabsocket::expat::{Error, Names, Parser, Token};

/// What a parser reported: tags with their texts, and the verdict.
type Seen = (Vec<String>, Result<(), Error>);

fn report(parser: &mut Parser, verdict: Result<(), Error>, names: Names) -> Seen {
    let tokens = parser.tokens().iter().map(|token| match token {
        Token::Start(tag) => {
            let attributes: Vec<_> = parser.attributes(tag).collect();
            let name = match names {
                Names::Raw => (&b""[..], parser.name(tag)),
                Names::Resolved => parser.resolved_name(tag),
            };
            let Range { start, end } = tag.start..tag.end;
            format!("{} {start} {end} {name:?} {attributes:?}", tag.depth)
        }
        Token::End { depth, end } => format!("/{depth} {end}"),
    });
    let seen = (tokens.collect(), verdict);
    parser.forget(true);
    seen
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.below(from.len())]
    }
}

const LONG: &[u8] = b"a text that is longer than forty-eight bytes, so that it may be left out";

/// Well-formed by themselves inside an element.
const GOOD: [&[u8]; 22] = [
    LONG,
    LONG,
    LONG,
    b"short",
    b" \r\n\t",
    b"&lt;",
    b"&apos;&quot;&amp;&gt;",
    b"&#65;&#x20ac;",
    b"]",
    b"]]",
    b">",
    b"<e/>",
    b"<e a='>'/>",
    b"<e a='>                                                  '/>",
    b"<e xmlns='urn:e'></e>",
    b"<![CDATA[<&]] >]]>",
    b"<![CDATA[ > <b> a CDATA section with tags and text in it that is long enough > <c> ]]>",
    "\u{e4}\u{20ac}\u{1f600}".as_bytes(),
    "\u{ff0c}\u{fffd}\u{1fffe}".as_bytes(),
    "ein l\u{e4}ngerer Text mit Umlauten: \u{e4}\u{f6}\u{fc}, und noch l\u{e4}nger".as_bytes(),
    b"\x7f",
    b"<p:e xmlns:p='urn:p'><p:f/></p:e>",
];

/// Broken, or breaking what stands around.
const BAD: [&[u8]; 22] = [
    b"]]>",
    b"&",
    b"&amp",
    b"&e;",
    b"&#0;",
    b"&#xffff;",
    b"\0",
    b"\x0b",
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xef\xbf\xbe",
    b"\xef\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"<",
    b"<e",
    b"</wrong>",
    b"<!-- -->",
    b"<?x y?>",
    b"<p:e/>",
];

fn document(random: &mut Random) -> Vec<u8> {
    let mut text = b"<r>".to_vec();
    let mut open: Vec<&[u8]> = Vec::new();
    let broken = random.below(3) == 0;
    for _ in 0..1 + random.below(24) {
        match random.below(8) {
            0 | 1 => {
                let name = random.pick(&[b"a", b"message", b"body"]);
                open.push(name);
                text.push(b'<');
                text.extend_from_slice(name);
                text.extend_from_slice(random.pick(&[b"", b" b='c'", b" xmlns='u'"]));
                text.push(b'>');
            }
            2 if !open.is_empty() => {
                let name = open.pop().unwrap_or_default();
                text.extend_from_slice(b"</");
                text.extend_from_slice(name);
                text.push(b'>');
            }
            _ if broken && random.below(6) == 0 => text.extend_from_slice(random.pick(&BAD)),
            _ => text.extend_from_slice(random.pick(&GOOD)),
        }
    }
    for name in open.into_iter().rev() {
        text.extend_from_slice(&[b"</", name, b">"].concat());
    }
    text.extend_from_slice(random.pick(&[b"", b"</r>", b"<last/>"]));
    text
}

#[test]
fn what_is_left_out_changes_nothing() {
    let mut random = Random(1);
    let (mut good, mut bad, mut left_out) = (0, 0, 0);
    for round in 0..60_000 {
        let text = document(&mut random);
        let names = [Names::Raw, Names::Resolved][round % 2];
        let watch = random.below(3) as u32;
        let (mut fast, mut plain) = (Parser::new(names, watch), Parser::new(names, watch));
        let mut rest = &text[..];
        let longest = [4, 40, 4000][random.below(3)];
        let mut verdict = Ok(());
        while !rest.is_empty() && verdict.is_ok() {
            let (piece, after) = rest.split_at(rest.len().min(1 + random.below(longest)));
            rest = after;
            verdict = plain.feed_all(piece);
            let expected = report(&mut plain, verdict, names);
            let verdict = fast.feed(piece);
            let seen = report(&mut fast, verdict, names);
            assert_eq!(seen, expected, "{:?}", String::from_utf8_lossy(&text));
        }
        match verdict {
            Ok(()) => good += 1,
            Err(_) => bad += 1,
        }
        left_out += usize::from(fast.shown() < fast.position());
    }
    // The documents are what they are meant to be.
    assert!(good > 20_000 && bad > 5000, "{good} {bad}");
    assert!(left_out > 10_000, "{left_out}");
}
