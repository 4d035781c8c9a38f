//! A DNS server with a small zone. It answers, fails, stays silent or delays its answers,
//! and counts the questions (RFC 1035, RFC 2782).

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::PATIENCE;

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;

/// The default TTL of records, in seconds.
const TTL: u32 = 300;
/// The longest chain of aliases that the server follows.
const MAX_ALIASES: usize = 4;

const NO_ERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// What the server does with a question.
#[derive(Clone)]
enum Answer {
    /// Records: TTL and data.
    Records(Vec<(u32, Vec<u8>)>),
    NoData,
    ServFail,
    Silence,
    /// No answer before `release`.
    Held,
}

type Key = (String, u16);

#[derive(Default)]
struct State {
    zone: HashMap<Key, Answer>,
    /// The IDs of the questions. A question that is repeated because the answer did not
    /// come keeps its ID.
    asked: HashMap<Key, HashSet<u16>>,
    /// Names with this ending get an answer only if the zone has one.
    silent: Option<String>,
    /// How many of the next packets about each name are dropped.
    lost: HashMap<String, usize>,
    /// Delayed questions and their senders.
    held: Vec<(Vec<u8>, SocketAddr)>,
}

/// A running server. Dropping it stops the server.
pub struct DnsServer {
    pub address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
    socket: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

impl DnsServer {
    /// Starts a server for these records, see `add`. A name without records does not
    /// exist.
    pub fn start(zone: &str) -> DnsServer {
        DnsServer::start_at("127.0.0.1:0", zone)
    }

    /// Starts a server at a given address and port.
    pub fn start_at(address: impl ToSocketAddrs, zone: &str) -> DnsServer {
        let socket = UdpSocket::bind(address).expect("bind");
        let address = socket.local_addr().expect("address");
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        let (for_thread, from) = (Arc::clone(&shared), socket.try_clone().expect("clone"));
        let thread = std::thread::spawn(move || serve(&from, &for_thread));
        let server = DnsServer {
            address,
            shared,
            socket,
            thread: Some(thread),
        };
        server.add(zone);
        server
    }

    /// Adds records, one per line: name, optional TTL, type and data. NODATA, SERVFAIL,
    /// SILENCE or HELD in place of the data is what the server does with the question
    /// instead.
    pub fn add(&self, zone: &str) {
        let mut state = self.shared.0.lock().unwrap();
        for line in zone.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_whitespace().peekable();
            let name = words.next().expect("a name").to_ascii_lowercase();
            let ttl = words.peek().and_then(|word| word.parse().ok());
            if ttl.is_some() {
                words.next();
            }
            let kind = match words.next() {
                Some("A") => A,
                Some("AAAA") => AAAA,
                Some("CNAME") => CNAME,
                Some("SRV") => SRV,
                other => panic!("type {other:?} in {line:?}"),
            };
            let data: Vec<&str> = words.collect();
            let special = match data[..] {
                ["NODATA"] => Some(Answer::NoData),
                ["SERVFAIL"] => Some(Answer::ServFail),
                ["SILENCE"] => Some(Answer::Silence),
                ["HELD"] => Some(Answer::Held),
                _ => None,
            };
            let entry = state.zone.entry((name, kind));
            if let Some(special) = special {
                entry.insert_entry(special);
                continue;
            }
            let record = (ttl.unwrap_or(TTL), encode(kind, &data));
            match entry.or_insert(Answer::NoData) {
                Answer::Records(records) => records.push(record),
                other => *other = Answer::Records(vec![record]),
            }
        }
    }

    /// Stops answering for names with this ending that have no records.
    pub fn say_nothing_on(&self, end: &str) {
        self.shared.0.lock().unwrap().silent = Some(end.to_owned());
    }

    /// Drops this many of the next packets about a name.
    pub fn lose(&self, name: &str, packets: usize) {
        let mut state = self.shared.0.lock().unwrap();
        state.lost.insert(name.to_owned(), packets);
    }

    /// Removes the records of a name.
    pub fn remove(&self, name: &str) {
        let mut state = self.shared.0.lock().unwrap();
        state.zone.retain(|(owner, _), _| owner != name);
    }

    /// How often this question was asked, not counting repetitions because the answer did
    /// not come.
    pub fn asked(&self, name: &str, kind: u16) -> usize {
        let state = self.shared.0.lock().unwrap();
        let ids = state.asked.get(&(name.to_owned(), kind));
        ids.map_or(0, HashSet::len)
    }

    /// All questions: name, type and how often they were asked.
    pub fn all_asked(&self) -> Vec<(String, u16, usize)> {
        let state = self.shared.0.lock().unwrap();
        let asked = state.asked.iter();
        let mut all: Vec<_> = asked
            .map(|((name, kind), ids)| (name.clone(), *kind, ids.len()))
            .collect();
        all.sort();
        all
    }

    /// Waits until this question has been asked.
    pub fn wait_asked(&self, name: &str, kind: u16) {
        self.wait_asked_times(name, kind, 1);
    }

