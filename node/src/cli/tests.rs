use clap::CommandFactory as _;

use super::*;

fn help(path: &[&str]) -> String {
    let mut command = Cli::command().term_width(110);
    command.build();
    let mut command = &mut command;
    for name in path {
        command = command.find_subcommand_mut(name).unwrap();
    }
    command.render_long_help().to_string()
}

#[test]
fn the_help_of_the_program_is_this() {
    insta::assert_snapshot!(help(&[]));
}

#[test]
fn the_help_of_agent_is_this() {
    insta::assert_snapshot!(help(&["agent"]));
}

#[test]
fn the_help_of_demo_is_this() {
    insta::assert_snapshot!(help(&["demo"]));
}

#[test]
fn the_help_of_the_small_commands_is_this() {
    insta::assert_snapshot!(format!("{}\n{}", help(&["status"]), help(&["identity"])));
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn flags_reach_the_configuration_and_repeat_into_lists() {
    let cli = Cli::try_parse_from([
        "longshore",
        "agent",
        "--node-name=n1",
        "--registry-allowlist",
        "quay.io",
        "--registry-allowlist",
        "ghcr.io",
    ]);
    let Command::Agent(args) = cli.unwrap().command else { panic!("not agent") };
    assert_eq!(
        args.keys.0,
        [("node_name", "n1"), ("registry_allowlist", "quay.io,ghcr.io")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn an_unknown_flag_is_refused_with_the_nearest_one() {
    let error = Cli::try_parse_from(["longshore", "agent", "--mirror-listn", "127.0.0.1:1"]).unwrap_err().to_string();
    assert!(error.contains("--mirror-listen"), "{error}");
}
