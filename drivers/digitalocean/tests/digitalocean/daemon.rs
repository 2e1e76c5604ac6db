//! The driver under the whole program, by both carriers.

convoy_cloud_lab::daemon_tests!(crate::cloud::Cloud, env!("CARGO_BIN_EXE_convoy-driver-digitalocean"));
