//! The kernel and the initramfs, made of this machine's packages.

use crate::{Error, Result, io};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the directory that the image is kept in, instead of the user's cache.
pub const CACHE_VARIABLE: &str = "CONVOY_VM_CACHE";

/// What the initramfs loads, with what it needs; the rest comes from the host's root later.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "9p",
    "9pnet_virtio",
    "overlay",
    "virtio_blk",
    "virtio-rng",
    "loop",
    "dm-thin-pool",
    "ext4",
];
/// The busybox commands of `init.sh`.
const APPLETS: &[&str] =
    &["sh", "mount", "mkdir", "insmod", "ln", "echo", "poweroff", "switch_root", "cat", "sleep"];
const INIT: &str = include_str!("init.sh");
const BUSYBOX: &str = "/bin/busybox";
const KERNEL_PACKAGE: &str = "linux-image-amd64";

/// What a machine boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The kernel that the machine boots.
    pub kernel: PathBuf,
    /// The initramfs with the tests and their tools.
    pub initrd: PathBuf,
}

impl Image {
    /// The image, made if it is not there or not of the present kernel, busybox and init.
    ///
    /// # Errors
    /// [`Error::Missing`] with the package to install, and others.
    pub fn prepare() -> Result<Self> {
        let version = kernel_version()?;
        let cache = cache()?;
        std::fs::create_dir_all(&cache).map_err(io(format_args!("make {}", cache.display())))?;
        let kernel = cache.join(format!("kernel-{version}"));
        if !kernel.exists() {
            let packed = PathBuf::from(format!("/boot/vmlinuz-{version}"));
            let image = std::fs::read(&packed).map_err(io(format_args!("read {}", packed.display())))?;
            // QEMU boots the unpacked kernel directly, which saves seconds of translated decompression.
            let bytes = match unpack(&image) {
                Ok(unpacked) => unpacked,
                Err(reason) => {
                    tracing::warn!(reason, "the kernel is booted as it is packed");
                    image
                }
            };
            publish(&kernel, |file| file.write_all(&bytes))?;
        }
        let stamp = stamp()?;
        let initrd = cache.join(format!("initrd-{version}-{stamp:016x}"));
        if !initrd.exists() {
            make_initrd(&version, &initrd)?;
        }
        Ok(Self { kernel, initrd })
    }
}

fn cache() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(CACHE_VARIABLE) {
        return Ok(dir.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    cache.map(|dir| dir.join("convoy/vm")).ok_or_else(|| Error::Missing {
        what: format!("a home directory, or {CACHE_VARIABLE},"),
        package: "(none: set it)",
    })
}

/// The newest kernel that has both an image and modules.
fn kernel_version() -> Result<String> {
    let missing =
        || Error::Missing { what: "a kernel in /boot and /lib/modules".to_owned(), package: KERNEL_PACKAGE };
    let mut versions: Vec<String> = std::fs::read_dir("/lib/modules")
        .map_err(|_| missing())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|version| Path::new("/boot").join(format!("vmlinuz-{version}")).exists())
        .collect();
    versions.sort_by_key(|version| numbers(version));
    versions.pop().ok_or_else(missing)
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Changes when the initramfs would: FNV-1a over what it is made of.
fn stamp() -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let busybox = std::fs::metadata(BUSYBOX)
        .map_err(|_| Error::Missing { what: BUSYBOX.to_owned(), package: "busybox-static" })?;
    let text = format!("{INIT} {MODULES:?} {APPLETS:?} {} {}", busybox.size(), busybox.mtime());
    Ok(text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// Takes the kernel out of its boot image: the x86 boot protocol, 2.08 and later, says where it is.
fn unpack(image: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let setup_sectors = usize::from(*image.get(0x1f1).ok_or("it is too short")?);
    let offset = word(0x248).ok_or("it is too short")? + (setup_sectors + 1) * 512;
    let length = word(0x24c).ok_or("it is too short")?;
    let packed = image.get(offset..offset + length).ok_or("its payload is cut off")?;
    let fail = |error: std::io::Error| error.to_string();
    let mut unpacked = Vec::new();
    match packed {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => unpacked = pipe("xz", &["-dcq", "--single-stream"], packed)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::Decoder::new(packed).map_err(fail)?.single_frame();
            std::io::copy(&mut { decoder }, &mut unpacked).map_err(fail)?;
        }
        [0x1f, 0x8b, ..] => {
            std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut unpacked).map_err(fail)?;
        }
        _ => return Err("its compression is not known here".to_owned()),
    }
    if unpacked.starts_with(b"\x7fELF") { Ok(unpacked) } else { Err("its payload is no ELF file".to_owned()) }
}

