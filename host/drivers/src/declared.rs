//! What a driver declares, and what it then cannot do.

use convoy_driver_sdk::protocol::{Capability, Description};
use convoy_driver_sdk::{DriverError, ErrorKind};

/// The capabilities, any of which promises that a method can be called.
fn promised_by(method: &str) -> &'static [Capability] {
    match method {
        "snapshot.create" | "snapshot.delete" | "snapshot.list" | "snapshot.get" => &[Capability::Snapshots],
        "snapshot.open" | "snapshot.close" => &[Capability::ReadTree, Capability::ReadBlock],
        "snapshot.extents" => &[Capability::ReadBlock],
        "restore.finish" | "restore.abort" => &[Capability::RestoreTree, Capability::RestoreBlock],
        "kept.list" | "kept.delete" => &[Capability::Kept],
        "volume.clone" => &[Capability::Clone],
        "volume.revert" => &[Capability::Revert],
        "driver.check" => &[Capability::Check],
        "backup.create" => &[Capability::NativeBackup],
        _ => &[],
    }
}

/// Says whose fault it is when a driver does not support what it declares.
pub(crate) fn explain(mut error: DriverError, method: &str, description: &Description) -> DriverError {
    let declared = promised_by(method).iter().find(|capability| description.can(**capability));
    // One with a hint is about this volume or request, as a restore of the other kind.
    let Some(capability) = declared.filter(|_| error.kind == ErrorKind::Unsupported && error.hint.is_none())
    else {
        return error;
    };
    let capability = serde_json::to_value(capability).unwrap_or_default();
    let (name, capability) = (&description.name, capability.as_str().unwrap_or_default());
    error.message = format!("driver {name} declares {capability} and refuses {method}: {}", error.message);
    error.hint("if it does so for every volume it is a defect of the driver: report it to its author")
}
