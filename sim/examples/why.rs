//! Tells why the first rule was broken, or why the slowest pull was slow: `cargo run --release --example why -- FILE [NODE]`.

use longshore_sim::scenario::Scenario;
use longshore_sim::why::{Target, why};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap_or_default();
    let target = arguments.next().and_then(|text| text.parse().ok()).map_or(Target::Anything, Target::Node);
    let scenario = std::fs::read_to_string(&file).map_err(|error| error.to_string());
    let scenario = scenario.and_then(|text| Scenario::parse(&text).map_err(|error| error.to_string()));
    match scenario.and_then(|scenario| why(&scenario, scenario.seed, &target)) {
        Ok(text) => print!("{text}"),
        Err(error) => println!("{file}: {error}"),
    }
}
