//! Tests of the daemon as a process: command line, files, signals, users, workers,
//! systemd, and scarce resources.

#[path = "../common/mod.rs"]
mod common;

mod command_line;
mod daemonize;
mod documented;
mod hung_worker;
mod local_ports;
mod no_descriptors;
mod own_network;
mod privileges;
mod process_one;
mod socket_activation;
mod socket_file;
mod status_workers;
mod systemd_notify;
mod ticket_keys;
mod upgrade;
mod upgrade_refused;
mod vanished_host;
mod workers;
