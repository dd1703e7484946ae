//! The flags of the configuration: one for every key of the table.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::keys;

/// Flags that are typed by hand, with a shorter name besides.
const SHORT_NAMES: &[(&str, &str)] = &[("journal_dir", "journal")];

/// Flags that were given, by the name of their key.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyFlags(pub(super) Vec<(String, String)>);

impl FromArgMatches for KeyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = keys().iter().filter_map(|key| {
            let values: Vec<&String> = matches.get_many(key.name)?.collect();
            // A flag that is given more than once makes a list, as one flag with commas does.
            Some((key.name.to_owned(), values.into_iter().map(String::as_str).collect::<Vec<_>>().join(",")))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

impl Args for KeyFlags {
    fn augment_args(command: Command) -> Command {
        command.args(keys().iter().map(|key| {
            let default = match key.default_value() {
                None => String::new(),
                Some(toml::Value::Array(items)) if items.is_empty() => String::new(),
                Some(toml::Value::Table(_)) => String::new(),
                Some(toml::Value::String(text)) => format!(" [default: {text}]"),
                Some(toml::Value::Array(items)) => {
                    let items: Vec<_> = items.iter().filter_map(toml::Value::as_str).collect();
                    format!(" [default: {}]", items.join(","))
                }
                Some(value) => format!(" [default: {value}]"),
            };
            Arg::new(key.name)
                .long(key.name.replace('_', "-"))
                .visible_aliases(SHORT_NAMES.iter().filter(|(name, _)| *name == key.name).map(|(_, short)| *short))
                .value_name(key.placeholder)
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .help_heading("Configuration (each also as a key in the file, and as LONGSHORE_... in the environment)")
                .help(format!("{}{default}", key.paragraph().trim_end_matches('.')))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
