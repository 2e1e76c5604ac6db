//! Commands about volumes.

use super::{Session, name, name_or_empty, path};
use crate::args::{
    CreateArgs, DeleteArgs, MountArgs, NameArgs, ResizeArgs, RetainArgs, RetainPolicy, UmountArgs,
};
use crate::error::{Failure, Result};
use crate::output::views;
use convoy_client::Error;
use convoy_client::client::Call;
use convoy_client::types::{
    CreateVolume, DeleteKept, DeleteVolume, MountVolume, Pairs, ResizeVolume, RetainVolume, UnmountVolume,
    VolumeRef,
};

impl Session<'_> {
    pub(super) async fn create(&mut self, args: CreateArgs) -> Result<()> {
        let mut options = options(args.options)?;
        if args.copy {
            options.insert("copy".to_owned(), "true".to_owned());
        }
        let request = CreateVolume {
            name: name_or_empty(args.name)?,
            driver_name: args.driver.unwrap_or_default(),
            size: args.size.unwrap_or_default(),
            backup_url: args.backup.unwrap_or_default(),
            endpoint: args.s3_endpoint.unwrap_or_default(),
            driver_volume_id: args.id.unwrap_or_default(),
            kind: args.kind.unwrap_or_default(),
            iops: args.iops.unwrap_or_default(),
            prepare_for_vm: args.vm,
            verbose: self.verbose,
            options,
            snapshot_name: String::new(),
            encryption_key_file: path(args.key.encryption_key_file.as_deref())?,
            passphrase_file: path(args.key.passphrase_file.as_deref())?,
            allow_unencrypted: args.allow_unencrypted,
            allow_losses: args.allow_losses,
        };
        let call = Call::create_volume(&request);
        // People are told if the size is not enforced.
        let told = request.size > 0 && self.output.is_for_people();
        let answer = if request.backup_url.is_empty() && !told {
            self.text(call).await?
        } else {
            self.follow(call, &args.progress).await?
        };
        self.name_or(&answer, views::volume)
    }

    /// Deletes what can be deleted, also after one that cannot.
    pub(super) async fn delete(&mut self, args: DeleteArgs) -> Result<()> {
        let names = args.names.into_iter().map(name).collect::<Result<Vec<_>>>()?;
        let (total, mut failed, mut last) = (names.len(), 0_usize, None);
        for name in names {
            let call = if args.kept {
                let driver_name = args.driver.clone().unwrap_or_default();
                Call::delete_kept(&DeleteKept { volume_name: name.clone(), driver_name })
            } else {
                let request = DeleteVolume { volume_name: name.clone(), reference_only: args.reference };
                Call::delete_volume(&request)
            };
            match self.text(call).await {
                Ok(_) if args.reference => {
                    self.output.done(format_args!("Forgot {name}; its data is kept"))?
                }
                Ok(_) if args.kept => self.output.done(format_args!("Deleted what was kept of {name}"))?,
                Ok(_) => self.output.done(format_args!("Deleted {name}"))?,
                Err(error) => {
                    failed += 1;
                    if !self.output.is_for_people() {
                        self.output.line(format_args!("Error deleting {name}: {}", error.for_scripts()))?;
                    } else if total > 1 {
                        self.output.finish()?;
                        self.output.fail(&of_one(&name, &error));
                    }
                    let unreachable = !matches!(error, Failure::Call(Error::Server(_)));
                    last = Some(error);
                    if unreachable {
                        break;
                    }
                }
            }
        }
        match last {
            None => Ok(()),
            Some(_) if self.output.is_for_people() && total > 1 => Err(Failure::Other {
                message: format!("{failed} of {total} volumes could not be deleted"),
                hint: None,
            }),
            Some(error) => Err(error),
        }
    }

    pub(super) async fn mount(&mut self, args: MountArgs) -> Result<()> {
        let request = MountVolume {
            volume_name: name(args.name)?,
            mount_point: path(args.mountpoint.as_deref())?,
            verbose: self.verbose,
        };
        let answer = self.text(Call::mount_volume(&request)).await?;
        self.name_or(&answer, views::volume)
    }

    pub(super) async fn unmount(&mut self, args: UmountArgs) -> Result<()> {
        let request = UnmountVolume { volume_name: name(args.name)?, force: args.force };
        self.text(Call::unmount_volume(&request)).await?;
        self.output.done(format_args!("Unmounted {}", request.volume_name))
    }

    pub(super) async fn inspect(&mut self, args: NameArgs) -> Result<()> {
        let request = VolumeRef { volume_name: name(args.name)?, details: self.output.is_for_people() };
        self.show(Call::inspect_volume(&request), views::volume).await
    }

    pub(super) async fn resize(&mut self, args: ResizeArgs) -> Result<()> {
        let request = ResizeVolume { volume_name: name(args.name)?, size: args.size, verbose: self.verbose };
        let answer = self.text(Call::resize_volume(&request)).await?;
        self.name_or(&answer, views::volume)
    }

    pub(super) async fn retain(&mut self, args: RetainArgs) -> Result<()> {
        let (policy, what) = match args.policy {
            RetainPolicy::Keep => ("keep", "is kept"),
            RetainPolicy::Delete => ("delete", "is deleted"),
            RetainPolicy::Default => ("default", "is treated as the daemon's settings say"),
        };
        let request = RetainVolume { volume_name: name(args.name)?, policy: policy.to_owned() };
        self.text(Call::retain_volume(&request)).await?;
        let volume = &request.volume_name;
        self.output.done(format_args!("When Docker removes {volume}, its data {what}"))
    }

    /// Shows an answer that is a name or, with `--verbose`, JSON.
    pub(super) fn name_or<T: serde::de::DeserializeOwned>(
        &mut self,
        answer: &str,
        view: fn(&T) -> String,
    ) -> Result<()> {
        if self.verbose { self.output.answer(answer, view) } else { self.output.line(answer) }
    }
}

fn of_one(name: &str, error: &Failure) -> Failure {
    Failure::Other { message: format!("{name}: {}", error.for_people()), hint: error.hint() }
}

/// Refuses an option given twice: which one counts would be a guess.
pub(super) fn options(given: Vec<(String, String)>) -> Result<Pairs> {
    let mut options = Pairs::new();
    for (key, value) in given {
        if options.contains_key(&key) {
            return Err(Failure::Other {
                message: format!("the option {key} is given twice"),
                hint: Some(format!("say --opt {key}=... once")),
            });
        }
        options.insert(key, value);
    }
    Ok(options)
}
