//! Receives the steps of a session: reports each, and keeps what the verdict needs.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use openssl::ssl::{SslRef, SslVerifyMode};
use openssl::x509::X509VerifyResult;

use super::certificate::Certificate;
use super::close;
use super::offers::Offers;
use super::problem::{Problem, Stage};
use super::report::Outcome::{Bad, Doubtful, Good};
use super::report::{Report, json, json_list, list};
use crate::config::{Config, DomainRule};
use crate::net::dns::locator::Target;
use crate::net::dns::question::{Error as DnsError, Family, Question, Records};
use crate::net::step::Step as NetStep;
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::header::Header;
use crate::session::step::{Cause, Phase, Step};

const UNVERIFIED: &str = "its certificate is not verified ('verify: false')";

/// What works, or what is wrong.
pub(super) type Verdict = Result<String, String>;

/// The way of one session.
pub(super) struct Walk {
    config: Rc<Config>,
    domain: String,
    client: UnixStream,
    report: Report,
    /// Whether some files of the configuration cannot be used.
    some_files_unusable: bool,
    /// Questions whose answers were reported.
    answered: Vec<Question>,
    /// The names without records.
    missing: Vec<String>,
    /// The address of the connection.
    address: String,
    direct: bool,
    /// The version of TLS.
    tls: &'static str,
    /// Doubts about a server that works.
    doubts: Vec<String>,
    /// Whether a problem with the connection has been noted.
    explained: bool,
    /// Of several problems, the one that is furthest along the way.
    problem: Option<Problem>,
    pub(super) verdict: Option<Verdict>,
}

impl Walk {
    pub(super) fn new(
        config: Rc<Config>,
        domain: &str,
        client: UnixStream,
        report: Report,
        some_files_unusable: bool,
    ) -> Walk {
        Walk {
            config,
            domain: domain.to_owned(),
            client,
            report,
            some_files_unusable,
            answered: Vec::new(),
            missing: Vec::new(),
            address: String::new(),
            direct: false,
            tls: "plain text",
            doubts: Vec::new(),
            explained: false,
            problem: None,
            verdict: None,
        }
    }

    pub(super) fn take(&mut self, step: &Step<'_>) {
        let report = self.report;
        match *step {
            Step::Domain(domain, rule) => self.take_rule(domain, rule),
            Step::Net(step) => self.take_net(step),
            Step::Located { allowed, refused } => self.take_targets(allowed, refused),
            Step::NotLocated { error, why } => {
                self.missing.sort();
                self.note(Problem::not_located(error, &self.missing, why));
            }
            Step::Connected { target, from } => {
                self.address = target.address.to_string();
                self.direct = target.direct;
                self.explained = false;
                (self.tls, self.doubts) = ("plain text", Vec::new());
                let from = from.map_or(String::new(), |from| format!(" from {from}"));
                let text = format!("to {}{from}", self.address);
                let address = [("address", json(&self.address))];
                report.step(Good, "connected", &text, &address);
            }
            Step::StartTls { is_offered } => {
                let (outcome, text) = match is_offered {
                    true => (Good, "offered"),
                    false => (Doubtful, "not offered, but asked for"),
                };
                report.step(outcome, "starttls", text, &[]);
            }
            Step::TlsNotOffered => self.explain(Problem::tls_not_offered(&self.address)),
            Step::NoStartTls(error) => {
                self.explain(Problem::no_starttls(&self.address, error));
            }
            Step::Handshake { ssl, succeeded } => self.take_handshake(ssl, succeeded),
            Step::Insecure(why) => {
                report.step(Bad, "failed", why, &[]);
                if !self.explained {
                    self.note(Problem::insecure(why, self.some_files_unusable));
                }
            }
            Step::Redirected(to) => {
                report.step(Doubtful, "redirect", to, &[("to", json(to))]);
            }
            Step::Header(header) => self.take_header(header),
            Step::Features { received, relayed } => self.take_features(received, relayed),
            Step::Ended { cause, detail } => self.take_end(cause, detail),
        }
    }

    /// Keeps a problem, unless one further along the way is known.
    fn note(&mut self, problem: Problem) {
        let before = self.problem.as_ref().map(|problem| problem.stage);
        if before.is_none_or(|stage| stage <= problem.stage) {
            self.problem = Some(problem);
        }
    }

    /// Notes what is wrong with the connection.
    fn explain(&mut self, problem: Problem) {
        self.explained = true;
        self.note(problem);
    }

