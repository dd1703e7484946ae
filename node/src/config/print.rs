//! `longshore config`: the effective configuration as TOML.

use std::fmt::Write as _;

use super::layers::Effective;
use super::problem::Origin;
use super::table::keys;

/// The effective configuration as a TOML file. A value that is not the default says in a comment where it was set.
/// With `explain`, every key's description comes before it.
///
/// There is no secret in it: passwords are in files of their own, and a URL with a password in it is refused.
#[must_use]
pub fn print(effective: &Effective, explain: bool) -> String {
    let mut page = String::new();
    let mut tables = String::new();
    for key in keys() {
        let value = (key.show)(&effective.settings);
        let origin = match effective.origin(key.name) {
            Origin::Default => String::new(),
            origin => format!("  # {origin}"),
        };
        let doc = if explain { format!("\n# {}\n", key.paragraph()) } else { String::new() };
        // Writing to a string cannot fail.
        let _ = match value {
            None => writeln!(page, "{doc}# {} is not set{}", key.name, origin.replace("  # ", ": ")),
            Some(toml::Value::Table(table)) if table.is_empty() => {
                writeln!(page, "{doc}# {} has no entries{}", key.name, origin.replace("  # ", ": "))
            }
            Some(toml::Value::Table(table)) => {
                let _ = write!(tables, "{doc}");
                table.iter().try_for_each(|(name, entry)| {
                    // Tables come last: what follows a table's header belongs to that table.
                    let name = toml::Value::String(name.clone());
                    write!(tables, "\n[{}.{name}]{origin}\n{entry}", key.name, entry = fields(entry))
                })
            }
            Some(value) => writeln!(page, "{doc}{} = {value}{origin}", key.name),
        };
    }
    page.trim_start().to_owned() + &tables
}

fn fields(entry: &toml::Value) -> String {
    let fields = entry.as_table().into_iter().flatten();
    fields.map(|(name, value)| format!("{name} = {value}\n")).collect()
}
