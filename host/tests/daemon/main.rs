//! The daemon as a process: the answers convoy 0.5 gave, bad input, crashes, stops and starts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

mod backups;
mod bad_input;
mod browse;
mod crash;
mod destinations;
mod excludes;
mod harness;
mod hostile_clients;
mod hostile_container;
mod hostile_docker_user;
mod hostile_store;
mod in_place;
mod kept;
mod labels;
mod life;
mod messages;
mod mounts;
mod operate;
mod replay;
mod restores;
mod schedules;
mod stats;
mod watching;