    fn take_rule(&mut self, domain: &str, rule: DomainRule<'_>) {
        let (outcome, entry, text) = match rule {
            DomainRule::Any => {
                let text = "there is no 'domains' list, any domain may be reached";
                (Doubtful, None, text.to_owned())
            }
            DomainRule::Listed(entry) => {
                let text = format!("'{}' in 'domains'", entry.name);
                (Good, Some(entry), text)
            }
            DomainRule::Unlisted => {
                let text = format!("{domain} is not in 'domains'");
                return self.report.step(Bad, "rule", &text, &[]);
            }
        };
        let tls = entry.and_then(|entry| entry.access.tls);
        let tls = tls.unwrap_or(self.config.server_tls).name();
        let servers = self.config.servers_of(entry).iter();
        let servers: Vec<_> = servers.map(|server| server.address.to_string()).collect();
        let by = match servers.is_empty() {
            true => "found by the DNS".to_owned(),
            false => servers.join(", "),
        };
        let text = format!("{text}; server: {by}; TLS: {tls}");
        let members = [
            ("entry", json(entry.map_or("", |entry| &entry.name))),
            ("servers", json_list(&servers)),
            ("tls", json(tls)),
        ];
        self.report.step(outcome, "rule", &text, &members);
    }

    fn take_net(&mut self, step: &NetStep<'_>) {
        match *step {
            NetStep::HostsFile(name, addresses) => {
                let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                let text = format!("{name}: {}", list(&addresses));
                let addresses = [("addresses", json_list(&addresses))];
                self.report.step(Good, "hosts", &text, &addresses);
            }
            NetStep::Answered {
                question,
                result,
                local,
            } => self.take_answer(question, result, local),
            NetStep::Dialled(target) => {
                let address = target.address.to_string();
                let text = format!("to {address}");
                let address = [("address", json(&address))];
                self.report.step(Good, "connect", &text, &address);
            }
            NetStep::NotConnected(target, error) => {
                let text = format!("{}: {error}", target.address);
                self.report.step(Bad, "connect", &text, &[]);
                self.note(Problem::not_connected(target, error));
            }
        }
    }

    fn take_answer(
        &mut self,
        question: &Question,
        result: &Result<Records, DnsError>,
        local: bool,
    ) {
        if question.name().parse::<IpAddr>().is_ok() || self.answered.contains(question) {
            return;
        }
        self.answered.push(question.clone());
        let kind = match question {
            Question::Service(_) => "SRV",
            Question::Host(_, Family::V6) => "AAAA",
            Question::Host(_, Family::V4) => "A",
        };
        let name = format!("{} {kind}", question.name());
        let (outcome, records) = match result {
            Ok(Records::Services(services)) => {
                let services = services.iter().map(|srv| {
                    let (host, port) = (&srv.host, srv.port);
                    let (priority, weight) = (srv.priority, srv.weight);
                    format!("{host}:{port} (priority {priority}, weight {weight})")
                });
                (Good, services.collect())
            }
            Ok(Records::Addresses(addresses)) => {
                (Good, addresses.iter().map(IpAddr::to_string).collect())
            }
            Err(DnsError::NotFound) => (Doubtful, Vec::new()),
            Err(error) => (Bad, vec![error.to_string()]),
        };
        if records.is_empty() {
            self.missing.push(name.clone());
        }
        let by = if local { " (hosts file)" } else { "" };
        let text = format!("{name}: {}{by}", list(&records));
        let members = [
            ("question", json(&name)),
            ("records", json_list(&records)),
            ("hosts_file", local.to_string()),
        ];
        self.report.step(outcome, "dns", &text, &members);
    }

    fn take_targets(&mut self, allowed: &[Target], refused: &[Target]) {
        let shown = |target: &Target| match target.direct {
            true => format!("{} (TLS at once)", target.address),
            false => target.address.to_string(),
        };
        if let Some(first) = refused.first() {
            let refused: Vec<_> = refused.iter().map(shown).collect();
            let text = format!("{}: refused as internal addresses", list(&refused));
            let refused = [("refused", json_list(&refused))];
            self.report.step(Bad, "addresses", &text, &refused);
            self.note(Problem::internal(&first.address));
        }
        if !allowed.is_empty() {
            let allowed: Vec<_> = allowed.iter().map(shown).collect();
            let text = list(&allowed);
            let allowed = [("addresses", json_list(&allowed))];
            self.report.step(Good, "addresses", &text, &allowed);
        }
    }