    /// Waits until this question was asked so often.
    pub fn wait_asked_times(&self, name: &str, kind: u16, times: usize) {
        let key = (name.to_owned(), kind);
        let state = self.shared.0.lock().unwrap();
        let count = |state: &State| state.asked.get(&key).map_or(0, HashSet::len);
        let missing = |state: &mut State| count(state) < times;
        let waited = self.shared.1.wait_timeout_while(state, PATIENCE, missing);
        let timed_out = waited.unwrap().1.timed_out();
        assert!(!timed_out, "nobody asks for {name}, type {kind}");
    }

    /// Adds `zone`, answers the delayed questions and delays no more. A name without a
    /// record then does not exist.
    pub fn release(&self, zone: &str) {
        let held = {
            let mut state = self.shared.0.lock().unwrap();
            state
                .zone
                .retain(|_, answer| !matches!(answer, Answer::Held));
            std::mem::take(&mut state.held)
        };
        self.add(zone);
        let state = self.shared.0.lock().unwrap();
        for (question, from) in held {
            if let Some((id, key, raw)) = parse(&question)
                && let Some(reply) = reply(&state.zone, id, &key, raw)
            {
                self.socket.send_to(&reply, from).expect("send");
            }
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        // An empty datagram ends the thread.
        let _ = self.socket.send_to(&[], self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &(Mutex<State>, Condvar)) {
    let mut datagram = [0; 1500];
    while let Ok((len, from)) = socket.recv_from(&mut datagram) {
        let question = &datagram[..len];
        if question.is_empty() {
            return;
        }
        let Some((id, key, raw)) = parse(question) else {
            continue;
        };
        let mut state = shared.0.lock().unwrap();
        state.asked.entry(key.clone()).or_default().insert(id);
        shared.1.notify_all();
        if let Some(packets) = state.lost.get_mut(&key.0)
            && *packets > 0
        {
            *packets -= 1;
            continue;
        }
        let silent = state.silent.as_ref();
        if silent.is_some_and(|end| key.0.ends_with(end)) && !state.zone.contains_key(&key) {
            continue;
        }
        if let Some(Answer::Held) = state.zone.get(&key) {
            state.held.push((question.to_vec(), from));
        } else if let Some(reply) = reply(&state.zone, id, &key, raw) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// The ID, name and type of a question, and its bytes.
fn parse(message: &[u8]) -> Option<(u16, Key, &[u8])> {
    let id = u16::from_be_bytes([*message.first()?, *message.get(1)?]);
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        let label = message.get(at..at + len)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += len;
    }
    let kind = message.get(at..at + 2)?;
    let kind = u16::from_be_bytes([kind[0], kind[1]]);
    Some((id, (labels.join("."), kind), message.get(12..at + 4)?))
}

/// The answer to a question; `None` if there is none.
fn reply(zone: &HashMap<Key, Answer>, id: u16, key: &Key, raw: &[u8]) -> Option<Vec<u8>> {
    let (mut name, kind) = key.clone();
    let mut answers = Vec::new();
    for _ in 0..MAX_ALIASES {
        let Some(Answer::Records(alias)) = zone.get(&(name.clone(), CNAME)) else {
            break;
        };
        let (ttl, target) = &alias[0];
        answers.push((name, CNAME, *ttl, target.clone()));
        name = decode_name(target);
    }
    let exists = !answers.is_empty() || zone.keys().any(|(owner, _)| *owner == name);
    let code = match zone.get(&(name.clone(), kind)) {
        Some(Answer::Silence | Answer::Held) => return None,
        Some(Answer::ServFail) => SERVFAIL,
        Some(Answer::Records(records)) => {
            for (ttl, data) in records {
                answers.push((name.clone(), kind, *ttl, data.clone()));
            }
            NO_ERROR
        }
        Some(Answer::NoData) => NO_ERROR,
        None if exists => NO_ERROR,
        None => NXDOMAIN,
    };
    let mut message = id.to_be_bytes().to_vec();
    // A response with the flags "recursion desired" and "recursion available".
    message.extend([0x81, 0x80 | code, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
    message.extend(raw);
    for (name, kind, ttl, data) in answers {
        message.extend(encode_name(&name));
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    Some(message)
}

fn encode(kind: u16, data: &[&str]) -> Vec<u8> {
    let number = |text: &str| text.parse::<u16>().expect("a number").to_be_bytes();
    match (kind, data) {
        (A, [ip]) => ip.parse::<Ipv4Addr>().expect("IPv4").octets().to_vec(),
        (AAAA, [ip]) => ip.parse::<Ipv6Addr>().expect("IPv6").octets().to_vec(),
        (CNAME, [name]) => encode_name(name),
        (SRV, [priority, weight, port, target]) => {
            let numbers = [number(priority), number(weight), number(port)];
            [numbers.concat(), encode_name(target)].concat()
        }
        _ => panic!("data {data:?} of type {kind}"),
    }
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn decode_name(mut bytes: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((&len, rest)) = bytes.split_first()
        && len > 0
    {
        let (label, rest) = rest.split_at(usize::from(len));
        labels.push(String::from_utf8_lossy(label).into_owned());
        bytes = rest;
    }
    labels.join(".")
}
