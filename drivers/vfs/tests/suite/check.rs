//! What a check finds, and what it repairs.

use std::fs;

use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::protocol::{Check, Finding, Severity};

use crate::support::{Bed, Carrier, Client, refused};

fn check(client: &Client, repair: bool) -> Vec<Finding> {
    let mut findings = client.call(Check::new().repair(repair)).unwrap().findings;
    // How much room the machine has is its own affair.
    findings.retain(|finding| !finding.message.ends_with("are free"));
    findings
}

pub(crate) fn what_is_well_is_not_told(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    assert_eq!(check(&client, false), []);
    client.create("vol1").unwrap();
    client.create_with("image", Some(1 << 20), &[("vm", "true")]).unwrap();
    client.snapshot("vol1", "snap").unwrap();
    client.create("kept").unwrap();
    client.snapshot("kept", "snap").unwrap();
    client.delete("kept", true).unwrap();
    fs::create_dir(bed.volumes().join("lost+found")).unwrap();
    let (prepared, _) = client.prepare("restoring", &[]).unwrap();
    assert_eq!(check(&client, true), []);
    drop(prepared);
    assert_eq!(client.get("vol1").unwrap().snapshots.len(), 1);
}

pub(crate) fn what_is_wrong_is_told_and_what_is_safe_repaired(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let client = bed.open();
    for volume in ["gone", "damaged", "snapped", "forgotten"] {
        client.create(volume).unwrap();
    }
    client.create_with("image", Some(1 << 20), &[("vm", "true")]).unwrap();
    client.snapshot("snapped", "lost").unwrap();
    client.delete("forgotten", true).unwrap();
    fs::remove_dir(bed.volume("gone")).unwrap();
    fs::remove_dir(bed.volume("forgotten")).unwrap();
    fs::write(bed.config().join("vfs_volume_damaged.json"), "{").unwrap();
    fs::write(bed.config().join("vfs_volume_x.json"), "{}").unwrap();
    fs::remove_dir_all(bed.config().join("snapshots/snapped/lost")).unwrap();
    fs::create_dir_all(bed.config().join("snapshots/snapped/stray")).unwrap();
    fs::create_dir(bed.volume("stranger")).unwrap();
    fs::write(bed.volume("stranger").join("file"), b"dear to somebody").unwrap();
    fs::File::options()
        .write(true)
        .open(bed.volume("image").join("disk.img"))
        .unwrap()
        .set_len(2 << 20)
        .unwrap();
    fs::write(bed.config().join(".convoy-1-1.tmp"), "half").unwrap();
    fs::create_dir_all(bed.config().join("work/host-1-1/volume.0.half")).unwrap();

    let config = bed.config().display().to_string();
    let misnamed = bed.config().join("vfs_volume_x.json").display().to_string();
    let expected = [
        ("unfinished work", Severity::Warning, true),
        (&*config, Severity::Warning, true),
        (&*misnamed, Severity::Warning, false),
        ("volume damaged", Severity::Error, false),
        ("volume gone", Severity::Error, false),
        ("volume image", Severity::Warning, true),
        ("volume snapped", Severity::Error, false),
        ("kept volume forgotten", Severity::Warning, true),
        ("volume stranger", Severity::Warning, false),
        ("snapshot stray of snapped", Severity::Warning, false),
    ];
    let found = check(&client, false);
    let told: Vec<_> = found.iter().map(|one| (&*one.subject, one.severity, one.repairable)).collect();
    assert_eq!(told, expected, "{found:#?}");
    assert!(found.iter().all(|one| !one.repaired && (one.repairable || one.hint.is_some())), "{found:#?}");
    assert_eq!(check(&client, false), found, "looking changes nothing");

    let mended = check(&client, true);
    let safe = found.iter().filter(|one| one.repairable);
    for one in safe {
        assert!(mended.iter().any(|other| other.subject == one.subject && other.repaired), "{mended:#?}");
    }
    let left: Vec<_> = found.into_iter().filter(|one| !one.repairable).collect();
    assert_eq!(check(&client, false), left);
    assert_eq!(client.get("image").unwrap().size, 2 << 20);
    assert_eq!(fs::read(bed.volume("stranger").join("file")).unwrap(), b"dear to somebody");

    fs::rename(bed.volumes(), bed.path().join("unmounted")).unwrap();
    assert_eq!(refused(client.call(Check::default())).kind, ErrorKind::Unavailable);
}
