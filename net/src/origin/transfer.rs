//! Fetches a blob, or consecutive pieces of one, into the staging file.

use std::ops::Range;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_RANGE, HeaderMap};
use longshore_core::input::{BlobFacts, OriginFailure, StoreError, TransferEvent, TransferFailure};
use longshore_core::names::Kind;
use longshore_core::output::{Check, Span};
use longshore_core::piece::Geometry;

use self::body::Body;
use self::sink::Sink;
use super::exchange::{Exchange, Question};
use super::failure::{self, Tried};
use super::report::Report;
use super::stat::{check_encoding, content_length, media_type};
use crate::store::Store;
use crate::store::intake::{Intake, Ticket};

mod body;
mod sink;
#[cfg(test)]
mod tests;

/// Largest manifest that may come without Content-Length: it is kept in memory until its size is known. containerd
/// accepts no larger ones (reference, section 10.3).
const MAX_BUFFERED_BYTES: u64 = 4 * 1048 * 1048;

/// Runs a fetch to its end and reports it.
pub(super) async fn run(
    exchange: &Exchange,
    store: &Store,
    question: Question,
    span: Span,
    check: Check,
    report: Report,
) {
    let event = match fetch(exchange, store, question, span, check, &report).await {
        Ok(()) => TransferEvent::Done,
        Err(failure) => TransferEvent::Failed(failure),
    };
    report.end(event);
}

async fn fetch(
    exchange: &Exchange,
    store: &Store,
    mut question: Question,
    span: Span,
    check: Check,
    report: &Report,
) -> Result<(), TransferFailure> {
    question.range = range_of(span).map_err(TransferFailure::Origin)?;
    let ticket = Ticket::take(store, question.digest);
    let answer = exchange.ask(&question).await.map_err(TransferFailure::Origin)?;
    let answer = exchange.successful(answer).await.map_err(TransferFailure::Origin)?;
    let declared = content_length(&answer);
    let (parts, body) = answer.response.into_parts();
    let context = Context { tried: answer.tried, status: parts.status };

    check_part(&context, &parts.headers, question.range.as_ref(), span)?;
    check_encoding(&parts.headers).map_err(|found| context.failed(found))?;
    let mut body = Body::Arriving(body);
    let (size, first) = match span {
        Span::Pieces { size, first, .. } => (size, first),
        Span::All { size } => (size, 0),
        Span::Unknown { max_bytes } => {
            let size = match declared {
                Some(size) => size,
                None if question.source.kind == Kind::Manifest => {
                    let limit = usize::try_from(max_bytes.min(MAX_BUFFERED_BYTES)).unwrap_or(usize::MAX);
                    body.buffer(&exchange.transport, limit).await.map_err(|found| context.failed(found))?
                }
                None => return Err(context.failed("the answer has no Content-Length")),
            };
            if size > max_bytes {
                return Err(context.failed(format!("{size} bytes are more than the {max_bytes} that are accepted")));
            }
            (size, 0)
        }
    };
    let wanted = question.range.clone().unwrap_or(0..size);
    let expected = wanted.end - wanted.start;
    if declared.is_some_and(|declared| declared != expected) {
        let declared = declared.unwrap_or_default();
        return Err(context.failed(format!("the answer has {declared} bytes instead of {expected}")));
    }
    if question.range.is_none() {
        let media_type = media_type(&parts.headers);
        report.event(TransferEvent::Headers { size, media_type: media_type.clone() });
        if matches!(span, Span::Unknown { .. }) {
            let facts = BlobFacts { media_type, source: question.source, private: answer.is_private };
            store.stage_now(question.digest, size, facts).map_err(TransferFailure::Store)?;
        }
    }
    let geometry = Geometry::of_blob(size);
    let intake =
        Intake::open_in_turn(store, ticket, question.digest, geometry, first, check).map_err(TransferFailure::Store)?;
    let mut sink = Sink::new(intake, geometry, wanted, report);
    let poured = pour(exchange, &context, &mut body, &mut sink).await;
    if poured.is_err() {
        sink.report_progress();
    }
    poured
}

/// Lets the body run into the staging file.
async fn pour(
    exchange: &Exchange,
    context: &Context,
    body: &mut Body,
    sink: &mut Sink<'_>,
) -> Result<(), TransferFailure> {
    loop {
        let part = body.next(&exchange.transport).await;
        let part = part.map_err(|found| context.failed(format!("{} and then {found}", sink.words())))?;
        let Some(parts) = part else { break };
        let surplus = sink.take(parts).await.map_err(TransferFailure::Store)?;
        if surplus > 0 {
            return Err(context.failed(format!("{} and then at least {surplus} bytes too many", sink.words())));
        }
    }
    if !sink.is_full() {
        return Err(context.failed(format!("{} and then the end", sink.words())));
    }
    sink.finish();
    Ok(())
}

/// What a failure is told about.
#[derive(Debug)]
struct Context {
    tried: Tried,
    status: StatusCode,
}

impl Context {
    fn failed(&self, found: impl std::fmt::Display) -> TransferFailure {
        TransferFailure::Origin(failure::unusable(&self.tried, self.status, found))
    }
}

/// The bytes to ask for, or `None` for everything.
fn range_of(span: Span) -> Result<Option<Range<u64>>, OriginFailure> {
    let Span::Pieces { size, first, count } = span else { return Ok(None) };
    let geometry = Geometry::of_blob(size);
    let end = first.checked_add(count).filter(|end| count > 0 && *end <= geometry.pieces());
    let Some(end) = end else {
        let pieces = geometry.pieces();
        let detail = format!("cannot ask for {count} pieces from {first} on: a blob of {size} bytes has {pieces}");
        return Err(failure::without_response(detail));
    };
    let range = geometry.range(first).start..geometry.range(end - 1).end;
    // No range covers the bytes of an empty blob.
    Ok((!range.is_empty()).then_some(range))
}

/// Whether the answer is the part that was asked for.
fn check_part(
    context: &Context,
    headers: &HeaderMap,
    range: Option<&Range<u64>>,
    span: Span,
) -> Result<(), TransferFailure> {
    let (Some(range), Span::Pieces { size, .. }) = (range, span) else {
        if context.status == StatusCode::OK {
            return Ok(());
        }
        return Err(context.failed(format!("{} to a request for the whole", context.status)));
    };
    if context.status == StatusCode::OK {
        return Err(TransferFailure::NoRanges);
    }
    if context.status != StatusCode::PARTIAL_CONTENT {
        return Err(context.failed(format!("{} to a request for a part", context.status)));
    }
    let stated = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).and_then(content_range);
    match stated {
        Some((part, total)) if part == *range => match total {
            Some(total) if total != size => {
                Err(context.failed(format!("the blob has {total} bytes there, not {size}")))
            }
            _ => Ok(()),
        },
        _ => Err(TransferFailure::NoRanges),
    }
}

/// Reads `bytes FIRST-LAST/TOTAL`; a total of `*` is unknown.
fn content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (part, total) = rest.trim().split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let is_good = unit.eq_ignore_ascii_case("bytes") && first <= last;
    is_good.then(|| (first..last.saturating_add(1), total))
}

/// The error of a disk task that did not come back.
fn lost(error: &tokio::task::JoinError) -> StoreError {
    StoreError::Io(format!("writing to the staging file ended: {error}").into())
}

/// Bytes that belong together.
type Parts = Vec<Bytes>;
