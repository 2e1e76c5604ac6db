//! A machine that runs one command.

#![allow(unsafe_code, reason = "what a child does between fork and exec")]

use crate::image::Image;
use crate::{Error, Result, io};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often a machine is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// So many seconds before its time is over a machine says what it is busy with.
const DUMP_BEFORE: u64 = 20;
/// What the kernel is told: no graphics, no waiting, no rest after a panic. No random addresses: QEMU keeps
/// the translation of a page of code only for the address it was run at, and each start of a program would be
/// translated anew (five times as slow).
const KERNEL_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 reboot=t nokaslr norandmaps mitigations=off no_timer_check \
     random.trust_cpu=on cryptomgr.notests audit=0 i8042.noaux i8042.nokbd";
/// What the translated processor can do.
const PROCESSOR: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+rdrand,+pclmulqdq";

/// A machine to be.
#[derive(Debug, Clone)]
pub struct Vm {
    disks: Vec<PathBuf>,
    shares: Vec<PathBuf>,
    memory_mib: u32,
    udev: bool,
    variables: Vec<(String, String)>,
    limit: Duration,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            disks: Vec::new(),
            shares: Vec::new(),
            memory_mib: 1536,
            udev: false,
            variables: Vec::new(),
            limit: Duration::from_secs(300),
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit status.
    pub status: i32,
    /// What it wrote, on both outputs.
    pub output: String,
    /// How long the machine ran.
    pub elapsed: Duration,
}

impl Vm {
    /// A raw image as the next disk: `/dev/vda`, `/dev/vdb` and so on. It keeps what is written to it.
    #[must_use]
    pub fn disk(mut self, image: &Path) -> Self {
        self.disks.push(image.to_owned());
        self
    }

    /// A directory of this machine that can be written there too, under the same path.
    #[must_use]
    pub fn share(mut self, dir: &Path) -> Self {
        self.shares.push(dir.to_owned());
        self
    }

    /// Starts udev first; without it nobody makes links in `/dev/mapper` and `/dev/disk`.
    #[must_use]
    pub fn udev(mut self) -> Self {
        self.udev = true;
        self
    }

    /// A variable of the command's environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How long the command may take, boot included.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Boots, runs the program to its end, and powers off.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::TimedOut`], and what keeps it from booting. A program that fails is no
    /// error.
    pub fn run(self, program: &Path, args: &[&str]) -> Result<Outcome> {
        self.start(program, args)?.wait()
    }

