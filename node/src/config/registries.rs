//! The table of registries: how each is reached, and with which credential of the node's own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::kinds::{RegistryHost, Setting};
use super::problem::nearest;
use super::raw::{Complaint, Raw, RawValue};

/// How one registry is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// Where its API is, without `/v2`. `None`: https at the host's name (http with `plain_http`).
    pub url: Option<String>,
    /// The node's own user at this registry.
    pub username: Option<String>,
    /// The file with that user's password or token.
    pub password_file: Option<PathBuf>,
    /// Use http where no `url` says otherwise.
    pub plain_http: bool,
}

/// Registries by the host that image references name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries(pub BTreeMap<RegistryHost, Registry>);

const FIELDS: [&str; 4] = ["url", "username", "password_file", "plain_http"];

impl Registry {
    /// The URL of this registry's API, without `/v2` and without a slash at the end.
    #[must_use]
    pub fn base_url(&self, host: &RegistryHost) -> String {
        match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("{}://{}", if self.plain_http { "http" } else { "https" }, host.0),
        }
    }
}

impl Setting for Registries {
    const EXPECTED: &'static str = r#"a table such as { "registry.example:5000" = { url = "http://10.0.0.9:5000", username = "node", password_file = "/etc/longshore/password" } }"#;
    const PLACEHOLDER: &'static str = "TOML";

    fn read(raw: &Raw) -> Result<Self, Vec<Complaint>> {
        // What stands where a table should stand is not quoted: it may be a misplaced password.
        let no_table = |found: &str| vec![Complaint { found: found.to_owned(), ..raw.complain(Self::EXPECTED) }];
        let table = match &raw.value {
            RawValue::Table(table) => table.clone(),
            RawValue::Bare(text) if text.is_empty() => BTreeMap::new(),
            RawValue::Bare(text) => inline_table(text).ok_or_else(|| no_table("a text that is no TOML table"))?,
            _ => return Err(no_table("a value that is no table")),
        };
        let mut registries = BTreeMap::new();
        let mut complaints = Vec::new();
        for (name, entry) in &table {
            let Some(host) = RegistryHost::parse(name) else {
                complaints.push(Complaint {
                    path: format!(".{name:?}"),
                    line: entry.line,
                    found: format!("the name {name:?}"),
                    expected: RegistryHost::EXPECTED.to_owned(),
                });
                continue;
            };
            match read_registry(entry) {
                Ok(registry) => drop(registries.insert(host, registry)),
                Err(found) => complaints.extend(
                    found
                        .into_iter()
                        .map(|complaint| Complaint { path: format!(".{name:?}{}", complaint.path), ..complaint }),
                ),
            }
        }
        if complaints.is_empty() { Ok(Self(registries)) } else { Err(complaints) }
    }

    fn show(&self) -> Option<toml::Value> {
        let table = self.0.iter().map(|(host, registry)| {
            let fields = [
                ("url", registry.url.show()),
                ("username", registry.username.show()),
                ("password_file", registry.password_file.show()),
                ("plain_http", registry.plain_http.then_some(toml::Value::Boolean(true))),
            ];
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            (host.0.clone(), toml::Value::Table(fields.collect()))
        });
        Some(toml::Value::Table(table.collect()))
    }
}

fn inline_table(text: &str) -> Option<BTreeMap<String, Raw>> {
    let document = format!("value = {}", text.trim());
    let table = toml::de::DeTable::parse(&document).ok()?;
    let value = table.get_ref().get("value").filter(|_| table.get_ref().len() == 1)?;
    match Raw::from_toml(value.get_ref(), 0, &|_| None).value {
        RawValue::Table(table) => Some(table),
        _ => None,
    }
}

fn read_registry(entry: &Raw) -> Result<Registry, Vec<Complaint>> {
    let RawValue::Table(fields) = &entry.value else {
        let expected = format!("a table with some of {}", FIELDS.join(", "));
        return Err(vec![Complaint { found: "a value that is no table".to_owned(), ..entry.complain(&expected) }]);
    };
    let mut registry = Registry::default();
    let mut complaints = Vec::new();
    for (name, raw) in fields {
        let result = match name.as_str() {
            "url" => read_url(raw).map(|url| registry.url = Some(url)),
            "username" => String::read(raw).map(|username| registry.username = Some(username)),
            "password_file" => PathBuf::read(raw).map(|path| registry.password_file = Some(path)),
            "plain_http" => bool::read(raw).map(|plain| registry.plain_http = plain),
            _ => Err(vec![unknown_field(name, raw)]),
        };
        if let Err(found) = result {
            complaints.extend(found.into_iter().map(|complaint| match complaint.path.as_str() {
                "" => Complaint { path: format!(".{name}"), ..complaint },
                _ => complaint,
            }));
        }
    }
    if registry.username.is_some() != registry.password_file.is_some() && complaints.is_empty() {
        complaints.push(Complaint {
            path: String::new(),
            line: entry.line,
            found: "only one of username and password_file".to_owned(),
            expected: "both or neither".to_owned(),
        });
    }
    if complaints.is_empty() { Ok(registry) } else { Err(complaints) }
}

fn unknown_field(name: &str, raw: &Raw) -> Complaint {
    let expected = match name {
        "password" | "token" | "secret" => "password_file, a file that holds it: secrets do not belong here".to_owned(),
        _ => nearest(name, FIELDS)
            .map_or_else(|| format!("one of {}", FIELDS.join(", ")), |near| format!("perhaps {near}")),
    };
    Complaint { path: format!(".{name}"), line: raw.line, found: "a key that does not exist".to_owned(), expected }
}

/// The URL of a registry's API. Never quoted in a complaint: people put passwords into URLs.
fn read_url(raw: &Raw) -> Result<String, Vec<Complaint>> {
    const EXPECTED: &str = "an http or https URL with host and perhaps a path, such as https://registry.example";
    let complain = |found: &str| vec![Complaint { found: found.to_owned(), ..raw.complain(EXPECTED) }];
    let text = raw.text().ok_or_else(|| complain("a value that is no text"))?;
    let uri: http::Uri = text.parse().map_err(|_| complain("a text that is no URL"))?;
    let authority = uri.authority().ok_or_else(|| complain("a URL without a host"))?;
    if authority.as_str().contains('@') {
        return Err(complain("a URL with a user or a password in it (use username and password_file)"));
    }
    match uri.scheme_str() {
        Some("http" | "https") if uri.query().is_none() => Ok(text.to_owned()),
        _ => Err(complain("a URL of another kind")),
    }
}