fn pipe(program: &str, args: &[&str], input: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // It may stop reading at the end of its stream; what matters is what it writes.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(output.stdout) } else { Err(format!("{program}: {}", output.status)) }
}

fn make_initrd(version: &str, path: &Path) -> Result<()> {
    let staging = tempfile::tempdir().map_err(io("make a temporary directory"))?;
    let at = |name: &str| staging.path().join(name);
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).map_err(io(format_args!("write {name}")));
    for dir in ["bin", "proc", "sys", "dev", "modules", "host", "memory", "root"] {
        std::fs::create_dir(at(dir)).map_err(io(format_args!("make {dir}")))?;
    }
    write("init", INIT.as_bytes())?;
    executable(&at("init"))?;
    std::fs::copy(BUSYBOX, at("bin/busybox")).map_err(io(format_args!("copy {BUSYBOX}")))?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", at(&format!("bin/{applet}"))).map_err(io("make a link"))?;
    }
    let mut order = String::new();
    for file in modules(version)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        std::fs::copy(&file, at(&format!("modules/{name}")))
            .map_err(io(format_args!("copy {}", file.display())))?;
        order.push_str(&name);
        order.push('\n');
    }
    write("modules/order", order.as_bytes())?;
    let archive = run(
        "cpio",
        "cpio",
        Command::new("sh")
            .current_dir(staging.path())
            .args(["-c", "find . -print0 | cpio --null --create --format=newc --quiet"]),
    )?;
    publish(path, |file| file.write_all(&archive))
}

/// The files of the modules and of what they need, in the order to load them in.
fn modules(version: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for module in MODULES {
        let args = ["--set-version", version, "--show-depends", module];
        let output = run("modprobe", "kmod", Command::new("/sbin/modprobe").args(args))?;
        // `insmod /lib/modules/<version>/kernel/fs/9p/9p.ko`, or `builtin 9p`.
        for line in String::from_utf8_lossy(&output).lines() {
            let file = line
                .strip_prefix("insmod ")
                .and_then(|rest| rest.split_whitespace().next())
                .map(PathBuf::from);
            files.extend(file.filter(|file| !files.contains(file)));
        }
    }
    Ok(files)
}

fn run(program: &'static str, package: &'static str, command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().map_err(|_| Error::Missing { what: program.to_owned(), package })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Program { program, output: String::from_utf8_lossy(&output.stderr).into_owned() })
}

fn executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(io("chmod"))
}

/// A file that is there whole or not at all: two test runs may prepare at once.
fn publish(path: &Path, write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(dir).map_err(io(format_args!("write into {}", dir.display())))?;
    write(file.as_file_mut()).map_err(io(format_args!("write {}", path.display())))?;
    file.persist(path).map_err(|error| io(format_args!("write {}", path.display()))(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_kernels_sort_behind_older_ones() {
        let mut versions = ["6.1.0-56-amd64", "6.1.0-9-amd64", "5.10.0-33-amd64", "6.12.9-amd64"];
        versions.sort_by_key(|version| numbers(version));
        assert_eq!(versions, ["5.10.0-33-amd64", "6.1.0-9-amd64", "6.1.0-56-amd64", "6.12.9-amd64"]);
    }

    #[test]
    fn a_kernel_is_found_in_its_boot_image() {
        let elf = b"\x7fELF and the rest of a kernel".to_vec();
        let payload = zstd::encode_all(elf.as_slice(), 3).unwrap();
        let mut image = vec![0; 0x250];
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len() + 4).unwrap().to_le_bytes());
        image.resize(1024 + 16, 0);
        image.extend(&payload);
        image.extend([9, 9, 9, 9]);
        assert_eq!(unpack(&image).unwrap(), elf);
        assert!(unpack(&image[..1060]).is_err());
        assert!(unpack(&image[..100]).is_err());
    }
}
