//! What a driver keeps of volumes that were forgotten.

use super::contents::{keeps_file, put_file};
use crate::check::{Outcome, done, ensure, fail, not_found};
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{DeleteKept, DeleteVolume, Kept, ListKept};

/// Everything that it says it keeps, read in pages of one.
fn listed(kit: &Subject) -> Outcome<Vec<Kept>> {
    let mut all: Vec<Kept> = Vec::new();
    loop {
        let after = all.last().map(|kept| kept.name.clone());
        let request = ListKept::new().after(after.clone()).limit(Some(1)).sizes(true);
        let page = done(rules::KEPT, &format!("kept.list after {after:?} of at most 1"), kit.call(request))?;
        let in_order = page.kept.len() <= 1 && page.kept.iter().all(|kept| after.as_ref() < Some(&kept.name));
        ensure(rules::KEPT, in_order, || {
            format!("kept.list: expected one name after {after:?}, found {:?}", page.kept)
        })?;
        match (page.more, page.kept.is_empty()) {
            (true, true) => return fail(rules::KEPT, "kept.list: `more`, and no name"),
            (more, _) => {
                all.extend(page.kept);
                if !more {
                    return Ok(all);
                }
            }
        }
    }
}

fn is_listed(kit: &Subject, name: &Name) -> Outcome<bool> {
    Ok(listed(kit)?.iter().any(|kept| kept.name == *name))
}

pub(super) fn life(kit: &Subject) -> Outcome {
    let name = kit.create("kept")?;
    put_file(kit, &name)?;
    let delete = || kit.call(DeleteKept::new(name.clone())).map(drop);
    ensure(rules::KEPT, !is_listed(kit, &name)?, || "kept.list: it has a volume".to_owned())?;
    not_found(rules::KEPT, "kept.delete of a volume", delete())?;
    keeps_file(kit, &name, rules::KEPT, "a file of a volume after kept.delete")?;

    let forget = DeleteVolume::new(name.clone()).reference_only(true);
    done(rules::KEEP, "volume.delete with reference_only", kit.call(forget))?;
    kit.restart()?;
    ensure(rules::KEPT, is_listed(kit, &name)?, || format!("kept.list: {name}, which is kept, is missing"))?;
    done(rules::KEPT, "kept.delete", delete())?;
    ensure(rules::KEPT, !is_listed(kit, &name)?, || "kept.list: it has what was deleted".to_owned())?;
    not_found(rules::KEPT, "kept.delete, repeated", delete())?;
    done(rules::KEPT, "volume.create of a name whose data was deleted", kit.call(kit.create_request(&name)))?;
    let left = kit.mount(&name)?.join("file").exists();
    kit.unmount(&name)?;
    ensure(rules::KEPT, !left, || "a file is left of the data that kept.delete deleted".to_owned())
}