    /// Boots and starts the program.
    ///
    /// # Errors
    /// What keeps it from booting.
    pub fn start(self, program: &Path, args: &[&str]) -> Result<Running> {
        let image = Image::prepare()?;
        let dir = tempfile::Builder::new()
            .prefix("convoy-vm-")
            .tempdir()
            .map_err(io("make a temporary directory"))?;
        let control = dir.path().join("control");
        std::fs::create_dir(&control).map_err(io("make the control directory"))?;
        let script = self.script(program, args);
        std::fs::write(control.join("start"), script).map_err(io("write the control directory"))?;
        let mut command = self.qemu(&image, dir.path(), &control);
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Missing { what: "qemu-system-x86_64".to_owned(), package: "qemu-system-x86" }
            }
            _ => io("start qemu-system-x86_64")(error),
        })?;
        Ok(Running { child, dir, started: Instant::now(), limit: self.limit })
    }

    /// What the machine's init runs after it has its root.
    fn script(&self, program: &Path, args: &[&str]) -> String {
        let mut script = String::from(
            "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8\n\
             b=/bin/busybox\n\
             $b hostname vm; $b ip link set lo up\n",
        );
        for (number, share) in self.shares.iter().enumerate() {
            let path = quote(share.as_os_str());
            let _ = writeln!(
                script,
                "$b mkdir -p {path}; $b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none s{number} {path}"
            );
        }
        if self.udev {
            script.push_str(
                "/lib/systemd/systemd-udevd --daemon 2>/dev/null; udevadm trigger; udevadm settle\n",
            );
        } else {
            // libdm's own programs wait for udev unless they are told that there is none.
            script.push_str("export DM_DISABLE_UDEV=1\n");
        }
        for (name, value) in &self.variables {
            let _ = writeln!(script, "export {name}={}", quote(OsStr::new(value)));
        }
        script.push_str(
            "n=0; while [ ! -e /dev/vport*p1 ] && [ $n -lt 200 ]; do $b usleep 10000; n=$((n+1)); done\n",
        );
        // What a machine that is stuck is busy with.
        let _ = writeln!(
            script,
            "( $b sleep {}; {{ $b ps; for p in /proc/[0-9]*; do echo \"$p: $($b cat $p/comm)\"; $b cat $p/stack; done; \
             $b dmesg | $b tail -n 40; }} > /run/control/stuck 2>&1 ) &",
            self.limit.as_secs().saturating_sub(DUMP_BEFORE)
        );
        let words: Vec<_> =
            std::iter::once(program.as_os_str()).chain(args.iter().map(OsStr::new)).map(quote).collect();
        let _ = writeln!(script, "{} < /dev/null > $(echo /dev/vport*p1) 2>&1", words.join(" "));
        script.push_str(
            "echo $? > /run/control/status.new; $b mv /run/control/status.new /run/control/status\n\
             $b sync; $b poweroff -f\n",
        );
        script
    }

    fn qemu(&self, image: &Image, dir: &Path, control: &Path) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        let share = |command: &mut Command, id: &str, path: &Path, options: &str| {
            command.arg("-fsdev").arg(format!(
                "local,id={id},path={},security_model=none,multidevs=remap{options}",
                escape(path)
            ));
            command.arg("-device").arg(format!("virtio-9p-pci,fsdev={id},mount_tag={id}"));
        };
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35"]);
        command.args(["-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-smp", "2"]);
        command.args(["-m", &self.memory_mib.to_string()]);
        share(&mut command, "root", Path::new("/"), ",readonly=on");
        share(&mut command, "control", control, "");
        for (number, path) in self.shares.iter().enumerate() {
            share(&mut command, &format!("s{number}"), path, "");
        }
        for (number, disk) in self.disks.iter().enumerate() {
            command.arg("-drive").arg(format!(
                "if=none,id=d{number},format=raw,file={},cache=writeback,discard=unmap,aio=threads",
                escape(disk)
            ));
            command.arg("-device").arg(format!("virtio-blk-pci,drive=d{number},serial=disk{number}"));
        }
        command.args([
            "-object",
            "rng-random,id=rng,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=rng",
        ]);
        command.args(["-device", "virtio-serial-pci,max_ports=2", "-chardev"]);
        command.arg(format!("file,id=out,path={}", escape(&dir.join("output"))));
        command.args(["-device", "virtserialport,chardev=out,name=out,nr=1", "-chardev"]);
        command.arg(format!("file,id=con,path={}", escape(&dir.join("console"))));
        command.args(["-serial", "chardev:con"]);
        command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd);
        command.args(["-append", KERNEL_LINE]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        // SAFETY: prctl is a plain system call; nothing is allocated or locked between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // A machine never outlives the test, however that ends.
                Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
            });
        }
        command
    }
}

/// For QEMU's option lists.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// For the shell.
fn quote(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"))
}

/// A running machine. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    dir: TempDir,
    started: Instant,
    limit: Duration,
}

impl Running {
    /// What the command has written so far.
    pub fn output(&self) -> String {
        self.read("output")
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of what its kernel and its command have written.
    fn console(&self) -> String {
        let console = self.read("console") + &self.output();
        let tail = console.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
        console.get(tail..).unwrap_or_default().to_owned()
    }

    /// Waits for the machine to end by itself.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::TimedOut`].
    pub fn wait(mut self) -> Result<Outcome> {
        loop {
            if self.child.try_wait().map_err(io("wait for qemu"))?.is_some() {
                break;
            }
            if self.started.elapsed() > self.limit {
                let output = self.console() + &self.read("control/stuck");
                return Err(Error::TimedOut { seconds: self.limit.as_secs(), output });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let elapsed = self.started.elapsed();
        match self.read("control/status").trim().parse() {
            Ok(status) => Ok(Outcome { status, output: self.output(), elapsed }),
            Err(_) => Err(Error::Died { seconds: elapsed.as_secs(), console: self.console() }),
        }
    }

    /// Cuts the power, at once; answers what the command had written until then.
    pub fn cut_power(mut self) -> String {
        self.stop();
        self.output()
    }

    fn stop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_machine_as_they_are() {
        let vm = Vm::default().share(Path::new("/srv/a b"));
        let script = vm.script(Path::new("/bin/it's"), &["one two", "$HOME", ""]);
        assert!(script.contains("'/bin/it'\\''s' 'one two' '$HOME' '' < /dev/null"), "{script}");
        assert!(script.contains("s0 '/srv/a b'"), "{script}");
        assert_eq!(escape(Path::new("/a,b")), "/a,,b");
    }
}