    fn take_handshake(&mut self, ssl: &SslRef, succeeded: bool) {
        let verdict = ssl.verify_result();
        if succeeded {
            self.tls = ssl.version_str();
            let cipher = ssl.current_cipher().map_or("?", |cipher| cipher.name());
            let by = match self.direct {
                true => "at once",
                false => "by STARTTLS",
            };
            let text = format!("{}, {cipher}, {by}", self.tls);
            let members = [
                ("version", json(self.tls)),
                ("cipher", json(cipher)),
                ("direct", self.direct.to_string()),
            ];
            self.report.step(Good, "tls", &text, &members);
        }
        let Some(certificate) = Certificate::of(ssl) else {
            return;
        };
        let is_verified = ssl.verify_mode() != SslVerifyMode::NONE;
        let refusal = match succeeded || verdict == X509VerifyResult::OK {
            true => "",
            false => verdict.error_string(),
        };
        let (outcome, doubt) = match certificate.warning() {
            _ if !succeeded => (Bad, None),
            _ if !is_verified => (Doubtful, Some(UNVERIFIED.to_owned())),
            Some(warning) => (Doubtful, Some(warning)),
            None => (Good, None),
        };
        self.doubts = doubt.into_iter().collect();
        let members = [
            ("names", json_list(&certificate.names)),
            ("issuer", json(&certificate.issuer)),
            ("expires", certificate.expires.to_string()),
            ("verified", (succeeded && is_verified).to_string()),
            ("refused", json(refusal)),
        ];
        self.report
            .step(outcome, "certificate", &certificate.text(), &members);
        if !succeeded && let Some((what, remedy)) = certificate.mistake(&self.domain, verdict) {
            let what = format!("the certificate at {} {what}", self.address);
            self.explain(Problem::new(Stage::Security, what, remedy));
        }
    }

    fn take_header(&mut self, header: &Header) {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        let (from, id) = (text(&header.from), text(&header.id));
        let version = text(&header.version);
        let shown = format!("from {from}, version {version}, id {id}");
        let members = [
            ("from", json(&from)),
            ("version", json(&version)),
            ("id", json(&id)),
        ];
        self.report.step(Good, "stream", &shown, &members);
    }

    fn take_features(&mut self, received: &[u8], relayed: &[u8]) {
        if self.verdict.is_some() {
            return;
        }
        let offers = Offers::new(received, relayed);
        let report = self.report;
        report.step(Good, "features", &offers.text(), &offers.members());
        if !offers.removed.is_empty() {
            let text = format!("{}: not relayed to web pages", list(&offers.removed));
            let removed = [("removed", json_list(&offers.removed))];
            report.step(Doubtful, "removed", &text, &removed);
        }
        self.verdict = Some(match offers.mechanisms.is_empty() {
            true => Err(Problem::no_login(&offers.removed).sentence(&self.domain)),
            false => {
                let (domain, address, tls) = (&self.domain, &self.address, self.tls);
                let login = list(&offers.mechanisms);
                let doubts = self.doubts.iter().map(|doubt| format!(", but {doubt}"));
                let doubts: String = doubts.collect();
                Ok(format!(
                    "{domain} works: {address}, {tls}, login by {login}{doubts}."
                ))
            }
        });
        close(&mut self.client);
    }

    fn take_end(&mut self, cause: Cause, detail: &str) {
        if self.verdict.is_some() {
            return;
        }
        let text = match detail {
            "" => cause.to_string(),
            detail => format!("{cause}: {detail}"),
        };
        self.report.step(Bad, "ended", &text, &[]);
        let address = &self.address;
        let latest = match cause {
            Cause::Violation(StreamError::HostUnknown) => Some(Problem::unlisted()),
            Cause::Violation(StreamError::ImproperAddressing(why)) => Some(Problem::improper(why)),
            Cause::Late(Phase::Locating) => Some(Problem::no_dns(detail)),
            Cause::Late(Phase::Connecting) => Some(Problem::no_connection(detail)),
            Cause::Late(Phase::Securing | Phase::Greeting) => Some(Problem::silent(address)),
            Cause::ServerEnded | Cause::ServerLost if !detail.is_empty() => {
                Some(Problem::refused(address, detail))
            }
            Cause::Drain | Cause::ClientStalled => {
                Some(Problem::no_stream(address, "it sends no features"))
            }
            Cause::ServerEnded | Cause::ServerLost | Cause::ServerViolation => {
                Some(Problem::no_stream(address, &text))
            }
            _ if self.problem.is_some() => None,
            _ => Some(Problem::new(Stage::Domain, text, "see the steps above")),
        };
        if let Some(problem) = latest {
            self.note(problem);
        }
        if let Some(problem) = &self.problem {
            self.verdict = Some(Err(problem.sentence(&self.domain)));
        }
    }
}
