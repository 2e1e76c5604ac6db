//! The conformance kit, through both carriers.

convoy_cloud_lab::kit_tests!(crate::cloud::Cloud, env!("CARGO_BIN_EXE_convoy-driver-digitalocean"));
