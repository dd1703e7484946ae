//! Single blobs into a registry, without an image around them.

use std::io::Write as _;

use sha2::{Digest as _, Sha256};

use super::http::{self, Exchange};

/// Uploads a blob in one piece; its digest.
pub(crate) fn upload(port: u16, repository: &str, content: &[u8]) -> String {
    let digest = format!("sha256:{}", hex(&Sha256::digest(content)));
    let start = format!("/v2/{repository}/blobs/uploads/");
    let opened = Exchange::start(port, "POST", &start, &[("content-length", "0")]).and_then(Exchange::finish);
    let opened = opened.expect("the registry answers");
    assert_eq!(opened.status, 202, "{}", opened.text());
    let location = opened.header("location");
    let path = location.split_once("://").map_or(location, |(_, rest)| &rest[rest.find('/').unwrap_or(rest.len())..]);
    let separator = if path.contains('?') { '&' } else { '?' };
    let target = format!("{path}{separator}digest={digest}");
    let length = content.len().to_string();
    let headers = [("content-length", length.as_str()), ("content-type", "application/octet-stream")];
    let mut put = Exchange::start(port, "PUT", &target, &headers).expect("the registry answers");
    put.writer().write_all(content).expect("the registry takes the blob");
    let stored = put.finish().expect("the registry answers");
    assert_eq!(stored.status, 201, "{}", stored.text());
    let there = http::head(port, &format!("/v2/{repository}/blobs/{digest}"), &[]).expect("the registry answers");
    assert_eq!(there.status, 200);
    digest
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
