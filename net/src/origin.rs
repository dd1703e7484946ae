//! Talks to registries: the client side of the OCI distribution specification.
//!
//! Nothing is tried again here, except that a registry's challenge is answered once, redirects are followed, and a kept
//! connection that turns out to be closed is replaced. Each fetch and each stat ends in exactly one report, or in none if
//! it was cancelled.

mod challenge;
mod config;
mod endpoint;
mod exchange;
mod failure;
#[cfg(test)]
mod mock_registry;
mod report;
mod stat;
#[cfg(test)]
mod tests;
mod token;
mod transfer;
mod transport;

use std::sync::Arc;

use http::Method;
use longshore_core::digest::Digest;
use longshore_core::input::{Input, OriginFailure, TransferEvent, TransferFailure};
use longshore_core::names::{CredentialId, OpId, Source};
use longshore_core::output::{Check, Span};

pub use self::config::{
    DIAL_TIMEOUT, HEADER_TIMEOUT, NodeCredential, OriginConfig, OriginConfigError, SILENCE_TIMEOUT, TLS_TIMEOUT,
    Timeouts, Upstream,
};
use self::exchange::{Exchange, Question};
use self::report::Reports;
use self::token::Tokens;
use self::transport::Transport;
use crate::driver::{Inputs, Origin};
use crate::store::Store;
use crate::vault::Vault;

/// The origin driver. Dropping it stops everything that it does.
#[derive(Debug)]
pub struct OriginClient {
    exchange: Arc<Exchange>,
    reports: Reports,
    store: Store,
}

impl OriginClient {
    /// A client with these settings. Fetched pieces go to `store`, reports to `inputs`; credentials are looked up in
    /// `vault`. Its methods must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a base URL or a CA file cannot be used.
    pub fn new(config: OriginConfig, inputs: Inputs, store: Store, vault: Vault) -> Result<Self, OriginConfigError> {
        config.validate()?;
        let transport = Transport::new(&config)?;
        let exchange = Exchange { config, transport, tokens: Tokens::default(), vault };
        Ok(Self { exchange: Arc::new(exchange), reports: Reports::new(inputs), store })
    }
}

impl Origin for OriginClient {
    fn fetch(
        &mut self,
        op: OpId,
        source: Source,
        digest: Digest,
        span: Span,
        credential: Option<CredentialId>,
        check: Check,
    ) {
        let (exchange, store) = (self.exchange.clone(), self.store.clone());
        self.reports.start(op, lost_fetch, |report| async move {
            let question = Question { method: Method::GET, source, digest, range: None, credential };
            transfer::run(&exchange, &store, question, span, check, report).await;
        });
    }

    fn stat(&mut self, op: OpId, source: Source, digest: Digest, credential: Option<CredentialId>) {
        let exchange = self.exchange.clone();
        self.reports.start(op, lost_stat, |report| async move {
            let question = Question { method: Method::HEAD, source, digest, range: None, credential };
            report.stat(stat::run(&exchange, question).await);
        });
    }

    fn cancel(&mut self, op: OpId) {
        self.reports.cancel(op);
    }

    fn forget_credential(&mut self, credential: CredentialId) {
        self.exchange.forget(credential);
    }
}

fn lost() -> OriginFailure {
    failure::without_response("the request ended in a fault of this program; see the log".to_owned())
}

fn lost_fetch(op: OpId) -> Input {
    Input::Transfer { op, event: TransferEvent::Failed(TransferFailure::Origin(lost())) }
}

fn lost_stat(op: OpId) -> Input {
    Input::OriginStat { op, result: Err(lost()) }
}
