//! Deletes backups and snapshots of a schedule that its rules no longer keep.
//!
//! Backups are complete: each has a list of all its data, and what several use is deleted with the last of
//! them. So no backup needs another, and the only one that must stay is the last good one. A snapshot,
//! though, is needed by the next backup to find what changed, and stays as long as a backup of it is the
//! newest at a destination. What was made while the clock was ahead is kept until its time has come: it is
//! the
//! newest of nothing, and deletes nothing.

use super::plan::Plan;
use super::service::{Inner, Schedules};
use crate::backups::{PINNED, own_destination, said};
use convoy_client::types::{BackupInfo, BackupRef, KeptItem, ListBackups, RemovedItem, RetainReport};
use convoy_driver_sdk::{Name, Timestamp};
use convoy_drivers::RequestContext;
use convoy_schedule::config::Kind;
use convoy_schedule::keep::{Candidate, Plan as Decided, Protection, Rules, is_ahead};
use convoy_schedule::naming::snapshot_time;
use convoy_volumes::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

impl Schedules {
    /// Applies the rules of a schedule to what there is, and deletes nothing with `dry_run`.
    ///
    /// # Errors
    /// As [`Self::run_now`]; those of the store.
    pub async fn retain(
        &self,
        schedule: &str,
        volume: Option<&str>,
        dry_run: bool,
        request_id: &str,
    ) -> Result<RetainReport> {
        let plan = self.0.plan(schedule)?;
        let mut report = RetainReport { dry_run, ..RetainReport::default() };
        for volume in self.0.chosen(&plan, volume).await? {
            let (decided, failed) = self.0.retain(&plan, &volume, dry_run, request_id).await;
            report.kept.extend(decided.kept);
            report.removed.extend(decided.removed);
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(report)
    }
}

impl Inner {
    /// Applies the rules to what there is of a volume. Answers what was decided, and what could not be done.
    pub(super) async fn retain(
        &self,
        plan: &Plan,
        volume: &Name,
        dry_run: bool,
        request_id: &str,
    ) -> (RetainReport, Option<Error>) {
        let mut report = RetainReport { dry_run, ..RetainReport::default() };
        let mut bases = self.bases(volume);
        let mut failed = None;
        let now = Timestamp::now();
        let backups = match self.backups_of(plan, volume, "", &RequestContext::new(request_id)).await {
            Ok(backups) => backups,
            Err(error) => {
                failed = Some(error);
                BTreeMap::new()
            }
        };
        for newest in [newest(&backups, None), newest(&backups, Some(now))].into_iter().flatten() {
            bases.insert(newest.1.snapshot_name.clone());
        }
        if let Some(rules) = &plan.schedule.keep_backups {
            let decided = decide_backups(&plan.schedule.name, volume, rules, &backups, now);
            note(&mut report, "backup", volume, &decided, &backups);
            if !dry_run && let Err(error) = self.delete_backups(plan, &decided.remove, request_id).await {
                failed = failed.or(Some(error));
            }
        }
        if let Some(rules) = &plan.schedule.keep_snapshots {
            let decided = rules.apply(&self.snapshots_of(plan, volume, &bases, now));
            note(&mut report, "snapshot", volume, &decided, &BTreeMap::new());
            if !dry_run
                && let Err(error) = self.delete_snapshots(plan, volume, &decided.remove, request_id).await
            {
                failed = failed.or(Some(error));
            }
        }
        (report, failed)
    }

    /// Snapshots that the next backup of a volume needs, by any schedule.
    fn bases(&self, volume: &Name) -> BTreeSet<String> {
        let plans: Vec<_> = self.state.lock().plans.values().cloned().collect();
        let base = |plan: &std::sync::Arc<Plan>| {
            plan.memory.volumes.lock().records.get(volume.as_str())?.base.clone()
        };
        plans.iter().filter_map(base).chain(self.services.backups.bases(volume)).collect()
    }

    /// Lists the backups of a volume, or of one of its snapshots, at the schedule's destination that the
    /// schedule may act upon. For those of one that stores in the clear no key vouches.
    pub(super) async fn backups_of(
        &self,
        plan: &Plan,
        volume: &Name,
        snapshot: &str,
        call: &RequestContext,
    ) -> Result<BTreeMap<String, BackupInfo>> {
        if plan.schedule.kind != Kind::Backup {
            return Ok(BTreeMap::new());
        }
        let request = ListBackups {
            url: self.destination(plan, volume),
            endpoint: plan.schedule.endpoint.clone(),
            volume_name: volume.to_string(),
            snapshot_name: snapshot.to_owned(),
            encryption_key_file: plan.key_file(),
            passphrase_file: plan.passphrase_file(),
            ..ListBackups::default()
        };
        match plan.schedule.unencrypted {
            true => self.services.backups.list_if_any(&request, call).await,
            false => self.services.backups.list_vouched(&request, call).await,
        }
    }

    /// Where the backups of a volume are: the driver's own place unless the schedule says.
    fn destination(&self, plan: &Plan, volume: &Name) -> String {
        match (plan.schedule.destination.as_str(), self.services.volumes.get(volume)) {
            ("", Some(entry)) => own_destination(&entry.driver),
            (destination, _) => destination.to_owned(),
        }
    }

