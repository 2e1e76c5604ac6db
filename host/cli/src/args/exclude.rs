//! What is left out of a backup.

use clap::Args;

/// What is left out of a backup of files, beside what the daemon's settings leave out.
#[derive(Debug, Args)]
pub struct ExcludeArgs {
    /// Leave out what matches this pattern, as a .gitignore has it; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Of directories that have a file of this name keep only that file; may be given several times
    #[arg(long, value_name = "NAME")]
    pub exclude_if_present: Vec<String>,
    /// Of directories with a valid CACHEDIR.TAG keep only that file
    #[arg(long)]
    pub exclude_caches: bool,
    /// Follow the patterns in .convoyignore in the root of the volume, which belongs to its containers
    #[arg(long)]
    pub allow_convoyignore: bool,
}
