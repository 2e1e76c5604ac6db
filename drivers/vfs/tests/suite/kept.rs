//! What deletes by reference kept: it is told and can be deleted, and nothing else with it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use convoy_driver_sdk::protocol::{DeleteKept, Kept, ListKept};
use convoy_driver_sdk::{ErrorKind, Result};

use crate::support::{Bed, Carrier, Client, name, refused};

const SIZE: usize = 1 << 20;

fn kept(client: &Client) -> Vec<Kept> {
    let listed = client.call(ListKept::new().sizes(true)).unwrap();
    assert!(!listed.more);
    listed.kept
}

fn names(client: &Client) -> Vec<String> {
    kept(client).into_iter().map(|kept| kept.name.to_string()).collect()
}

fn delete(client: &Client, volume: &str) -> Result<()> {
    client.call(DeleteKept::new(name(volume))).map(drop)
}

/// Bytes that no file system makes fewer of.
fn write(file: &Path) {
    let mut state = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(SIZE)
    .collect();
    fs::write(file, bytes).unwrap();
    fs::File::open(file).unwrap().sync_all().unwrap();
}

pub(crate) fn kept_data_is_told_with_its_size_and_deleted(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    for volume in ["big", "live", "small"] {
        client.create(volume).unwrap();
    }
    write(&bed.volume("big").join("file"));
    // What changed within the last tick of the clock would be copied twice.
    std::thread::sleep(Duration::from_millis(100));
    // The second shares the file with the first.
    client.snapshot("big", "one").unwrap();
    client.snapshot("big", "two").unwrap();
    assert_eq!(names(&client), Vec::<String>::new());
    client.delete("big", true).unwrap();
    client.delete("small", true).unwrap();

    let [big, small] = &kept(&client)[..] else { panic!("{:?}", kept(&client)) };
    assert_eq!((big.name.as_str(), big.snapshots, big.at_least), ("big", 2, false));
    let size = big.size.unwrap();
    assert!((2 * SIZE as u64..5 * SIZE as u64 / 2).contains(&size), "{size}");
    assert_eq!(big.path.as_deref(), Some(&*bed.volume("big")));
    assert!(big.since.is_some() && big.note.is_none(), "{big:?}");
    assert!(small.size.unwrap() < SIZE as u64, "{small:?}");
    let page = client.call(ListKept::new().limit(Some(1))).unwrap();
    assert_eq!((page.kept.len(), page.more, page.kept[0].size), (1, true, None));
    let page = client.call(ListKept::new().after(Some(name("big")))).unwrap();
    assert_eq!((page.kept[0].name.as_str(), page.more), ("small", false));

    delete(&client, "big").unwrap();
    assert_eq!(names(&client), ["small"]);
    assert_eq!(refused(delete(&client, "big")).kind, ErrorKind::NotFound);
    assert!(!bed.volume("big").exists() && !bed.config().join("snapshots/big").exists());
    assert_eq!(client.create("big").unwrap().snapshots, []);
    assert_eq!(fs::read_dir(bed.volume("big")).unwrap().count(), 0);
    client.delete("big", false).unwrap();
    client.delete("live", false).unwrap();
    delete(&client, "small").unwrap();
    client.close();
    assert_eq!(bed.own_files(), ["lock", "snapshots", "work"]);
}

pub(crate) fn a_volume_is_never_taken_for_kept_data(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    client.create("web").unwrap();
    fs::write(bed.volume("web").join("file"), "content").unwrap();
    client.delete("web", true).unwrap();
    let (record, old) = (bed.config().join("vfs_kept_web.json"), bed.path().join("old"));
    fs::copy(&record, &old).unwrap();
    client.create("web").unwrap();
    // As a create leaves it that is killed at its last step.
    fs::copy(&old, &record).unwrap();
    assert_eq!(names(&client), Vec::<String>::new());
    assert_eq!(refused(delete(&client, "web")).kind, ErrorKind::NotFound);
    // A record under another name, which would lead to the volume.
    fs::rename(&record, bed.config().join("vfs_kept_other.json")).unwrap();
    assert_eq!(refused(delete(&client, "other")).kind, ErrorKind::DataLoss);
    let told = kept(&client);
    assert!(told[0].note.as_deref().unwrap().contains("it says that it is web's"), "{told:?}");
    assert_eq!(fs::read_to_string(bed.volume("web").join("file")).unwrap(), "content");
    assert_eq!(client.names(), ["web"]);
}

pub(crate) fn data_of_others_is_never_deleted_with_what_is_kept(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    let outside = bed.path().join("outside");
    for dir in [&outside, &bed.volume("brought")] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("file"), "theirs").unwrap();
    }
    std::os::unix::fs::symlink(&outside, bed.volume("linked")).unwrap();
    for volume in ["brought", "linked"] {
        client.create(volume).unwrap();
        client.snapshot(volume, "snap").unwrap();
        // Whose it is is not forgotten when it is a volume again.
        client.delete(volume, true).unwrap();
        client.create(volume).unwrap();
        client.delete(volume, true).unwrap();
    }
    let told = kept(&client);
    let note = |at: usize| told[at].note.as_deref().unwrap_or_default().to_owned();
    assert!(note(0).contains("was not made by convoy"), "{told:?}");
    assert!(note(1).starts_with(&format!("a link to {}", outside.display())), "{told:?}");

    let error = refused(delete(&client, "brought"));
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.hint.unwrap().contains("`convoy create brought`, `convoy delete brought`"));
    assert_eq!(fs::read_to_string(bed.volume("brought").join("file")).unwrap(), "theirs");
    // Moved away, the rest is convoy's.
    fs::rename(bed.volume("brought"), bed.path().join("theirs")).unwrap();
    delete(&client, "brought").unwrap();
    delete(&client, "linked").unwrap();
    assert!(!bed.volume("linked").is_symlink());
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "theirs");
    assert_eq!(names(&client), Vec::<String>::new());
    client.close();
    assert_eq!(bed.own_files(), ["lock", "snapshots", "work"]);
}
