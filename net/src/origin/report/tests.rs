use longshore_core::input::TransferFailure;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::oneshot;

use super::*;

fn lost(op: OpId) -> Input {
    Input::Transfer { op, event: TransferEvent::Failed(TransferFailure::Unreachable) }
}

/// An operation that does nothing, and its report.
async fn started(reports: &Reports, op: OpId) -> Report {
    let (sender, receiver) = oneshot::channel();
    reports.start(op, lost, |report| async move {
        sender.send(report).unwrap();
        std::future::pending::<()>().await;
    });
    receiver.await.unwrap()
}

#[tokio::test]
async fn nothing_is_reported_once_cancel_has_returned_even_by_a_task_that_still_runs() {
    let (inputs, mut receiver) = Inputs::channel();
    let reports = Reports::new(inputs);
    let report = started(&reports, OpId(1)).await;
    report.event(TransferEvent::Progress { bytes: 1 });
    assert!(matches!(receiver.try_recv(), Ok(Input::Transfer { op: OpId(1), .. })));
    reports.cancel(OpId(1));
    report.event(TransferEvent::Progress { bytes: 2 });
    report.end(TransferEvent::Failed(TransferFailure::NoRanges));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test]
async fn the_end_is_reported_once_and_leaves_nothing_behind() {
    let (inputs, mut receiver) = Inputs::channel();
    let reports = Reports::new(inputs);
    let (first, second) = (started(&reports, OpId(1)).await, started(&reports, OpId(2)).await);
    first.end(TransferEvent::Done);
    assert_eq!(receiver.try_recv(), Ok(Input::Transfer { op: OpId(1), event: TransferEvent::Done }));
    assert_eq!(reports.running(), 1);
    second.event(TransferEvent::Progress { bytes: 1 });
    assert!(receiver.try_recv().is_ok(), "the other one goes on");
}

#[tokio::test]
async fn dropping_the_reports_stops_the_operations() {
    let (inputs, _receiver) = Inputs::channel();
    let reports = Reports::new(inputs);
    let (sender, receiver) = oneshot::channel::<()>();
    reports.start(OpId(1), lost, |report| async move {
        std::future::pending::<()>().await;
        drop((report, sender));
    });
    drop(reports);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), receiver).await;
    assert!(ended.expect("the task ends").is_err(), "the task was dropped, and its sender with it");
}

#[tokio::test]
async fn an_operation_that_panics_is_reported_all_the_same() {
    let (inputs, mut receiver) = Inputs::channel();
    let reports = Reports::new(inputs);
    reports.start(OpId(1), lost, |report| async move {
        let _kept = report;
        panic!("on purpose");
    });
    let input = tokio::time::timeout(std::time::Duration::from_secs(10), receiver.recv()).await;
    assert_eq!(input.expect("an input in time"), Some(lost(OpId(1))));
    assert_eq!(reports.running(), 0);
}
