//! The misbehaving driver as a shared library.

mod driver;

convoy_driver_sdk::export!(driver::Misbehaving);
