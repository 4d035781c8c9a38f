//! Tests of how servers are found and reached, and of TLS on both sides.

#[path = "../common/mod.rs"]
mod common;

mod address_race;
mod certificate_check;
mod channel_binding;
mod dns_cache;
mod dns_load;
mod fail_over;
mod hostile_server;
mod hosts_file;
mod numeric_server;
mod private_addresses;
mod resolv_conf;
mod see_other_host;
mod server_finding;
mod silent_dns;
mod starttls;
mod time_to_open;
mod tls_memory;
mod tls_policy;
mod tls_records;
mod tls_session;
mod trial;
mod wss;
mod wss_reload;
