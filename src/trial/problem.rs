//! What keeps a session from its server, in words for the operator.

use crate::net::address::Address;
use crate::net::dns::locator::{Error, Target};
use crate::proto::xmpp::starttls;

/// How far a session comes until something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Domain,
    LookUp,
    Connection,
    Security,
    Stream,
}

/// Something that is wrong.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) stage: Stage,
    what: String,
    remedy: &'static str,
}

impl Problem {
    pub(super) fn new(stage: Stage, what: impl Into<String>, remedy: &'static str) -> Problem {
        let what = what.into();
        Problem {
            stage,
            what,
            remedy,
        }
    }

    /// Returns the sentence at the end of a trial.
    pub(super) fn sentence(&self, domain: &str) -> String {
        format!("{domain} does not work: {}; {}.", self.what, self.remedy)
    }

    pub(super) fn unlisted() -> Problem {
        let what = "the configuration does not list it";
        Problem::new(Stage::Domain, what, "add it to 'domains'")
    }

    pub(super) fn improper(why: &str) -> Problem {
        let remedy = "name a domain such as example.org";
        Problem::new(Stage::Domain, why, remedy)
    }

    /// No server was found. `missing`: the names without an answer.
    pub(super) fn not_located(error: Error, missing: &[String], why: &str) -> Problem {
        let missing = missing.join(", ");
        match error {
            Error::NotOffered => Problem::new(
                Stage::LookUp,
                "its SRV records say that it offers no XMPP service ('.')",
                "correct them, or name its server in the configuration ('server')",
            ),
            Error::HostNotFound => Problem::new(
                Stage::LookUp,
                format!("the name of its server has no address ({missing})"),
                "correct the SRV record or the configuration ('server')",
            ),
            Error::NotFound => Problem::new(
                Stage::LookUp,
                format!("neither the hosts file nor the DNS has a server for it ({missing})"),
                "create the records, or name its server in the configuration ('server')",
            ),
            Error::Failed(_) => Problem::no_dns(why),
        }
    }

    pub(super) fn no_dns(detail: &str) -> Problem {
        Problem::new(
            Stage::LookUp,
            format!("the DNS does not answer ({detail})"),
            "check 'dns_servers' or /etc/resolv.conf, and that these servers can be reached",
        )
    }

    pub(super) fn internal(address: &Address) -> Problem {
        Problem::new(
            Stage::LookUp,
            format!("it leads to {address}, an internal address"),
            "add it to 'domains', or see 'private_addresses'",
        )
    }

    pub(super) fn not_connected(target: &Target, error: &std::io::Error) -> Problem {
        use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        let address = &target.address;
        let (what, remedy) = match error.kind() {
            ConnectionRefused | NotFound => (
                format!("no server listens at {address} ({error})"),
                match (&target.server, target.is_fallback) {
                    (Some(_), _) => "start the server, or correct 'server' in the configuration",
                    (None, false) => "start the server, or correct the SRV record",
                    (None, true) => "start the server, or create an SRV record for its port",
                },
            ),
            PermissionDenied => (
                format!("{address} must not be connected to ({error})"),
                "check the permissions of the socket, and the firewall of this host",
            ),
            _ => (
                format!("{address} cannot be reached ({error})"),
                "check the network between the hosts and their firewalls",
            ),
        };
        Problem::new(Stage::Connection, what, remedy)
    }

    pub(super) fn no_connection(addresses: &str) -> Problem {
        Problem::new(
            Stage::Connection,
            format!("nothing answers at {addresses}"),
            "check that the host is up and that no firewall drops the packets",
        )
    }

    pub(super) fn silent(address: &str) -> Problem {
        Problem::new(
            Stage::Stream,
            format!("{address} accepts the connection and then does not answer"),
            "check that this is the client port of an XMPP server that is not overloaded, and \
             whether it expects TLS at once ('tls: direct')",
        )
    }

    pub(super) fn no_starttls(address: &str, error: &starttls::Error) -> Problem {
        match error {
            starttls::Error::Ended(condition) => Problem::refused(address, condition),
            starttls::Error::Refused => Problem::new(
                Stage::Security,
                format!("{address} refuses STARTTLS"),
                "check that it has a certificate for this domain",
            ),
            _ => Problem::no_stream(address, &error.to_string()),
        }
    }

    pub(super) fn tls_not_offered(address: &str) -> Problem {
        Problem::new(
            Stage::Security,
            format!("{address} offers no STARTTLS, and plain text is not allowed"),
            "enable TLS there, or set 'tls: direct' if it expects TLS at once",
        )
    }

    pub(super) fn insecure(why: &str, some_files_unusable: bool) -> Problem {
        let remedy = match some_files_unusable {
            true => "see which files cannot be used, and try as a user who may read them",
            false => "check the port and the TLS settings of the server",
        };
        Problem::new(Stage::Security, why, remedy)
    }

    /// The server has sent a stream error.
    pub(super) fn refused(address: &str, condition: &str) -> Problem {
        match condition {
            "host-unknown" | "host-gone" => Problem::new(
                Stage::Stream,
                format!("the server at {address} does not serve it ({condition})"),
                "add this domain as a virtual host there, or correct the address",
            ),
            _ => Problem::new(
                Stage::Stream,
                format!("the server at {address} ends the stream ({condition})"),
                "see the log of the server",
            ),
        }
    }

    pub(super) fn no_stream(address: &str, why: &str) -> Problem {
        Problem::new(
            Stage::Stream,
            format!("{address} offers no usable stream ({why})"),
            "check that this is the client port of an XMPP server, and see its log",
        )
    }

    pub(super) fn no_login(removed: &[String]) -> Problem {
        let (what, remedy) = match removed.iter().any(|name| name != "starttls") {
            true => (
                format!(
                    "the server offers web pages no way to log in (removed: {})",
                    removed.join(", ")
                ),
                "allow a mechanism without channel binding there",
            ),
            false => (
                "the server offers no way to log in".to_owned(),
                "enable a mechanism there, and see whether it requires TLS for the login",
            ),
        };
        Problem::new(Stage::Stream, what, remedy)
    }
}
