//! What a driver keeps of volumes that were forgotten.

use crate::check::{Outcome, done, ensure, fail, io, refused, same};
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{DeleteKept, DeleteVolume, Kept, ListKept};
use convoy_driver_sdk::{ErrorKind, Name};

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
    let path = kit.mount(&name)?;
    io(rules::MOUNT, "write a file into the volume", std::fs::write(path.join("file"), "content"))?;
    kit.unmount(&name)?;
    let delete = || kit.call(DeleteKept::new(name.clone())).map(drop);
    ensure(rules::KEPT, !is_listed(kit, &name)?, || "kept.list: it has a volume".to_owned())?;
    refused(rules::KEPT, "kept.delete of a volume", &[ErrorKind::NotFound], delete())?;
    let path = kit.mount(&name)?;
    let content = std::fs::read_to_string(path.join("file")).unwrap_or_default();
    same(rules::KEPT, "a file of a volume after kept.delete", &"content".to_owned(), &content)?;
    kit.unmount(&name)?;

    let forget = DeleteVolume::new(name.clone()).reference_only(true);
    done(rules::KEEP, "volume.delete with reference_only", kit.call(forget))?;
    kit.restart()?;
    ensure(rules::KEPT, is_listed(kit, &name)?, || format!("kept.list: {name}, which is kept, is missing"))?;
    done(rules::KEPT, "kept.delete", delete())?;
    ensure(rules::KEPT, !is_listed(kit, &name)?, || "kept.list: it has what was deleted".to_owned())?;
    refused(rules::KEPT, "kept.delete, repeated", &[ErrorKind::NotFound], delete())?;
    done(rules::KEPT, "volume.create of a name whose data was deleted", kit.call(kit.create_request(&name)))?;
    let left = kit.mount(&name)?.join("file").exists();
    kit.unmount(&name)?;
    ensure(rules::KEPT, !left, || "a file is left of the data that kept.delete deleted".to_owned())
}
