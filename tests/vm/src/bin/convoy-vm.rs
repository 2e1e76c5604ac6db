//! `convoy-vm prepare` makes the image that the tests boot;
//! `convoy-vm run [--disk FILE]... [--share DIR]... [--udev] -- COMMAND...` runs a command in such a machine,
//! for whoever wants to look around.

use convoy_vm_tests::image::Image;
use convoy_vm_tests::vm::Vm;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: convoy-vm prepare | convoy-vm run [--disk FILE]... [--share DIR]... [--udev] -- COMMAND [ARGUMENT]...";

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.split_first() {
        Some((&"prepare", [])) => prepare(),
        Some((&"run", rest)) => run(rest),
        _ => Err(USAGE.to_owned()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn prepare() -> Result<ExitCode, String> {
    let started = Instant::now();
    let image = Image::prepare().map_err(|error| error.to_string())?;
    println!("{}\n{}", image.kernel.display(), image.initrd.display());
    eprintln!("ready after {:.1} s", started.elapsed().as_secs_f32());
    Ok(ExitCode::SUCCESS)
}

fn run(mut words: &[&str]) -> Result<ExitCode, String> {
    let mut vm = Vm::default();
    loop {
        match words {
            ["--disk", file, rest @ ..] => (vm, words) = (vm.disk(Path::new(file)), rest),
            ["--share", dir, rest @ ..] => (vm, words) = (vm.share(Path::new(dir)), rest),
            ["--udev", rest @ ..] => (vm, words) = (vm.udev(), rest),
            ["--", program, args @ ..] => {
                let outcome = vm.run(Path::new(program), args).map_err(|error| error.to_string())?;
                print!("{}", outcome.output);
                eprintln!("exit status {}, {:.1} s in all", outcome.status, outcome.elapsed.as_secs_f32());
                return Ok(u8::try_from(outcome.status).map_or(ExitCode::FAILURE, ExitCode::from));
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
}
