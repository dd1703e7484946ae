//! Error answers in the form of the OCI distribution specification: short, and naming this agent, because containerd
//! shows the first serious one to the user.

use std::borrow::Cow;

use http::StatusCode;

/// An error answer: a status and one entry of the `errors` list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Status of the answer. Never 408 or 429: containerd repeats those on the spot, five times.
    pub(crate) status: StatusCode,
    /// Code of the specification.
    pub(crate) code: &'static str,
    /// What was asked, what is wrong with it, what happens next.
    pub(crate) message: Cow<'static, str>,
}

/// Longest part of a request that a message quotes, in characters.
const QUOTE_LIMIT: usize = 80;

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn not_found(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn bad_digest(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(crate) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this mirror is read-only: use GET or HEAD")
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the registry wants credentials; its challenge is relayed")
    }

    pub(crate) fn unavailable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", reason)
    }

    pub(crate) fn range(size: u64) -> Self {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "RANGE_INVALID",
            format!("no byte of the range exists; the blob has {size} bytes"),
        )
    }

    /// The body: OCI JSON.
    pub(crate) fn json(&self) -> String {
        let message = format!("longshore mirror: {}", self.message);
        serde_json::json!({ "errors": [{ "code": self.code, "message": message }] }).to_string()
    }
}

/// `text` in quotes, cut to a length that is fit for a message.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("'");
    quoted.extend(text.chars().take(QUOTE_LIMIT).flat_map(char::escape_default));
    if text.chars().nth(QUOTE_LIMIT).is_some() {
        quoted.push_str("...");
    }
    quoted.push('\'');
    quoted
}
