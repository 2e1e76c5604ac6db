//! What crosses the boundary of a shared library.
//!
//! Additions go to the end of [`DriverModule`] as new functions: what is passed by value is fixed for ever.

// The derive generates public items that nobody documents.
#![allow(missing_docs)]

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RResult, RSlice, RStr, RVec};

/// The version of this ABI: another major is refused at load.
pub const ABI_VERSION: &str = "1.0.0";

/// The exported symbol is this and the name of the driver's crate, as in
/// `convoy_driver_root_convoy_driver_vfs`: so several drivers can be linked into one program.
pub const SYMBOL_PREFIX: &str = "convoy_driver_root_";

/// Bytes that are lent for the time of a call.
pub type Bytes<'a> = RSlice<'a, u8>;

/// The functions of a driver.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = DriverModuleRef)))]
#[sabi(missing_field(panic))]
pub struct DriverModule {
    /// `major.minor` of the driver protocol that the messages follow.
    pub protocol_version: RStr<'static>,
    /// The SDK it was built with, for a person: `0.6.0`.
    pub sdk_version: RStr<'static>,
    /// Makes a driver that is not open yet and answers its number.
    pub create: extern "C" fn(host: Host) -> u64,
    /// Carries out a call: the reply as JSON, or a `DriverError` as JSON.
    pub call: extern "C" fn(driver: u64, call: Call<'_>) -> RResult<RVec<u8>, RVec<u8>>,
    /// Asks a call to end.
    pub cancel: extern "C" fn(driver: u64, call: u64),
    /// Forgets a driver, after its last call.
    #[sabi(last_prefix_field)]
    pub destroy: extern "C" fn(driver: u64),
}

impl RootModule for DriverModuleRef {
    abi_stable::declare_root_module_statics! {DriverModuleRef}
    const BASE_NAME: &'static str = "convoy_driver";
    const NAME: &'static str = "convoy_driver";
    const VERSION_STRINGS: VersionStrings = VersionStrings::new(ABI_VERSION);
}

/// What the host gives to a driver.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct Host {
    /// To be given back with every record: tells the host which driver it is.
    pub token: u64,
    /// What is wanted: 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub log_level: u8,
    /// Takes a `LogRecord` as JSON.
    pub log: extern "C" fn(token: u64, record: Bytes<'_>),
    /// Takes the `Progress` of a call as JSON.
    pub progress: extern "C" fn(call: u64, progress: Bytes<'_>),
}

/// A call, as it crosses the boundary.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct Call<'a> {
    /// A number that no other call of this program has.
    pub id: u64,
    /// The method: `volume.create`.
    pub method: RStr<'a>,
    /// The request as JSON.
    pub request: Bytes<'a>,
    /// Names the call in logs.
    pub request_id: RStr<'a>,
    /// Milliseconds until the caller stops waiting.
    pub deadline_ms: ROption<u64>,
}

impl<'a> Call<'a> {
    /// Makes a call; `deadline_ms` is how long the caller waits, if not for ever.
    pub fn new(
        id: u64,
        method: &'a str,
        request: &'a [u8],
        request_id: &'a str,
        deadline_ms: Option<u64>,
    ) -> Self {
        let (method, request, request_id) = (method.into(), request.into(), request_id.into());
        Self { id, method, request, request_id, deadline_ms: deadline_ms.into() }
    }
}
