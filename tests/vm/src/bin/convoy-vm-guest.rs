//! Runs a scenario inside a machine: `convoy-vm-guest everyday ext4`.

fn main() -> std::process::ExitCode {
    convoy_vm_tests::guest::main()
}
