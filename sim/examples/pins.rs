//! Compares this build's trace hashes with the pinned ones: `cargo run --release --example pins -- FILE`, where the file is
//! the snapshot that the tests of the debug build are held to.

use std::process::ExitCode;

use longshore_sim::audit::pins::pins;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("expected the file with the pinned hashes");
        return ExitCode::FAILURE;
    };
    let pinned = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("cannot read the pinned hashes in {file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let pinned: Vec<&str> = pinned.lines().filter(|line| line.starts_with("seed ")).collect();
    let text = pins();
    let found: Vec<&str> = text.lines().collect();
    let mut different = found.len().abs_diff(pinned.len());
    for (found, pinned) in found.iter().zip(&pinned).filter(|(found, pinned)| found != pinned) {
        println!("pinned: {pinned}\nfound:  {found}");
        different += 1;
    }
    println!("{} runs, {different} of them not as pinned in {file}", found.len());
    if different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
