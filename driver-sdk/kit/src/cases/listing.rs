//! Cases of listings.

use crate::check::{Outcome, done, ensure, fail, same, skip};
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{ListVolumes, ListedVolumes};

fn list(
    kit: &Subject,
    after: Option<&Name>,
    limit: Option<u32>,
    generation: Option<String>,
) -> Outcome<ListedVolumes> {
    let request = ListVolumes::new().after(after.cloned()).limit(limit).generation(generation);
    done(rules::LIST, &format!("volume.list after {after:?} of at most {limit:?}"), kit.call(request))
}

pub(super) fn pages(kit: &Subject) -> Outcome {
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(kit.create("page")?);
    }
    let whole = list(kit, None, None, None)?;
    ensure(rules::LIST, !whole.more, || "volume.list without limit: expected all, found more".to_owned())?;
    let names: Vec<_> = whole.volumes.iter().map(|volume| volume.name.clone()).collect();
    let sorted = names.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str());
    ensure(rules::LIST, sorted, || {
        format!("volume.list: expected names sorted by their bytes, each once, found {names:?}")
    })?;
    if let Some(missing) = made.iter().find(|name| !names.contains(name)) {
        return fail(rules::LIST, format!("volume.list: {missing} is missing"));
    }
    for limit in [1, 2, 5] {
        let mut paged: Vec<Name> = Vec::new();
        loop {
            let page = list(kit, paged.last(), Some(limit), None)?;
            let got = page.volumes.len();
            ensure(rules::LIST, got <= usize::try_from(limit).unwrap_or(usize::MAX), || {
                format!("volume.list of at most {limit}: found {got} volumes")
            })?;
            paged.extend(page.volumes.into_iter().map(|volume| volume.name));
            match (page.more, got) {
                (true, 0) => return fail(rules::LIST, "volume.list: `more`, and no volume"),
                (true, _) if paged.len() <= names.len() => {}
                _ => break,
            }
        }
        same(rules::LIST, &format!("the volumes in pages of {limit}"), &names, &paged)?;
    }
    // A name that is not there divides the others all the same.
    let between = Name::parse(format!("{}!", made[2]).replace('!', "-")).unwrap_or_else(|_| made[2].clone());
    let after: Vec<_> =
        list(kit, Some(&between), None, None)?.volumes.into_iter().map(|volume| volume.name).collect();
    let expected: Vec<_> = names.iter().filter(|name| name.as_str() > between.as_str()).cloned().collect();
    same(rules::LIST, &format!("volume.list after {between}, which does not exist"), &expected, &after)
}

pub(super) fn generation(kit: &Subject) -> Outcome {
    let first = kit.create("generation")?;
    let listed = list(kit, None, None, None)?;
    let Some(generation) = listed.generation else {
        return skip("it does not name the state of its volumes");
    };
    let again = list(kit, None, None, Some(generation.clone()))?;
    if again.unchanged {
        ensure(rules::GENERATION, again.volumes.is_empty(), || "unchanged, and volumes listed".to_owned())?;
    } else {
        let names = |listed: &ListedVolumes| {
            listed.volumes.iter().map(|volume| volume.name.clone()).collect::<Vec<_>>()
        };
        same(
            rules::GENERATION,
            "the volumes, when nothing changed",
            &names(&listed_again(kit)?),
            &names(&again),
        )?;
    }
    let changed = |what: &str, generation: &str| {
        let found = list(kit, None, None, Some(generation.to_owned()))?;
        ensure(
            rules::GENERATION,
            !found.unchanged && found.generation.as_deref() != Some(generation),
            || {
                format!(
                    "volume.list after {what}: expected another generation, found {:?} again",
                    found.generation
                )
            },
        )?;
        Ok(found.generation.unwrap_or_default())
    };
    let second = kit.create("generation")?;
    let now = changed("volume.create", &generation)?;
    done(rules::DELETE, "volume.delete", kit.delete(&second))?;
    let now = changed("volume.delete", &now)?;
    if kit.can(convoy_driver_sdk::protocol::Capability::Snapshots) {
        kit.snapshot(&first, "generation")?;
        changed("snapshot.create", &now)?;
    }
    // One of an earlier life is not that of another state, however many changes this life has had.
    let old = list(kit, None, None, None)?.generation.unwrap_or_default();
    kit.restart()?;
    for _ in 0..4 {
        let another = kit.create("generation")?;
        changed("a restart and a volume.create", &old)?;
        done(rules::DELETE, "volume.delete", kit.delete(&another))?;
        changed("a restart and a volume.delete", &old)?;
    }
    ensure(
        rules::GENERATION,
        !list(kit, None, None, Some("kit-no-such-generation".to_owned()))?.unchanged,
        || "a generation it never gave: expected the volumes, found unchanged".to_owned(),
    )
}

fn listed_again(kit: &Subject) -> Outcome<ListedVolumes> {
    list(kit, None, None, None)
}
