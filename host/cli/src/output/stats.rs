//! What people see of what backups take.

use super::table::{Width, fitted, printable, row};
use super::values::{bytes, counted, shell};
use convoy_client::types::{StatsReport, VolumeStats};

/// Shows what `convoy backup stats` answers.
pub fn report(report: &StatsReport, width: Width) -> String {
    let mut text = String::new();
    if report.volumes.is_empty() {
        text += "There are no backups here.\n";
    } else {
        let mut rows: Vec<_> = report.volumes.iter().map(|volume| line(&volume.volume, volume)).collect();
        if report.volumes.len() > 1 {
            rows.push(line("all", &report.total));
        }
        text += &fitted(&HEADER, rows, &["VOLUME"], width);
        text += &sentence(&report.total);
    }
    if report.sealed > 0 {
        text += &format!(
            "The chunks of {} were not counted: name the key (--encryption-key-file, --passphrase-file).\n",
            volumes(report.sealed)
        );
    }
    if report.total.chunks_estimated {
        text += "CHUNKS is told from a random share of them: there was no memory for all of them.\n";
    }
    if report.total.unmeasured > 0 {
        text += &format!(
            "LOGICAL is without {} that convoy 0.5 kept as archives, which do not tell their size.\n",
            backups(report.total.unmeasured)
        );
    }
    for line in &report.skipped {
        text += &format!("Left out: {}\n", printable(line));
    }
    for problem in &report.problems {
        let of = match problem.backup_url.as_str() {
            "" => String::new(),
            url => format!("{}: ", shell(url)),
        };
        text += &format!("Not counted: {}\n", printable(&format!("{of}{}", problem.message)));
    }
    if report.more_problems > 0 {
        text += &format!("Not counted: {} more\n", report.more_problems);
    }
    text
}

const HEADER: [&str; 10] = [
    "VOLUME",
    "BACKUPS",
    "FILES",
    "LOGICAL",
    "STORED",
    "DEDUP",
    "COMPRESSION",
    "CHUNKS",
    "PACKS",
    "UNNEEDED",
];

fn line(name: &str, stats: &VolumeStats) -> Vec<String> {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"));
    let about = if stats.chunks_estimated { "~" } else { "" };
    row![
        name,
        stats.backups,
        stats.files,
        bytes(stats.logical_bytes),
        bytes(stats.stored_bytes),
        ratio(stats.dedup_ratio),
        ratio(stats.compression_ratio),
        stats.chunks.map_or_else(dash, |chunks| format!("{about}{chunks}")),
        stats.packs,
        stats.unneeded_bytes.map_or_else(dash, bytes),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

/// What it comes to.
fn sentence(total: &VolumeStats) -> String {
    let of_all = format!("{} in {}", bytes(total.logical_bytes), backups(total.backups));
    match total.unneeded_bytes {
        Some(0) | None => format!("\n{of_all} take {}.\n", bytes(total.stored_bytes)),
        Some(unneeded) => format!(
            "\n{of_all} take {}; of that no backup needs {}, which `convoy backup prune` removes.\n",
            bytes(total.stored_bytes),
            bytes(unneeded)
        ),
    }
}

fn backups(number: u64) -> String {
    counted(usize::try_from(number).unwrap_or(usize::MAX), "backup")
}

fn volumes(number: u64) -> String {
    counted(usize::try_from(number).unwrap_or(usize::MAX), "volume")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(name: &str) -> VolumeStats {
        VolumeStats {
            volume: name.to_owned(),
            backups: 3,
            files: 30,
            logical_bytes: 4096,
            stored_bytes: 1024,
            packs: 2,
            chunks: Some(7),
            dedup_ratio: Some(3.0),
            compression_ratio: Some(1.25),
            unneeded_bytes: Some(0),
            ..VolumeStats::default()
        }
    }

    fn cells(line: &str) -> Vec<&str> {
        line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn a_line_for_each_volume_and_one_for_all() {
        let total = VolumeStats { backups: 6, unneeded_bytes: Some(2048), ..stats("") };
        let both = StatsReport { volumes: vec![stats("db"), stats("web")], total, ..StatsReport::default() };
        let text = anstream::adapter::strip_str(&report(&both, None)).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(cells(lines[0]), HEADER);
        assert_eq!(
            cells(lines[1]),
            ["db", "3", "30", "4.00 KiB", "1.00 KiB", "3.00", "1.25", "7", "2", "0 B"]
        );
        assert!(lines[3].starts_with("all ") && lines[3].ends_with("2.00 KiB"), "{text}");
        assert!(text.contains("of that no backup needs 2.00 KiB, which `convoy backup prune` removes"));
        assert_eq!(report(&StatsReport::default(), None), "There are no backups here.\n");
    }

    #[test]
    fn what_is_not_known_and_why_is_told() {
        let sealed = VolumeStats {
            chunks: None,
            dedup_ratio: None,
            unneeded_bytes: None,
            unmeasured: 1,
            ..stats("db")
        };
        let problem = convoy_client::types::Problem {
            backup_url: "vfs:///b?backup=b1&volume=db".to_owned(),
            message: "damaged\u{1b}[2J".to_owned(),
            ..convoy_client::types::Problem::default()
        };
        let one = StatsReport {
            volumes: vec![sealed.clone()],
            total: sealed,
            sealed: 1,
            problems: vec![problem],
            more_problems: 4,
            skipped: vec!["volume x is in use".to_owned()],
        };
        let text = anstream::adapter::strip_str(&report(&one, None)).to_string();
        assert!(cells(text.lines().nth(1).unwrap()).ends_with(&["1.25", "-", "2", "-"]), "{text}");
        for expected in [
            "The chunks of 1 volume were not counted",
            "without 1 backup that convoy 0.5 kept",
            "Left out: volume x is in use\n",
            "Not counted: 'vfs:///b?backup=b1&volume=db': damaged\u{fffd}[2J\n",
            "Not counted: 4 more\n",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