    fn snapshots_of(
        &self,
        plan: &Plan,
        volume: &Name,
        bases: &BTreeSet<String>,
        now: Timestamp,
    ) -> Vec<Candidate<String>> {
        let made = plan
            .memory
            .volumes
            .lock()
            .records
            .get(volume.as_str())
            .map(|record| record.snapshots.clone())
            .unwrap_or_default();
        let there = |name: &str| self.services.volumes.snapshot(name, Some(volume)).is_ok();
        made.into_iter()
            .filter(|made| there(&made.name))
            .map(|made| Candidate {
                protected: match is_ahead(made.at, now) {
                    true => Some(Protection::Ahead),
                    false => bases.contains(&made.name).then_some(Protection::Base),
                },
                id: made.name,
                at: made.at,
            })
            .collect()
    }

    async fn delete_backups(&self, plan: &Plan, urls: &[String], request_id: &str) -> Result<()> {
        for url in urls {
            let backup = BackupRef {
                url: url.clone(),
                endpoint: plan.schedule.endpoint.clone(),
                encryption_key_file: plan.key_file(),
                passphrase_file: plan.passphrase_file(),
                details: false,
            };
            tracing::info!(url, "deleting a backup that is no longer kept");
            let (backups, call) = (&self.services.backups, RequestContext::new(request_id));
            if !backups.delete_listed(&backup, plan.schedule.unencrypted, &call).await? {
                tracing::info!(url, "it was pinned, or deleted by somebody else, meanwhile");
            }
        }
        Ok(())
    }

    /// Deletes snapshots, and forgets those that are gone.
    async fn delete_snapshots(
        &self,
        plan: &Plan,
        volume: &Name,
        names: &[String],
        request_id: &str,
    ) -> Result<()> {
        let volumes = &self.services.volumes;
        let mut failed = None;
        for name in names {
            tracing::info!(snapshot = name, "deleting a snapshot that is no longer kept");
            match volumes.delete_snapshot(name, Some(volume), &RequestContext::new(request_id)).await {
                Ok(()) | Err(Error::SnapshotNotFound(_) | Error::SnapshotOfAnother { .. }) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let forgotten = self.remember(plan, volume, |record| {
            record.snapshots.retain(|made| volumes.snapshot(&made.name, Some(volume)).is_ok());
        });
        self.log_unsaved(plan, volume, forgotten.await.err());
        failed.map_or(Ok(()), Err)
    }
}

/// Those the schedule made are told by the names of their snapshots, also in a store that outlived its host.
fn decide_backups(
    schedule: &str,
    volume: &Name,
    rules: &Rules,
    backups: &BTreeMap<String, BackupInfo>,
    now: Timestamp,
) -> Decided<String> {
    let newest = newest(backups, Some(now)).map(|(url, _)| url);
    let candidates: Vec<Candidate<String>> = backups
        .iter()
        .map(|(url, backup)| {
            let ours = snapshot_time(schedule, volume, &backup.snapshot_name);
            let at = ours.unwrap_or_else(|| created(backup));
            let protected = match ours {
                _ if backup.extra.contains_key(PINNED) => Some(Protection::Pinned),
                None => Some(Protection::NotOurs),
                Some(_) if is_ahead(at.max(created(backup)), now) => Some(Protection::Ahead),
                Some(_) if Some(url) == newest => Some(Protection::LastGood),
                Some(_) => None,
            };
            Candidate { id: url.clone(), at, protected }
        })
        .collect();
    rules.apply(&candidates)
}

/// The newest backup; with `until`, of those that were made by then.
fn newest(
    backups: &BTreeMap<String, BackupInfo>,
    until: Option<Timestamp>,
) -> Option<(&String, &BackupInfo)> {
    let made =
        backups.iter().filter(|(_, backup)| until.is_none_or(|until| !is_ahead(created(backup), until)));
    made.max_by_key(|(_, backup)| created(backup))
}

/// When a backup was made; one that does not say is as old as can be.
fn created(backup: &BackupInfo) -> Timestamp {
    Timestamp::parse(&backup.created_time).unwrap_or_else(|_| Timestamp::from_unix(i64::MIN))
}

fn note(
    report: &mut RetainReport,
    what: &str,
    volume: &Name,
    decided: &Decided<String>,
    backups: &BTreeMap<String, BackupInfo>,
) {
    report.kept.extend(decided.keep.iter().map(|kept| {
        let said = backups.get(&kept.id).map(said).unwrap_or_default();
        KeptItem {
            what: what.to_owned(),
            volume: volume.to_string(),
            name: kept.id.clone(),
            time: kept.at.to_string(),
            reasons: kept.reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            tags: said.tags,
            note: said.note,
            keep_until: said.keep_until,
        }
    }));
    report.removed.extend(decided.remove.iter().map(|name| RemovedItem {
        what: what.to_owned(),
        volume: volume.to_string(),
        name: name.clone(),
    }));
}
