//! Reads `WWW-Authenticate` headers (RFC 9110, section 11.6.1), leniently: registries are not exact.

#[cfg(test)]
mod tests;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password.
    Basic,
    /// A token from this token service.
    Bearer {
        /// URL of the token service.
        realm: String,
        /// What the token service calls the registry.
        service: Option<String>,
        /// What the token has to allow; may be empty.
        scope: Option<String>,
    },
}

/// The challenges that a client of registries can answer, in the order in which they came.
pub(super) fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    headers.into_iter().flat_map(parse_one).collect()
}

fn parse_one(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut scheme: Option<&str> = None;
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let word_end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(word_end);
        let after_blanks = tail.trim_start();
        // `name = value` is a parameter of the scheme before it; anything else opens a challenge.
        if let Some(value) = after_blanks.strip_prefix('=').filter(|_| scheme.is_some()) {
            let (value, tail) = read_value(value.trim_start());
            parameters.push((word.to_ascii_lowercase(), value));
            rest = tail;
        } else {
            challenges.extend(challenge(scheme.take(), &mut parameters));
            scheme = Some(word);
            // A stray `=` would be met again for ever.
            rest = tail.trim_start_matches('=');
        }
    }
    challenges.extend(challenge(scheme, &mut parameters));
    challenges
}

fn challenge(scheme: Option<&str>, parameters: &mut Vec<(String, String)>) -> Option<Challenge> {
    let parameters = std::mem::take(parameters);
    let scheme = scheme?;
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let find = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    Some(Challenge::Bearer { realm: find("realm")?, service: find("service"), scope: find("scope") })
}

/// A token or a quoted string, and what comes after it.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    // The closing quote is missing: everything belongs to the value.
    (value, "")
}
