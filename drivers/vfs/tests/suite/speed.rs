//! Figures, by hand: `cargo nextest run -p convoy-driver-vfs --run-ignored only --no-capture speed`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::support::{Bed, builtin};

#[test]
#[ignore = "measures"]
fn speed() {
    let bed = Bed::on(builtin, Path::new(env!("CARGO_TARGET_TMPDIR")));
    let client = bed.open();
    let mut cycles: Vec<_> = (0..300)
        .map(|n| {
            let start = Instant::now();
            client.create(&format!("vol{n}")).unwrap();
            client.delete(&format!("vol{n}"), true).unwrap();
            start.elapsed()
        })
        .collect();
    cycles.sort();
    println!("create + remove: p50 {:?}, p90 {:?}, p99 {:?}", cycles[150], cycles[270], cycles[297]);

    client.create("data").unwrap();
    for n in 0..4000 {
        let dir = bed.volume("data").join(format!("d{}", n % 40));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{n}")), vec![u8::try_from(n % 251).unwrap(); 128 << 10]).unwrap();
    }
    rustix::fs::syncfs(fs::File::open(bed.volumes()).unwrap()).unwrap();
    let measure = |what: &str, name: &str| {
        let start = Instant::now();
        client.snapshot("data", name).unwrap();
        println!("{what}: {:?}", start.elapsed());
    };
    measure("first snapshot of 500 MiB in 4,000 files", "s1");
    measure("again, unchanged", "s2");
    measure("again, unchanged", "s3");
    for n in 0..40 {
        fs::write(bed.volume("data").join(format!("d{n}/f{n}")), vec![0; 128 << 10]).unwrap();
    }
    measure("after 1 % changed", "s4");
    let start = Instant::now();
    client.delete("data", false).unwrap();
    println!("delete: {:?}", start.elapsed());

    for n in 0..10_000 {
        let record =
            format!("{{\"Name\":\"many{n}\",\"Path\":\"{}\"}}", bed.volume(&format!("many{n}")).display());
        fs::write(bed.config().join(format!("vfs_volume_many{n}.json")), record).unwrap();
        fs::create_dir(bed.volume(&format!("many{n}"))).unwrap();
    }
    let start = Instant::now();
    assert_eq!(client.list().volumes.len(), 10_000);
    println!("list of 10,000: {:?}", start.elapsed());
}
