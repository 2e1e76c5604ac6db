//! Libraries that export what a driver does, but of another ABI: for tests of what the host says about them.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]

use crate::VERSION;
use abi_stable::StableAbi;
use abi_stable::library::{
    __call_root_module_loader, CheckTypeLayout, LibHeader, RootModule, RootModuleResult,
};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::RString;

/// Not the functions of a driver.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = OtherModuleRef)))]
#[sabi(missing_field(panic))]
struct OtherModule {
    #[sabi(last_prefix_field)]
    call: extern "C" fn(request: RString) -> RString,
}

impl RootModule for OtherModuleRef {
    abi_stable::declare_root_module_statics! {OtherModuleRef}
    const BASE_NAME: &'static str = "convoy_driver";
    const NAME: &'static str = "convoy_driver";
    const VERSION_STRINGS: VersionStrings = VersionStrings::new(VERSION);
}

extern "C" fn call(request: RString) -> RString {
    request
}

fn module() -> OtherModuleRef {
    let module = OtherModule { call }.leak_into_prefix();
    module.call()(RString::new());
    module
}

extern "C" fn construct() -> RootModuleResult {
    __call_root_module_loader(module)
}

#[unsafe(export_name = concat!("convoy_driver_root_", env!("CARGO_CRATE_NAME")))]
// SAFETY: `construct` returns an `OtherModuleRef`.
static HEADER: LibHeader =
    unsafe { LibHeader::from_constructor::<OtherModuleRef>(construct, CheckTypeLayout::Yes) };
