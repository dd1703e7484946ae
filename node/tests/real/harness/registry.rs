//! Debian's docker-registry, and what its log says about the bytes that left it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::image::Blob;
use super::lab::{Lab, find_program, free_port};
use super::process::Process;
use super::token::{ISSUER, Issuer, SERVICE};
use super::{PATIENCE, wait_for};

/// Who may read from the registry.
#[derive(Clone)]
pub(crate) enum Access {
    /// Everybody.
    Anonymous,
    /// [`USER`] with [`PASSWORD`] (HTTP Basic).
    Basic,
    /// Whoever has a token of this issuer, to be had at this URL.
    Token(Arc<Issuer>, String),
}

/// The one user of a registry with [`Access::Basic`].
pub(crate) const USER: &str = "puller";
/// The user's password.
pub(crate) const PASSWORD: &str = "correct horse battery";
/// bcrypt of the password at its lowest cost: the registry checks it at every request.
const PASSWORD_HASH: &str = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.4c/Vz//sBM9XkyFmwsCP9HkrjK1U32S";

/// `name:password` as ctr and skopeo take it.
pub(crate) fn user_and_password() -> String {
    format!("{USER}:{PASSWORD}")
}

/// One request in the registry's log.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// `GET`, `HEAD`, ...
    pub(crate) method: String,
    /// Path and query.
    pub(crate) uri: String,
    /// HTTP status.
    pub(crate) status: u64,
    /// Body bytes, counted also if the client left early.
    pub(crate) bytes: u64,
    /// Who asked.
    pub(crate) user_agent: String,
}

/// A docker-registry on a port of its own.
pub(crate) struct Registry {
    process: Process,
    config: PathBuf,
    log: PathBuf,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
}

impl Registry {
    /// Starts an empty registry and waits until it answers.
    pub(crate) fn start(lab: &Lab, access: Access) -> Self {
        let port = free_port();
        let directory = lab.directory(&format!("registry-{port}"));
        let config = directory.join("config.yml");
        let log = directory.join("log");
        let mut text = format!(
            "version: 0.1\n\
             log: {{level: info, formatter: json, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            directory.join("data").display()
        );
        match access {
            Access::Anonymous => {}
            Access::Basic => {
                let users = directory.join("htpasswd");
                std::fs::write(&users, format!("{USER}:{PASSWORD_HASH}\n")).expect("the lab can be written to");
                text.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display()));
            }
            Access::Token(issuer, realm) => {
                let bundle = directory.join("issuer.pem");
                issuer.write_certificate(&bundle);
                text.push_str(&format!(
                    "auth: {{token: {{realm: '{realm}', service: '{SERVICE}', issuer: '{ISSUER}', rootcertbundle: {}}}}}\n",
                    bundle.display()
                ));
            }
        }
        std::fs::write(&config, text).expect("the lab can be written to");
        let process = Self::spawn(&config, &log, port);
        Self { process, config, log, port }
    }

    fn spawn(config: &std::path::Path, log: &std::path::Path, port: u16) -> Process {
        let program = find_program("docker-registry").expect("the lab has checked the parts");
        let config = config.to_str().expect("temporary paths are text");
        let mut process = Process::spawn(&format!("docker-registry :{port}"), &program, &["serve", config], log);
        wait_for("the registry to answer", PATIENCE, || {
            process.assert_running();
            super::http::get(port, "/v2/", &[]).ok()
        });
        process
    }

    /// Stops it; what it stores stays.
    pub(crate) fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again on the same port with what it stored.
    pub(crate) fn restart(&mut self) {
        self.process.stop();
        self.process = Self::spawn(&self.config, &self.log, self.port);
    }

    /// Every request that it has completed so far, by its own log.
    pub(crate) fn log(&self) -> Vec<Served> {
        self.process.output().lines().filter_map(parse_line).collect()
    }

    /// Body bytes of successful GETs for each digest, so far.
    pub(crate) fn bytes_by_digest(&self) -> BTreeMap<String, u64> {
        let mut bytes = BTreeMap::new();
        for served in self.log() {
            if served.method == "GET"
                && matches!(served.status, 200 | 206)
                && let Some(digest) = digest_in(&served.uri)
            {
                *bytes.entry(digest.to_owned()).or_default() += served.bytes;
            }
        }
        bytes
    }

    /// As [`Self::bytes_by_digest`], once at least all of `blobs` are in the log: a client may have the last byte before
    /// the registry has written its line.
    pub(crate) fn bytes_of(&self, blobs: &[Blob]) -> BTreeMap<String, u64> {
        wait_for("the registry to log every blob", PATIENCE, || {
            let bytes = self.bytes_by_digest();
            let complete = blobs.iter().all(|blob| bytes.get(&blob.digest).copied().unwrap_or(0) >= blob.size);
            complete.then_some(bytes)
        })
    }
}

/// The digest in a path, if there is one.
pub(crate) fn digest_in(uri: &str) -> Option<&str> {
    let start = uri.find("sha256:")?;
    uri.get(start..start + "sha256:".len() + 64)
}

fn parse_line(line: &str) -> Option<Served> {
    let entry: Value = serde_json::from_str(line).ok()?;
    if entry["msg"] != "response completed" {
        return None;
    }
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    Some(Served {
        method: text("http.request.method"),
        uri: text("http.request.uri"),
        status: entry["http.response.status"].as_u64()?,
        bytes: entry["http.response.written"].as_u64()?,
        user_agent: text("http.request.useragent"),
    })
}
